"""How many calls a second does a program answer that is client and worker in one?

Callers ask again at once: the question is what the engine can do, not how it does at a rate.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from typing import TYPE_CHECKING

from bench.measure import Meter, percentile
from bench.question import Question
from bench.workload import NAMESPACE, NOTE, counters, load, process_ids
from pgprog.client import Engine
from pgprog.config import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.question import Sample, Sizes
    from bench.server import Arena
    from pgprog.client import AsyncClient

_ARGS = {"note": NOTE}


class Callers:
    """So many callers, each with its own processes, until *seconds* are over."""

    def __init__(self, client: AsyncClient, *, count: int, processes: int, seconds: float) -> None:
        self.latencies: list[float] = []
        self._client = client
        self._count = count
        self._ids = process_ids(processes)
        self._seconds = seconds
        self._keys: Iterator[str] | None = None

    def use_keys(self) -> None:
        """Give each call an idempotency key of its own."""
        self._keys = (f"key-{number:012}-{'k' * 16}" for number in itertools.count())

    async def run(self) -> None:
        """Call until the time is over."""
        self._until = time.perf_counter() + self._seconds
        await asyncio.gather(*(self._call(number) for number in range(self._count)))

    async def _call(self, number: int) -> None:
        own = itertools.cycle(self._ids[number :: self._count])
        began_at = time.perf_counter()
        while began_at < self._until:
            key = next(self._keys) if self._keys else None
            await self._client.call(NAMESPACE, next(own), _ARGS, name="count", idempotency_key=key)
            ended_at = time.perf_counter()
            self.latencies.append(ended_at - began_at)
            began_at = ended_at

    def sample(self, meter: Meter) -> Sample:
        """Return what they saw, within the block that *meter* measured."""
        figures = {
            "p50 ms": 1000 * percentile(self.latencies, 0.5),
            "p99 ms": 1000 * percentile(self.latencies, 0.99),
        }
        if self._count == 1:
            figures["call ms"] = figures["p50 ms"]  # also given in commits
        return meter.sample(len(self.latencies), figures=figures)


def _ask(arena: Arena, sizes: Sizes, *, callers: int, keyed: bool) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        return asyncio.run(
            _calls(dsn, sizes=sizes, callers=min(callers, sizes.many_processes), keyed=keyed)
        )


async def _calls(dsn: str, *, sizes: Sizes, callers: int, keyed: bool) -> Sample:
    async with Engine(dsn, [counters()], worker=WorkerConfig(concurrency=400)) as engine:
        calling = Callers(
            engine, count=callers, processes=sizes.many_processes, seconds=sizes.seconds
        )
        if keyed:
            calling.use_keys()
        meter = Meter(dsn)
        with meter:
            await calling.run()
        return calling.sample(meter)


def _question(name: str, *, callers: int, keyed: bool) -> Question:
    return Question(name, "calls", functools.partial(_ask, callers=callers, keyed=keyed))


QUESTIONS = (
    _question("in-process calls, 1 caller", callers=1, keyed=False),
    _question("in-process calls, 1 caller, keys", callers=1, keyed=True),
    _question("in-process calls, 200 callers", callers=200, keyed=False),
    _question("in-process calls, 200 callers, keys", callers=200, keyed=True),
)
