"""How many calls a second get their answer from a worker in another process?"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from bench.calls import Callers
from bench.measure import Meter
from bench.question import Question
from bench.serving import workers
from bench.workload import load
from pgprog.client import AsyncClient

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena


def _ask(arena: Arena, sizes: Sizes, *, callers: int) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        with workers(dsn, count=1):
            return asyncio.run(_calls(dsn, sizes=sizes, callers=min(callers, sizes.many_processes)))


async def _calls(dsn: str, *, sizes: Sizes, callers: int) -> Sample:
    async with AsyncClient(dsn) as client:
        calling = Callers(
            client, count=callers, processes=sizes.many_processes, seconds=sizes.seconds
        )
        meter = Meter(dsn)
        with meter:
            await calling.run()
        return calling.sample(meter)


QUESTIONS = (
    Question("cross-process calls, 1 caller", "calls", functools.partial(_ask, callers=1)),
    Question("cross-process calls, 200 callers", "calls", functools.partial(_ask, callers=200)),
)
