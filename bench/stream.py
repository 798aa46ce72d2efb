"""How fast is the replication stream decoded, and how late does it tell of a commit?

The stream to decode is that of calls that were ended in batches of 200: for each an update of a
process with its state, and an event.  The columns are those that a cache keeps.

The delay is from the commit's own time, which PostgreSQL takes just before it writes the commit to
the disk, until the transaction has been read whole; 1 000 transactions a second come from pgbench.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from typing import TYPE_CHECKING, Final

import psycopg

from bench.measure import Meter, percentile
from bench.question import Question
from bench.server import program
from bench.workload import NAMESPACE, finished, load, registered
from pgprog.replication.feed import follow
from pgprog.replication.messages import Connected, Insert, Transaction, Update
from pgprog.replication.pgoutput import Decoder
from pgprog.replication.published import Published

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena

_PUBLICATIONS: Final = ("pgprog_processes", "pgprog_events")
_COLUMNS: Final = {
    "pgprog_data.processes": (
        *("namespace", "process_id", "incarnation", "status", "previous_status"),
        *("status_changed_at", "detail", "corrupted_by", "state", "state_version", "metadata"),
        *("created_at", "last_event_id", "version"),
    ),
    "pgprog_data.events": (
        *("incarnation", "event_id", "at", "task_id", "payload", "metadata", "state_version"),
    ),
}
_BATCH = 200
_PART = 1000
_EPOCH_SECONDS = 946_684_800  # committed_us begins in the year 2000
_ARRIVE: Final = (
    "\\set number random(1, 1000000000)\n"
    f"select pgprog.init('{NAMESPACE}', 'arrives-' || :client_id || '-' || :number);\n"
)


def _decode(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        messages = _stream(dsn, tasks=sizes.tasks)
        meter = Meter(dsn)
        with meter:
            rows, best = _decoded(messages, seconds=sizes.seconds)
        return meter.sample(rows, figures={"thousand rows a CPU second at best": best / 1000})


def _stream(dsn: str, *, tasks: int) -> list[bytes]:
    """Return all messages of a stream in which *tasks* calls are ended."""
    load(dsn, processes=tasks, calls=tasks)
    with psycopg.connect(dsn, autocommit=True) as connection:
        slot = "select from pg_create_logical_replication_slot('bench', 'pgoutput', true)"
        connection.execute(slot)
        asyncio.run(_end_all(dsn))
        return [
            data
            for (data,) in connection.execute(
                "select data from pg_logical_slot_get_binary_changes('bench', null, null,"
                " 'proto_version', '1', 'binary', 'true', 'publication_names', %s)",
                (",".join(_PUBLICATIONS),),
                binary=True,
            )
        ]


async def _end_all(dsn: str) -> None:
    async with registered(dsn) as (store, worker_id):
        while claimed := (await store.claim(worker_id, _BATCH, held={})).tasks:
            batch = [finished(each) for each in claimed]
            await store.complete(worker_id, batch, chains=[False] * len(batch))


def _decoded(messages: list[bytes], *, seconds: float) -> tuple[int, float]:
    """Decode all again and again; return how many rows, and those a CPU second at best.

    At best of parts that take a few milliseconds: a core that others share is slower by half.
    """
    rows, best, began_at = 0, 0.0, time.perf_counter()
    size = min(_PART, len(messages))
    while time.perf_counter() - began_at < seconds:
        decode = Decoder(_COLUMNS).decode
        for part in range(0, len(messages) - size + 1, size):
            rows_before, cpu_before = rows, time.process_time()
            for message in messages[part : part + size]:
                kind = type(decode(message))
                rows += kind is Insert or kind is Update
            best = max(best, (rows - rows_before) / (time.process_time() - cpu_before))
    return rows, best


def _delay(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=1)
        meter = Meter(dsn)
        with meter:
            delays = asyncio.run(_told(dsn, seconds=max(1.0, sizes.seconds)))
        figures = {
            "p50 ms": 1000 * percentile(delays, 0.5),
            "p99 ms": 1000 * percentile(delays, 0.99),
            "p99.9 ms": 1000 * percentile(delays, 0.999),
        }
        return meter.sample(len(delays), figures=figures)


async def _told(dsn: str, *, seconds: float) -> list[float]:
    """Return how late each commit was told of."""
    delays: list[float] = []
    connected = asyncio.Event()

    async def hear() -> None:
        events = follow(dsn, Published(_PUBLICATIONS, _COLUMNS))
        async with contextlib.aclosing(events):
            async for event in events:
                if type(event) is Connected:
                    connected.set()
                elif type(event) is Transaction:
                    delays.append(time.time() - _EPOCH_SECONDS - event.committed_us / 1e6)

    hearing = asyncio.create_task(hear())
    await connected.wait()
    await _arrive(dsn, seconds=seconds)
    hearing.cancel()
    await asyncio.wait([hearing])
    return delays


async def _arrive(dsn: str, *, seconds: float) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_ARRIVE)
        script.flush()
        command = f"-n -M prepared -c 8 -j 1 -R 1000 -T {max(1, round(seconds))} -f".split()
        pgbench = await asyncio.create_subprocess_exec(
            program("pgbench"), *command, script.name, dsn, stdout=asyncio.subprocess.DEVNULL
        )
        await pgbench.wait()


QUESTIONS = (
    Question("decode the stream", "rows", _decode),
    Question("hear of 1 000 commits a second", "transactions", _delay),
)
