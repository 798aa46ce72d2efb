"""A worker that lives until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pgprog import logs
from pgprog.daemon.link import Order
from pgprog.daemon.memory import wait_over
from pgprog.daemon.monitor import monitored
from pgprog.daemon.notify import Notifier
from pgprog.daemon.progress import telling
from pgprog.daemon.reader import reading
from pgprog.daemon.reload import Reload
from pgprog.engine import DEFAULT_ROLES, Pulse, Role, Upkeep, Worker
from pgprog.engine.served import check_schema
from pgprog.engine.settling import end
from pgprog.metrics import Metrics
from pgprog.store.engine_store import EngineStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from pgprog.config import Config
    from pgprog.daemon.link import Link
    from pgprog.daemon.notify import Manager
    from pgprog.namespace import Namespace

log = logs.get(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGNALLED = 128
# Of sysexits.h, EX_TEMPFAIL: try again.
RECYCLED: Final = 75
# Steps that clean up, and the way to the database; who is not done by then never will.
_AT_ONCE_SECONDS = 8.0


async def serve(
    config: Config,
    namespaces: Sequence[Namespace[Any]],
    *,
    roles: Collection[Role] = DEFAULT_ROLES,
    link: Link | None = None,
    read: Callable[[], Config] | None = None,
) -> int:
    """Serve until told to stop; then let the steps end, hand back the rest, return the exit code.

    SIGTERM and SIGINT tell to stop, and with *link* a supervisor, or its death; who has not started
    yet gives that up.  A second signal or order cancels the steps and hands all back at once, if it
    can in eight seconds; a third ends the program as it stands.  The code is 0, or 128 and the
    number of the second signal, or `RECYCLED` where worker.memory_limit was reached: a supervisor
    is asked for the stop, to be next in turn.

    At SIGHUP the configuration is read again by *read*, or comes from the supervisor.  That, or
    without one systemd, is told when the worker is ready, that it makes progress, that it stops.

    Raises:
        SchemaMismatch: The database needs `pgprog db migrate`.
        StoreUnavailable: It cannot be reached at the start; later it is waited for.
    """
    manager = Notifier(os.environ) if link is None else link
    stop = _Stop()
    work = _Work(config, namespaces, roles=roles, link=link, metrics=Metrics())
    working = asyncio.ensure_future(_serve_shown(stop, work, manager))
    stop.cancels(working)
    reload = Reload(config, namespaces, manager=manager, metrics=work.metrics)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.hear, number)
    if link is not None:
        loop.add_signal_handler(signal.SIGHUP, _leave_to_supervisor)
        link.hear(stop.obey, take=reload.take)
    elif read is not None:
        loop.add_signal_handler(signal.SIGHUP, reload.read, read)
    try:
        await asyncio.wait([working])
    finally:
        for number in (*_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)
        reload.close()
        working.cancel()
    code = 0 if stop.asked.is_set() and working.cancelled() else working.result()
    return stop.code or code


def _leave_to_supervisor() -> None:
    """Do nothing: who reads the configuration again is the supervisor."""


class _Stop:
    """What a worker was told: first to stop, then to stop at once.

    Who waits for *asked* says so by *is_heeded*: until then to stop is to start no further.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.is_heeded = False
        self.code = 0
        self._working: asyncio.Future[int] | None = None

    def cancels(self, working: asyncio.Future[int]) -> None:
        """Cancel *working* when it shall stop at once."""
        self._working = working

    def hear(self, number: signal.Signals) -> None:
        """Take a signal."""
        if not self.asked.is_set():
            log.info("stopping", signal=number.name)
            self._ask()
        else:
            self._stop_at_once(number)

    def obey(self, order: Order) -> None:
        """Take an order; it may have come as a signal already."""
        if order is Order.STOP_AT_ONCE:
            self.asked.set()
            self._stop_at_once(signal.SIGTERM)
        elif not self.asked.is_set():
            log.info("stopping")
            self._ask()

    def _ask(self) -> None:
        self.asked.set()
        if self._working is not None and not self.is_heeded:
            self._working.cancel()

    def _stop_at_once(self, number: signal.Signals) -> None:
        if self.code:
            os._exit(self.code)
        log.warning("stopping_at_once", signal=number.name)
        self.code = _SIGNALLED + number
        deadline = threading.Timer(_AT_ONCE_SECONDS, os._exit, [self.code])
        deadline.daemon = True
        deadline.start()
        if self._working is not None:
            self._working.cancel()


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker program is to do."""

    config: Config
    namespaces: Sequence[Namespace[Any]]
    _: KW_ONLY
    roles: Collection[Role]
    link: Link | None
    metrics: Metrics


async def _serve_shown(stop: _Stop, work: _Work, manager: Manager) -> int:
    view = None if work.link is None else work.link.view
    with monitored(work.config, work.metrics, roles=work.roles, view=view):
        return await _serve_until(stop, work, manager)


async def _serve_until(stop: _Stop, work: _Work, manager: Manager) -> int:
    """Serve until asked to stop, or until too much memory is held; return the exit code."""
    config = work.config
    async with telling(manager, dsn=config.dsn) as begin, _all_working(work) as (failed, pulse):
        stop.is_heeded = True
        begin(pulse)
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.asked.wait())
        is_full = asyncio.ensure_future(_is_full(config.worker.memory_limit, work.link))
        try:
            await asyncio.wait([stopped, failed, is_full], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            is_full.cancel()
            manager.stopping(config.worker.stop_timeout)
        if failed.done():
            failed.result()
    return RECYCLED if is_full.done() and not is_full.cancelled() else 0


async def _is_full(limit: int | None, link: Link | None) -> None:
    """Return when too much memory is held; under a supervisor never: it says whose turn it is."""
    held = await wait_over(limit)
    log.warning("memory_limit_reached", resident_bytes=held, limit_bytes=limit)
    if link is not None:
        link.tell_full()
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _all_working(work: _Work) -> AsyncIterator[tuple[asyncio.Future[None], Pulse]]:
    """Work in the block, and serve readers where that is wanted."""
    async with _working(work) as (failed, pulse):
        if Role.READER not in work.roles:
            yield failed, pulse
            return
        async with reading(work.config, work.metrics) as (served, sign):
            either = asyncio.ensure_future(_first(failed, served))
            try:
                yield either, replace(pulse, signs=(*pulse.signs, sign))
            finally:
                either.cancel()


async def _first(*parts: asyncio.Future[None]) -> None:
    """Wait for a part to fail, and raise why."""
    ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    for each in ended:
        each.result()


@contextlib.asynccontextmanager
async def _working(work: _Work) -> AsyncIterator[tuple[asyncio.Future[None], Pulse]]:
    """Work in the block; give what ends only when the work fails, and signs of life."""
    config, roles = work.config, work.roles
    if Role.STEPS in roles:
        on_registered = None if work.link is None else work.link.tell_worker
        async with Worker(
            config, work.namespaces, roles=roles, on_registered=on_registered, metrics=work.metrics
        ) as worker:
            failed = asyncio.ensure_future(worker.wait_failed())
            try:
                yield failed, worker.pulse
            finally:
                failed.cancel()
        return
    store = EngineStore(config.dsn, name="pgprog upkeep", metrics=work.metrics)
    await check_schema(store)
    # Never idle: what other programs do, by which queues fill, is not seen here.
    upkeep = Upkeep(store, config=config, roles=roles, wake=lambda: None, is_busy=lambda: True)
    running = asyncio.create_task(upkeep.run())
    work.metrics.parts.phase = "running"
    try:
        yield running, Pulse(signs=upkeep.signs)
    finally:
        work.metrics.parts.phase = "draining"
        try:
            await end(running)
        finally:
            await store.close()
