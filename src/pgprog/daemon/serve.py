"""A worker that lives until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from pgprog import logs
from pgprog.engine import Role, Upkeep, Worker
from pgprog.store.engine_store import EngineStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from pgprog.config import Config
    from pgprog.namespace import Namespace

log = logs.get(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(
    config: Config,
    namespaces: Sequence[Namespace[Any]],
    *,
    roles: Collection[Role] = frozenset(Role),
) -> None:
    """Serve until SIGTERM or SIGINT; then let the steps end and hand back the rest.

    A second signal ends the program at once: a collector hands the rest over.

    Raises:
        SchemaMismatch: The database needs `pgprog db migrate`.
        StoreUnavailable: It cannot be reached at the start; later it is waited for.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, stop, number)
    try:
        async with _working(config, namespaces, roles) as failed:
            stopped = asyncio.ensure_future(_wait(stop))
            await asyncio.wait([stopped, failed], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if failed.done():
                failed.result()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _working(
    config: Config, namespaces: Sequence[Namespace[Any]], roles: Collection[Role]
) -> AsyncIterator[asyncio.Future[None]]:
    """Work in the block; give what ends only when the work fails."""
    if Role.STEPS in roles:
        worker = Worker(config, namespaces, roles=roles)
        async with worker:
            failed = asyncio.ensure_future(worker.wait_failed())
            try:
                yield failed
            finally:
                failed.cancel()
        return
    store = EngineStore(config.dsn, name="pgprog upkeep")
    upkeep = Upkeep(store, config=config, roles=roles, wake=lambda: None)
    running = asyncio.ensure_future(upkeep.run())
    try:
        yield running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await store.close()


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        log.warning("stopped_at_once", signal=number.name)
        os._exit(128 + number)
    log.info("stopping", signal=number.name)
    stop.set()


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
