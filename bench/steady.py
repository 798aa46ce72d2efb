"""Are hot tables as small, and tasks as fast, at the end of ten million tasks as at the beginning?

As many tasks are under way all the time: where some have ended, as many are queued.  How long each
takes from its insert to its end is therefore how fast the worker is.  The last quarter of the tasks
is compared with the first; a table is as large as it was at most in a quarter.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from typing import TYPE_CHECKING, Final

import psycopg

from bench.measure import Meter, percentile
from bench.question import Question
from bench.workload import call_of, counters, load, process_ids, registered
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker
from pgprog.store.faults import LockTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.question import Sample, Sizes
    from bench.server import Arena
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed, Completion

_UNDER_WAY: Final = 2_000
_AT_ONCE: Final = 500
_QUARTERS: Final = 4
_LOOKS_A_QUARTER: Final = 50
# What claims and completions work in, with indexes; what has ended lies in partitions.
_HOT: Final = ["queue", "processes", "timers", "workers", "queue_sizes", "measurements"]
_SIZE: Final = """
select sum(pg_total_relation_size(format('pgprog_data.%%I', h.name)::regclass))::bigint
from unnest(%s::text[]) as h(name)
"""


class _Flow:
    """Keeps how long each of *count* tasks took, when each quarter ended, and what it found."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.moved = asyncio.Event()
        self.ends = [time.perf_counter()]
        self.sizes = [0] * _QUARTERS
        self._share = count // _QUARTERS
        self._seconds = array("f")

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return len(self._seconds)

    def tell(self, claimed: Claimed, _completion: Completion, _version: int | None) -> bool:
        """Take the end of a task; nobody here waits for it."""
        self._seconds.append(time.time() - claimed.created_at.timestamp())
        if self.ended % self._share == 0:
            self.ends.append(time.perf_counter())
        self.moved.set()
        return False

    def found(self, size: int) -> None:
        """Take what the hot tables have come to."""
        quarter = min(_QUARTERS - 1, self.ended // self._share)
        self.sizes[quarter] = max(self.sizes[quarter], size)

    def figures(self, name: str, quarter: int) -> dict[str, float]:
        """Return what is told of a quarter."""
        seconds = self._seconds[quarter * self._share : (quarter + 1) * self._share]
        return {
            f"{name} quarter a second": self._share / (self.ends[quarter + 1] - self.ends[quarter]),
            f"{name} quarter p99 ms": 1000 * percentile(seconds, 0.99),
            f"{name} quarter hot MB": self.sizes[quarter] / 1e6,
        }


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        return asyncio.run(_measure(dsn, sizes=sizes))


async def _measure(dsn: str, *, sizes: Sizes) -> Sample:
    meter = Meter(dsn)
    async with registered(dsn) as (store, _):
        flow = _Flow(sizes.steady)
        config = Config(dsn=dsn, worker=WorkerConfig(concurrency=100))
        async with Worker(config, [counters()], tell=flow.tell):
            with meter:
                await _keep_under_way(store, flow, dsn, ids=process_ids(sizes.many_processes))
    first, last = flow.figures("first", 0), flow.figures("last", _QUARTERS - 1)
    return meter.sample(flow.count, figures=first | last)


async def _keep_under_way(store: EngineStore, flow: _Flow, dsn: str, *, ids: Sequence[str]) -> None:
    """Queue tasks as others end, until all have ended; look at the tables now and then."""
    asked = look_at = 0
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as looking:
        while flow.ended < flow.count:
            flow.moved.clear()
            if flow.ended >= look_at:
                look_at += max(1, flow.count // _QUARTERS // _LOOKS_A_QUARTER)
                cursor = await looking.execute(_SIZE, (_HOT,))
                flow.found((await cursor.fetchall())[0][0])
            numbers = range(asked, min(asked + _AT_ONCE, flow.count))
            if numbers and numbers.stop - flow.ended <= _UNDER_WAY:
                requests = [call_of(ids[number % len(ids)]) for number in numbers]
                with contextlib.suppress(LockTimeout):  # vacuum may cut a table short: ask again
                    await store.start(None, 0, requests)
                    asked = numbers.stop
            else:
                await flow.moved.wait()


QUESTIONS = (Question("ten million tasks in one run", "tasks", _ask, is_long=True),)
