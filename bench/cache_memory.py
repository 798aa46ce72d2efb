"""What memory does a cache take while a million processes stream through it?

A program reads each of them once, with a state of 1 kB, into a cache that has room for a twentieth,
while each is written once, a thousand in a transaction: the stream tells of all.

python -m bench.cache_memory DSN COUNT    the program that reads, which prints what it took
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from bench.measure import Meter
from bench.question import Question
from pgprog import AsyncClient
from pgprog.config import CacheSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.question import Sample, Sizes
    from bench.server import Arena

_ROOT = Path(__file__).parents[1]
_NAMESPACE: Final = "streamed"
_MOST_BYTES: Final = 64 << 20
_SETTINGS = CacheSettings(enabled=True, max_bytes=_MOST_BYTES, max_lag=timedelta(seconds=10))
_CALLERS = 50
_WRITTEN_AT_ONCE = 1000
_LOOK_EVERY = 1000
_LOAD: Final = """
insert into pgprog_data.processes (
  namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at,
  state)
select %(namespace)s, 'p' || p, nextval('pgprog_data.task_ids'), 'running', now(),
  nextval('pgprog_data.versions'), now(), now(), jsonb_build_object('lines', (
    select jsonb_agg(jsonb_build_object('sku', md5(p::text || l), 'quantity', l, 'price', '12.50'))
    from generate_series(1, 12) as l))
from generate_series(0, %(processes)s - 1) as p
"""
_WRITE: Final = """
update pgprog_data.processes as p
set version = nextval('pgprog_data.versions'), changed_at = now()
from generate_series(%(first)s::integer, %(first)s::integer + %(count)s::integer - 1) as n
where p.namespace = %(namespace)s and p.process_id = 'p' || n
"""


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pgprog_engine._create_namespace(%s, '{}')", (_NAMESPACE,))
        connection.execute(_LOAD, {"namespace": _NAMESPACE, "processes": sizes.crowd})
        command = [sys.executable, "-m", "bench.cache_memory", dsn, str(sizes.crowd)]
        meter = Meter(dsn)
        with (
            meter,
            subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as reading,
        ):
            for first in range(0, sizes.crowd, _WRITTEN_AT_ONCE):
                values = {"first": first, "count": _WRITTEN_AT_ONCE, "namespace": _NAMESPACE}
                connection.execute(_WRITE, values)
            printed, _ = reading.communicate()
        if reading.returncode:
            msg = f"the program that reads ended with {reading.returncode}"
            raise RuntimeError(msg)
        return meter.sample(sizes.crowd, figures=json.loads(printed))


async def _read(dsn: str, count: int) -> dict[str, float]:
    async with AsyncClient(dsn, cache={_NAMESPACE: _SETTINGS}) as client:
        async with asyncio.timeout(30):
            while not await _is_hit(client, 0):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
        gc.collect()
        before = most = _resident()
        for first in range(0, count, _LOOK_EVERY):
            numbers = iter(range(first, min(first + _LOOK_EVERY, count)))
            await asyncio.gather(*(_take(client, numbers) for _ in range(_CALLERS)))
            most = max(most, _resident())
        last = range(max(0, count - _LOOK_EVERY), count)
        hits = sum([await _is_hit(client, number) for number in last])
    grown = most - before
    return {
        "grown MB": grown / (1 << 20),
        "x max_bytes": grown / _MOST_BYTES,
        "hits of the last 1000": hits,
    }


async def _take(client: AsyncClient, numbers: Iterator[int]) -> None:
    for number in numbers:
        await client.get(_NAMESPACE, f"p{number}")


async def _is_hit(client: AsyncClient, number: int) -> bool:
    process = await client.get(_NAMESPACE, f"p{number}")
    return process is not None and process.source == "cache"


def _resident() -> int:
    """Return the bytes of this program that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


QUESTIONS = (Question("a million processes through a cache", "reads", _ask, is_long=True),)

if __name__ == "__main__":
    print(json.dumps(asyncio.run(_read(sys.argv[1], int(sys.argv[2])))))
