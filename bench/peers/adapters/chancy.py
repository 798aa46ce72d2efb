"""Chancy: claims in batches, sends what ended every so often, woken by NOTIFY."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chancy import Chancy, Queue, Worker
from chancy import Job as Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_CONCURRENCY = 1000
_SEND_EVERY_SECONDS = 0.05  # 1 by default
_BATCH = 5000


class _Running:
    """Where the job of the worker is: what is queued names a function, and nothing else."""

    job: Job


async def tick(**args: object) -> None:
    """Run; queued by its name."""
    await _Running.job.run(args)


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Migrate, and declare the queue."""
    async with Chancy(dsn) as chancy:
        await chancy.migrate()
        queue = Queue(
            "default",
            concurrency=_CONCURRENCY,
            executor=Chancy.Executor.Async,
            eager_polling=True,
            polling_interval=1,
        )
        await chancy.declare(queue)


class _Producer:
    def __init__(self, chancy: Chancy) -> None:
        self._chancy = chancy

    async def one(self, args: Args) -> None:
        await self._chancy.push(_row(args, at=None))

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        rows = [_row(args, at=at) for args in batch]
        async for _ in self._chancy.push_many(rows, batch_size=_BATCH):
            pass


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give an open instance."""
    async with _chancy(dsn, connections=2) as chancy:
        yield _Producer(chancy)


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""
    _Running.job = job
    await job.open()
    async with _chancy(dsn, connections=6) as chancy:
        worker = Worker(chancy, register_signal_handlers=False)
        worker.send_outgoing_interval = _SEND_EVERY_SECONDS
        async with worker:
            await asyncio.Event().wait()


def _chancy(dsn: str, *, connections: int) -> Chancy:
    return Chancy(dsn, min_connection_pool_size=connections, max_connection_pool_size=connections)


def _row(args: Args, *, at: float | None) -> Row:
    later = {} if at is None else {"scheduled_at": datetime.fromtimestamp(at, UTC)}
    return Row(func=f"{__name__}.tick", kwargs=args, **later)
