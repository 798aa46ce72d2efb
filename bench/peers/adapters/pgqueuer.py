"""PgQueuer: claims and logs in batches, on asyncpg."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_BATCH = 2000
_CONNECTIONS = 4


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Install durable tables, with the autovacuum settings that it recommends."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect(dsn)))
    await queries.install()
    await queries.optimize_autovacuum()


class _Producer:
    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def one(self, args: Args) -> None:
        await self._queries.enqueue("tick", json.dumps(args).encode(), 0)

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        later = None if at is None else [timedelta(seconds=max(0.0, at - time.time()))] * len(batch)
        payloads = [json.dumps(args).encode() for args in batch]
        await self._queries.enqueue(["tick"] * len(batch), payloads, [0] * len(batch), later)


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give its queries on one connection."""
    connection = await asyncpg.connect(dsn)
    yield _Producer(Queries(AsyncpgDriver(connection)))
    await connection.close()


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""
    pool = await asyncpg.create_pool(dsn, min_size=_CONNECTIONS, max_size=_CONNECTIONS)
    queue = PgQueuer(AsyncpgPoolDriver(pool))

    @queue.entrypoint("tick")
    async def tick(row: Any) -> None:  # noqa: ANN401 - the peer's type
        await job.run(json.loads(row.payload))

    await job.open()
    await queue.run(batch_size=_BATCH)
