"""What does a read from memory cost, beside the same read from PostgreSQL?

Processes with a state of 1 kB in lines, read through `await client.get` by one caller, popular
ones more often than others (zipf), from a warm cache while the stream is followed.  A hit costs
CPU of one core; a read of PostgreSQL costs this program and the server.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import psycopg

from bench.measure import Meter, cpu_of_family
from bench.question import Question
from bench.server import postmaster_pid
from pgprog import AsyncClient
from pgprog.config import CacheSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.question import Sample, Sizes
    from bench.server import Arena

_NAMESPACE: Final = "cached"
_READS = 500
_STEP = 1000
_SETTINGS = CacheSettings(enabled=True, max_bytes=1 << 30, max_lag=timedelta(seconds=10))
LOAD: Final = """
select pgprog.put(jsonb_build_object(
  'namespace', %(namespace)s::text, 'process_id', 'o-' || n, 'status', 'running',
  'state', jsonb_build_object('customer', 'customer ' || n, 'paid', '12.50', 'lines', (
    select jsonb_agg(
      jsonb_build_object('sku', md5(n::text || l), 'quantity', l, 'price', '12.50'))
    from generate_series(1, 12) as l))))
from generate_series(1, %(processes)s) as n
"""


@dataclass
class _Cost:
    """Gets, and the CPU seconds of this program and of the server that they took."""

    gets: int = 0
    hits: int = 0
    cpu: float = 0.0

    @property
    def microseconds(self) -> float:
        return 1e6 * self.cpu / self.gets


def _get(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        processes = 5 * sizes.many_processes
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select pgprog_engine._create_namespace(%s, '{}')", (_NAMESPACE,))
            connection.execute(LOAD, {"namespace": _NAMESPACE, "processes": processes})
        meter = Meter(dsn)
        with meter:
            hits, looks, reads = asyncio.run(_measured(dsn, processes, sizes=sizes))
        figures = {
            "hits of 100": 100 * hits.hits / hits.gets,
            "thousand gets a CPU second": 1 / hits.microseconds * 1000,
            "us a get": hits.microseconds,
            "us, state looked at": looks.microseconds,
            "us from PostgreSQL": reads.microseconds,
            "times dearer": reads.microseconds / hits.microseconds,
        }
        return meter.sample(hits.gets, seconds=hits.cpu, figures=figures)


async def _measured(dsn: str, processes: int, *, sizes: Sizes) -> tuple[_Cost, _Cost, _Cost]:
    weights = [*itertools.accumulate(1 / rank for rank in range(1, processes + 1))]
    ids = [f"o-{n}" for n in range(1, processes + 1)]
    random.shuffle(ids)
    keys = random.choices(ids, cum_weights=weights, k=sizes.cached_gets)
    async with AsyncClient(dsn, cache={_NAMESPACE: _SETTINGS}) as client:
        async with asyncio.timeout(30):
            while not await _is_cached(client, keys[0]):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
        for start in range(0, len(keys), 100):
            await asyncio.gather(*(client.get(_NAMESPACE, k) for k in keys[start : start + 100]))
        hits = await _hits(client, keys, seconds=sizes.seconds)
        looks = await _looks(client, keys, seconds=sizes.seconds)
        reads = await _reads(client, keys[:_READS], dsn=dsn)
    return hits, looks, reads


async def _is_cached(client: AsyncClient, key: str) -> bool:
    process = await client.get(_NAMESPACE, key)
    return process is not None and process.source == "cache"


async def _hits(client: AsyncClient, keys: Sequence[str], *, seconds: float) -> _Cost:
    cost, ends_at = _Cost(), time.perf_counter() + seconds
    for start in itertools.cycle(range(0, len(keys), _STEP)):
        hits, began_at = 0, time.process_time()
        for key in keys[start : start + _STEP]:
            process = await client.get(_NAMESPACE, key)
            hits += process is not None and process.source == "cache"
        cost.cpu += time.process_time() - began_at
        cost.gets, cost.hits = cost.gets + _STEP, cost.hits + hits
        await asyncio.sleep(0)  # a hit waits for nothing: let the stream in
        if time.perf_counter() > ends_at:
            break
    return cost


async def _looks(client: AsyncClient, keys: Sequence[str], *, seconds: float) -> _Cost:
    cost, ends_at = _Cost(), time.perf_counter() + seconds
    for start in itertools.cycle(range(0, len(keys), _STEP)):
        began_at = time.process_time()
        for key in keys[start : start + _STEP]:
            process = await client.get(_NAMESPACE, key)
            assert process is not None
            assert process.state
        cost.cpu += time.process_time() - began_at
        cost.gets += _STEP
        await asyncio.sleep(0)
        if time.perf_counter() > ends_at:
            break
    return cost


async def _reads(client: AsyncClient, keys: Sequence[str], *, dsn: str) -> _Cost:
    """Read from PostgreSQL; the CPU of its processes is counted with ours."""
    postmaster = postmaster_pid(dsn)
    began_at, before = time.process_time(), cpu_of_family(postmaster)
    for key in keys:
        await client.get(_NAMESPACE, key, cache=False)
    cpu = time.process_time() - began_at + cpu_of_family(postmaster) - before
    return _Cost(len(keys), 0, cpu)


QUESTIONS = (Question("get from memory", "gets", _get),)
