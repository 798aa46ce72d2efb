"""What do calls notice of a neighbour: another namespace with a million tasks that wait?

Calls arrive at a fixed rate, whether those before them were answered or not, first with nothing
beside them and then while a worker drains the neighbour.  The latency is from when a call should
have been sent.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter, percentile
from bench.question import Question
from bench.serving import workers
from bench.workload import ARGS, NAMESPACE, NOTE, STATE, load, process_ids
from pgprog.client import AsyncClient

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena

CROWD = "crowd"
_CALLS_A_SECOND = 50
_PROCESSES = 20_000
# A million requests would take a minute: these are the rows that they leave.
_MAKE_CROWD = """
insert into pgprog_data.processes (
  namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at,
  state)
select %(namespace)s, 'p' || p, nextval('pgprog_data.task_ids'), 'running', now(),
  nextval('pgprog_data.versions'), now(), now(), %(state)s
from generate_series(0, %(processes)s - 1) as p;
insert into pgprog_data.queue (
  task_id, namespace, process_id, incarnation, type, name, status, due_at, rank, created_at, args)
select nextval('pgprog_data.task_ids'), p.namespace, p.process_id, p.incarnation, 'call', 'count',
  'w', now(), now(), now(), %(args)s
from generate_series(0, (%(tasks)s - 1) / %(processes)s) as n, pgprog_data.processes as p
where p.namespace = %(namespace)s;
"""


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.few_processes)
        with workers(dsn, count=1, namespaces=[NAMESPACE, CROWD]):
            return asyncio.run(_measure(dsn, sizes=sizes))


async def _measure(dsn: str, *, sizes: Sizes) -> Sample:
    async with AsyncClient(dsn) as client:
        alone = await _arrive(client, sizes=sizes)
        _make_crowd(dsn, tasks=sizes.crowd)
        meter = Meter(dsn)
        with meter:
            beside = await _arrive(client, sizes=sizes)
        left = _waiting(dsn)
        figures = {
            "p50 ms alone": 1000 * percentile(alone, 0.5),
            "p99 ms alone": 1000 * percentile(alone, 0.99),
            "p50 ms": 1000 * percentile(beside, 0.5),
            "p99 ms": 1000 * percentile(beside, 0.99),
            "neighbour left": left,
            "neighbour ends/s": (sizes.crowd - left) / meter.seconds,
        }
        return meter.sample(len(beside), figures=figures)


async def _arrive(client: AsyncClient, *, sizes: Sizes) -> list[float]:
    """Return the latencies of calls that arrive at a fixed rate."""
    ids = process_ids(sizes.few_processes)
    latencies: list[float] = []

    async def call(number: int) -> None:
        due_at = began_at + number / _CALLS_A_SECOND
        await asyncio.sleep(due_at - time.perf_counter())
        await client.call(NAMESPACE, ids[number % len(ids)], {"note": NOTE}, name="count")
        latencies.append(time.perf_counter() - due_at)

    began_at = time.perf_counter()
    count = max(1, int(4 * sizes.seconds * _CALLS_A_SECOND))
    await asyncio.gather(*(call(number) for number in range(count)))
    return latencies


def _make_crowd(dsn: str, *, tasks: int) -> None:
    values = {
        "namespace": CROWD,
        "processes": min(tasks, _PROCESSES),
        "tasks": tasks,
        "state": STATE.decode(),
        "args": ARGS.decode(),
    }
    with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(_MAKE_CROWD, values)


def _waiting(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select count(*) from pgprog_data.queue where namespace = %s", (CROWD,)
        ).fetchone()
    return int(row[0]) if row else 0


QUESTIONS = (Question("calls beside a full namespace", "calls", _ask, is_long=True),)
