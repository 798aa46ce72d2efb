"""Oban for Python: claims in batches, acknowledges one by one, woken by NOTIFY."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from oban import Oban, worker
from oban.schema import install as install_schema
from psycopg_pool import AsyncConnectionPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_QUEUE = "default"
_LIMIT = 1000
_CONNECTIONS = 8


@worker(queue=_QUEUE)
class Tick:
    """A job; it is found by its name, and so has the running `Job` as an attribute of its class."""

    job: Job

    async def process(self, row: Any) -> None:  # noqa: ANN401 - the peer's type
        """Run."""
        await self.job.run(row.args)


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Apply its schema."""
    async with _pool(dsn, 1) as pool:
        await install_schema(pool)


class _Producer:
    def __init__(self, oban: Oban) -> None:
        self._oban = oban

    async def one(self, args: Args) -> None:
        await self._oban.enqueue(Tick.new(args))

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        later = {} if at is None else {"scheduled_at": datetime.fromtimestamp(at, UTC)}
        await self._oban.enqueue_many([Tick.new(args, **later) for args in batch])


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give an instance without queues."""
    async with _pool(dsn, 2) as pool:
        yield _Producer(Oban(pool=pool))


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""
    Tick.job = job
    await job.open()
    async with _pool(dsn, _CONNECTIONS) as pool:
        await Oban(pool=pool, queues={_QUEUE: _LIMIT}).start()
        await asyncio.Event().wait()


def _pool(dsn: str, size: int) -> AsyncConnectionPool:
    return AsyncConnectionPool(dsn, min_size=size, max_size=size, open=False)
