"""pgprog, asked what its peers are asked: a job is a notify to a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bench.peers.job import BY_HAND, OWN, WRITE
from bench.workload import NAMESPACE, Counter, load, process_id
from pgprog import AsyncClient, Intent, Namespace, Step
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker
from pgprog.model import Request
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_CONCURRENCY = 400


async def install(dsn: str, options: dict[str, Any]) -> None:
    """Migrate, and make the processes that jobs go to."""
    await asyncio.to_thread(migrate, dsn)
    await asyncio.to_thread(load, dsn, processes=options["processes"])


class _Producer:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def one(self, args: Args) -> None:
        await self._client.submit("notify", NAMESPACE, _process_id(args), args, name="tick")

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        run_at = None if at is None else datetime.fromtimestamp(at, UTC)
        requests = [
            Request("notify", NAMESPACE, _process_id(args), args, name="tick", run_at=run_at)
            for args in batch
        ]
        for each in await self._client.submit_many(requests):
            if isinstance(each, Exception):
                raise each


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give a client."""
    async with AsyncClient(dsn) as client:
        yield _Producer(client)


async def work(dsn: str, job: Job) -> None:
    """Serve until cancelled."""
    config = Config(dsn=dsn, worker=WorkerConfig(concurrency=_CONCURRENCY))
    async with Worker(config, [_namespace(job)]):
        await asyncio.Event().wait()


def _namespace(job: Job) -> Namespace[Counter]:
    ticking = Namespace(NAMESPACE, state=Counter)

    @ticking.notify
    async def tick(step: Step[Counter], i: int, note: str) -> Intent[Counter] | None:
        job.begin({"i": i})
        if job.kind == OWN:
            return Intent(state=Counter(step.state.count + 1), events=[{"counted": note}])
        if job.kind == BY_HAND:
            async with step.transaction() as connection:
                await connection.execute(WRITE, job.values({"i": i}))
        return None

    return ticking


def _process_id(args: Args) -> str:
    return process_id(max(0, args["i"]))
