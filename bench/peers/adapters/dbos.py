"""DBOS: workflows in threads of the program, from a queue that is polled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy
from dbos import DBOS, DBOSClient

from bench.peers.job import OWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from bench.peers.job import Args, Job

_QUEUE = "ticks"
_AT_ONCE = 1000
_POLL_SECONDS = 0.02  # 1 by default
_CONNECTIONS = 20
_THREADS = 16


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Launch once: that makes the schema and the queue."""
    await asyncio.to_thread(_launch, dsn, lambda _: None)
    await asyncio.to_thread(DBOS.destroy)


class _Producer:
    def __init__(self, client: DBOSClient, engine: sqlalchemy.Engine) -> None:
        self._client = client
        self._engine = engine

    async def one(self, args: Args) -> None:
        await asyncio.to_thread(self._client.enqueue, _options(None), args)

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        await asyncio.to_thread(self._in_one_transaction, batch, at)

    def _in_one_transaction(self, batch: Sequence[Args], at: float | None) -> None:
        with self._engine.begin() as connection:
            for args in batch:
                self._client.enqueue_in_transaction(connection, _options(at), args)


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give a client, and an engine for many in one transaction."""
    client = DBOSClient(
        system_database_url=_url(dsn),
        application_name="bench",
        system_database_pool_size=_CONNECTIONS,
    )
    yield _Producer(client, sqlalchemy.create_engine(_url(dsn)))


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""

    def run(args: Args) -> None:
        job.run_blocking(args)
        if job.kind == OWN:
            DBOS.set_event("state", json.loads(job.payloads.state))
            DBOS.write_stream("events", json.loads(job.payloads.event))

    job.open_blocking()
    await asyncio.to_thread(_launch, dsn, run)
    await asyncio.Event().wait()


def _launch(dsn: str, run: Callable[[Args], None]) -> None:
    config = {
        "name": "bench",
        "system_database_url": _url(dsn),
        "sys_db_pool_size": _CONNECTIONS,
        "max_executor_threads": _THREADS,
        "log_level": "ERROR",
        "application_version": "v1",
        "executor_id": str(os.getpid()),
    }
    DBOS(config=config)

    @DBOS.workflow(name="tick")
    def tick(args: Args) -> None:
        run(args)

    DBOS.launch()
    DBOS.register_queue(
        _QUEUE,
        worker_concurrency=_AT_ONCE,
        polling_interval_sec=_POLL_SECONDS,
        on_conflict="always_update",
    )


def _options(at: float | None) -> dict[str, object]:
    options: dict[str, object] = {"workflow_name": "tick", "queue_name": _QUEUE}
    if at is not None:
        options["delay_seconds"] = max(0.001, at - time.time())
    return options


def _url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://")
