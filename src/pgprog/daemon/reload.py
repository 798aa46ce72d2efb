"""A configuration that is read again while a worker runs."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

from pgprog import logs
from pgprog.config.schema import to_plain
from pgprog.config.stored import differences
from pgprog.daemon import apply
from pgprog.errors import ConfigError, PgprogError, SettingsMoved
from pgprog.store.faults import DataFault, RolledBack
from pgprog.store.operator_store import OperatorStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pgprog.config import Config
    from pgprog.daemon.notify import Manager
    from pgprog.metrics import Metrics
    from pgprog.namespace import Namespace

log = logs.get(__name__)

# Another worker of the same configuration may be at it: then the second look finds nothing to do.
_TRIES = 3


class Reload:
    """Takes over what a running worker can: its log level, and the settings of its namespaces.

    Those go into the database, which workers obey.  What needs another start is logged by name.
    *manager* is told when it begins and when it is done, *metrics* what the file says by now.
    """

    def __init__(
        self,
        config: Config,
        namespaces: Sequence[Namespace[Any]],
        *,
        manager: Manager,
        metrics: Metrics,
    ) -> None:
        self._manager = manager
        self._metrics = metrics
        self._config = config
        self._namespaces = namespaces
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, read: Callable[[], Config]) -> None:
        """Read the configuration again, and take it over if it has no faults."""
        self._background(self._read(read))

    def take(self, config: Config) -> None:
        """Take over what somebody else has read and checked."""
        self._background(self._take(config))

    def close(self) -> None:
        """Leave off what is being done."""
        for task in self._tasks:
            task.cancel()

    async def _read(self, read: Callable[[], Config]) -> None:
        config = read_again(read)
        if config is not None:
            await self._take(config)

    async def _take(self, config: Config) -> None:
        async with self._turn:
            logs.set_level(config.log.level)
            if left := needs_start(self._config, config):
                log.warning("reload_needs_start", settings=left)
            try:
                changed = await self._apply(config)
            except (ConfigError, DataFault, PgprogError, RolledBack) as e:
                log.error("reload_failed", detail=str(e))  # noqa: TRY400 - the message says it all
                return
            log.info("reloaded", log_level=config.log.level, namespaces=changed)

    async def _apply(self, config: Config) -> list[str]:
        """Give the namespaces of this worker the settings of *config*; return which had others."""
        namespaces = [
            each.with_settings(config.namespaces[each.name].over(each.original.settings))
            for each in self._namespaces
            if each.name in config.namespaces
        ]
        for each in namespaces:
            self._metrics.settings.say(each.name, each.settings)
        if not namespaces:
            return []
        store = OperatorStore(
            self._config.dsn,
            size=1,
            checkout_timeout=self._config.pool.checkout_timeout,
            name="pgprog reload",
        )
        try:
            await store.open()
            return await _applied(store, namespaces)
        finally:
            await store.close()

    async def _told(self, work: Awaitable[None]) -> None:
        self._manager.reloading()
        try:
            await work
        finally:
            self._manager.reloaded()

    def _background(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.create_task(self._told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def read_again(read: Callable[[], Config]) -> Config | None:
    """Return the configuration, or None after its faults were logged: the old one stays."""
    try:
        return read()
    except ConfigError as e:
        log.error("reload_refused", detail=str(e))  # noqa: TRY400 - the message says it all
        return None


def needs_start(old: Config, new: Config) -> list[str]:
    """Return the paths of what differs and is read at the start only."""
    return [each.path for each in differences(_at_start(old), _at_start(new))]


def _at_start(config: Config) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(config)  # type: ignore[assignment] # of a dataclass
    del plain["log"]["level"]
    plain["namespaces"] = {
        name: {"handlers": section.handlers} for name, section in config.namespaces.items()
    }
    return plain


async def _applied(store: OperatorStore, namespaces: Sequence[Namespace[Any]]) -> list[str]:
    reason = f"SIGHUP, worker {socket.gethostname()}:{os.getpid()}"
    for tries_left in reversed(range(_TRIES)):
        planned = await apply.plan(store, namespaces)
        if not planned:
            break
        try:
            await apply.make(store, planned, reason=reason)
        except SettingsMoved:
            if not tries_left:
                raise
            continue
        return [each.namespace for each in planned]
    return []
