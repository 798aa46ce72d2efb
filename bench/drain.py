"""How many ready tasks a second does one worker end: calls, calls of one process, inits?"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter
from bench.question import Question
from bench.workload import NAMESPACE, Counter, counters, load, load_inits
from pgprog import Intent, Namespace, Step
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.question import Sample, Sizes
    from bench.server import Arena
    from pgprog.store.rows import Claimed, Completion


class _Countdown:
    """Counts ends that nobody here waits for."""

    def __init__(self, count: int) -> None:
        self.is_over = asyncio.Event()
        self._left = count

    def tell(self, _claimed: Claimed, _completion: Completion, _version: int | None) -> bool:
        self._left -= 1
        if not self._left:
            self.is_over.set()
        return False


def writers() -> Namespace[Counter]:
    """Return the namespace whose handler writes a row of its own, too."""
    writing = Namespace(NAMESPACE, state=Counter)

    @writing.call
    async def count(step: Step[Counter], note: str) -> Intent[Counter, dict[str, int]]:
        number = step.state.count + 1
        async with step.transaction() as connection:
            await connection.execute("insert into written values (%s)", (number,))
        return Intent(state=Counter(number), events=[{"counted": note}], response={"count": number})

    return writing


async def drained(
    dsn: str,
    *,
    count: int,
    concurrency: int,
    namespace: Callable[[], Namespace[Counter]] = counters,
) -> Sample:
    """Let one worker end so many tasks that wait."""
    countdown = _Countdown(count)
    config = Config(dsn=dsn, worker=WorkerConfig(concurrency=concurrency))
    worker = Worker(config, [namespace()], tell=countdown.tell)
    meter = Meter(dsn)
    async with worker:
        with meter:
            ends = {
                asyncio.create_task(countdown.is_over.wait()),
                asyncio.create_task(worker.wait_failed()),
            }
            [end], rest = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for other in rest:
            other.cancel()
        end.result()
    return meter.sample(count)


def _many(arena: Arena, sizes: Sizes, *, concurrency: int = 100) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes, calls=sizes.tasks)
        return asyncio.run(drained(dsn, count=sizes.tasks, concurrency=concurrency))


def _chains(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.few_processes, calls=sizes.tasks)
        return asyncio.run(drained(dsn, count=sizes.tasks, concurrency=100))


def _hot(arena: Arena, sizes: Sizes) -> Sample:
    """Drain one process, a step after another: what a step takes is the question."""
    count = max(20, sizes.tasks // 10)
    with arena.database() as dsn:
        load(dsn, processes=1, calls=count)
        sample = asyncio.run(drained(dsn, count=count, concurrency=100))
    return replace(sample, figures={"step ms": 1000 * sample.seconds / count})


def _inits(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load_inits(dsn, processes=sizes.many_processes)
        return asyncio.run(drained(dsn, count=sizes.many_processes, concurrency=100))


def _writing(arena: Arena, sizes: Sizes) -> Sample:
    """Drain steps with a transaction each: what such a step costs is the question."""
    count = max(20, sizes.tasks // 5)
    with arena.database() as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute("create table written (number integer)")
        load(dsn, processes=count, calls=count)
        return asyncio.run(drained(dsn, count=count, concurrency=100, namespace=writers))


def _wide(arena: Arena, sizes: Sizes) -> Sample:
    return _many(arena, sizes, concurrency=400)


QUESTIONS = (
    Question("drain, one task a process", "tasks", _many),
    Question("drain, one task a process, concurrency 400", "tasks", _wide),
    Question("drain, chains of 20", "tasks", _chains),
    Question("drain, one hot process", "tasks", _hot),
    Question("drain, inits", "inits", _inits),
    Question("drain, step.transaction()", "tasks", _writing),
)
