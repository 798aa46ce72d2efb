"""What does the plain design do in batches of the same size?  Its SQL is in plain.sql."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from bench.ceiling import BATCH
from bench.measure import Meter
from bench.question import Question
from bench.workload import ARGS, EVENT, RESPONSE, STATE, process_ids
from pgprog.store.packing import bigints, jsonbs, register, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.question import Sample, Sizes
    from bench.server import Arena

_WORKER_ID: Final = 1


def make(connection: psycopg.Connection) -> None:
    """Make the tables and functions of the design."""
    register(connection)
    connection.execute((Path(__file__).parent / "plain.sql").read_bytes())


def load_queue(connection: psycopg.Connection, ids: Sequence[str]) -> None:
    """Queue a task for each process, in one statement."""
    connection.execute(
        "insert into plain.queue (task_id, process_id, args)"
        " select nextval('plain.task_ids'), x, %s::text::jsonb from unnest(%s::text[]) as x",
        (ARGS.decode(), texts(ids)),
    )


def _load(connection: psycopg.Connection, *, count: int) -> None:
    make(connection)
    ids = process_ids(count)
    connection.execute(
        "insert into plain.processes (process_id, state) select x, %s::text::jsonb"
        " from unnest(%s::text[]) as x",
        (STATE.decode(), texts(ids)),
    )
    load_queue(connection, ids)


def _drain(arena: Arena, sizes: Sizes) -> Sample:
    count = sizes.many_processes
    with arena.empty_database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        _load(connection, count=count)
        meter = Meter(dsn)
        with meter:
            ended = 0
            while ended < count:
                ended += _step(connection)
        return meter.sample(count)


def _step(connection: psycopg.Connection) -> int:
    cursor = connection.cursor(binary=True)
    claimed = cursor.execute("select * from plain.claim(%s, %s)", (_WORKER_ID, BATCH)).fetchall()
    size = len(claimed)
    done = cursor.execute(
        "select plain.complete(%s, %s, %s, %s, %s)",
        (
            _WORKER_ID,
            bigints([task_id for task_id, *_ in claimed]),
            jsonbs([STATE] * size),
            jsonbs([RESPONSE] * size),
            jsonbs([EVENT] * size),
        ),
    ).fetchone()
    if done != (size,) or not size:
        msg = f"{done} of {size} tasks were completed"
        raise RuntimeError(msg)
    return size


QUESTIONS = (Question("plain design, claim and complete by turns", "tasks", _drain),)
