"""Absurd: durable tasks in SQL functions; a step is a checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absurd_sdk import AsyncAbsurd
from psycopg import AsyncConnection

from bench.peers.job import OWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.peers.job import Args, Job

_QUEUE = "default"
_CONCURRENCY = 100
_POLL_SECONDS = 0.05  # 0.25 by default


async def install(dsn: str, _options: dict[str, Any]) -> None:
    """Apply its schema and make the queue, by its own program."""
    await asyncio.to_thread(_install, dsn)


def _install(dsn: str) -> None:
    program = str(Path(sys.executable).parent / "absurdctl")
    for arguments in (["init"], ["create-queue", _QUEUE]):
        subprocess.run(
            [program, *arguments],
            env={**os.environ, "PGDATABASE": dsn},
            check=True,
            stdout=subprocess.DEVNULL,
        )


class _Producer:
    """There is no call for many, and no time to start at: one transaction, and tasks that sleep."""

    def __init__(self, dsn: str, connection: AsyncConnection[Any]) -> None:
        self._dsn = dsn
        self._absurd = AsyncAbsurd(connection, queue_name=_QUEUE)

    async def one(self, args: Args) -> None:
        await self._absurd.spawn("tick", args, queue=_QUEUE)

    async def many(self, batch: Sequence[Args], at: float | None) -> None:
        name, more = ("tick", {}) if at is None else ("later", {"at": at})
        async with await AsyncConnection.connect(self._dsn) as connection:
            absurd = AsyncAbsurd(connection, queue_name=_QUEUE)
            for args in batch:
                await absurd.spawn(name, {**args, **more}, queue=_QUEUE)


@contextlib.asynccontextmanager
async def producer(dsn: str) -> AsyncIterator[_Producer]:
    """Give a client on one connection."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield _Producer(dsn, connection)


async def work(dsn: str, job: Job) -> None:
    """Work until cancelled."""
    absurd = AsyncAbsurd(dsn, queue_name=_QUEUE)

    @absurd.register_task(name="tick", queue=_QUEUE)
    async def tick(args: Args, context: Any) -> None:  # noqa: ANN401 - the peer's type
        await job.run(args)
        if job.kind == OWN:
            await _write(context, args, job=job)

    @absurd.register_task(name="later", queue=_QUEUE)
    async def later(args: Args, context: Any) -> None:  # noqa: ANN401 - the peer's type
        await context.sleep_until("wake", args["at"])
        await job.run(args)

    await job.open()
    await absurd.start_worker(
        concurrency=_CONCURRENCY, batch_size=_CONCURRENCY, poll_interval=_POLL_SECONDS
    )


async def _write(context: Any, args: Args, *, job: Job) -> None:  # noqa: ANN401 - the peer's type
    """Write the state as a checkpoint, and the event as one of its events."""

    async def state() -> object:
        return json.loads(job.payloads.state)

    await context.step("state", state)
    await context.emit_event(f"counted-{args['i']}", json.loads(job.payloads.event))
