"""Awa: a queue in Rust with handlers in Python, append-only segments and receipts of batches."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import awa

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_QUEUE = "default"
_AT_ONCE = 4000


@dataclass
class Tick:
    """The arguments of a job."""

    i: int
    note: str


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Migrate, and choose the engine that its README is about: migrate alone leaves the older."""
    client = awa.AsyncClient(_url(dsn))
    await client.migrate()
    await client.install_queue_storage()
    await client.close()


class _Producer:
    def __init__(self, client: awa.AsyncClient) -> None:
        self._client = client

    async def one(self, args: Args) -> None:
        await self._client.insert(Tick(**args), queue=_QUEUE)

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        later = {} if at is None else {"run_at": datetime.fromtimestamp(at, UTC)}
        ticks = [Tick(**args) for args in batch]
        await self._client.enqueue_many_copy(ticks, queue=_QUEUE, **later)


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give a client."""
    client = awa.AsyncClient(_url(dsn), max_connections=4)
    yield _Producer(client)
    await client.close()


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""
    client = awa.AsyncClient(_url(dsn), max_connections=20)

    @client.task(Tick, queue=_QUEUE)
    async def tick(row: Any) -> None:  # noqa: ANN401 - the peer's type
        await job.run({"i": row.args.i})

    await job.open()
    queue = {"name": _QUEUE, "max_workers": _AT_ONCE, "claim_batch_size": _AT_ONCE}
    await client.start([queue], poll_interval_ms=50, promote_interval_ms=100)
    await asyncio.Event().wait()


def _url(dsn: str) -> str:
    """Return the URL with a host, which it wants even where the socket's directory follows."""
    return dsn.replace("@/", "@localhost/")
