"""procrastinate: jobs in one table, fetched one by one, woken by NOTIFY."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from procrastinate import App, PsycopgConnector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_CONCURRENCY = 10


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Apply its schema."""
    app = _app(dsn, connections=1)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


class _Producer:
    def __init__(self, app: App) -> None:
        self._app = app

    async def one(self, args: Args) -> None:
        await self._app.configure_task("tick").defer_async(**args)

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        schedule_at = None if at is None else datetime.fromtimestamp(at, UTC)
        task = self._app.configure_task("tick", schedule_at=schedule_at)
        await task.batch_defer_async(*batch)


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give an open app."""
    app = _app(dsn, connections=4)
    async with app.open_async():
        yield _Producer(app)


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""
    app = _app(dsn, connections=_CONCURRENCY + 2)

    @app.task(name="tick")
    async def tick(**args: object) -> None:
        await job.run(args)

    await job.open()
    async with app.open_async():
        await app.run_worker_async(concurrency=_CONCURRENCY, install_signal_handlers=False)


def _app(dsn: str, *, connections: int) -> App:
    connector = PsycopgConnector(conninfo=dsn, min_size=connections, max_size=connections)
    return App(connector=connector)
