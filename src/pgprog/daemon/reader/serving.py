"""Serves the namespaces of a configuration whose cache is enabled, by the database's settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.cache.stream import PUBLISHED
from pgprog.client.background import running
from pgprog.client.cached_reads import CachedReads, enabled
from pgprog.config import NamespaceSettings
from pgprog.config.stored import split_known
from pgprog.daemon.reader.accepting import accept
from pgprog.daemon.reader.answering import Answerer
from pgprog.daemon.reader.place import listening
from pgprog.engine import Sign
from pgprog.errors import ConfigError, PgprogError, StoreUnavailable
from pgprog.metrics import Sample
from pgprog.replication.shared import Feed
from pgprog.store.client_store import ClientStore
from pgprog.store.engine_store import EngineStore
from pgprog.store.faults import RolledBack
from pgprog.store.probe import database_of

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Mapping

    from pgprog.config import CacheSettings, Config
    from pgprog.daemon.reader.place import Place
    from pgprog.metrics import Metrics

log = logs.get(__name__)

_NAME = "pgprog reader"
_LOOK_SECONDS = 2.0


@asynccontextmanager
async def reading(
    config: Config, metrics: Metrics
) -> AsyncIterator[tuple[asyncio.Future[None], Sign]]:
    """Serve for as long as the block lasts; give what ends only when that fails, and its sign.

    Raises:
        ConfigError: It cannot be as the configuration says.
        StoreUnavailable: There is no database.
    """
    store = EngineStore(config.dsn, name=_NAME, metrics=metrics)
    try:
        serving = Serving(config, store)
        metrics.sources.append(serving.samples)
        async with serving.begun() as task:
            yield task, serving.sign
    finally:
        await store.close()


class Serving:
    """A shared reader by *config*; *store* tells the settings that the database has."""

    def __init__(self, config: Config, store: EngineStore) -> None:
        self._config = config
        self._store = store
        self._answerer: Answerer | None = None
        self._looks = 0
        self._unheard = ""  # what was said of why nobody hears us

    @property
    def sign(self) -> Sign:
        """What shows that it makes progress: it looks for other settings."""
        return Sign(name="reader", count=lambda: self._looks, rests_seconds=2 * _LOOK_SECONDS)

    def samples(self) -> list[Sample]:
        """Return what metrics show; any thread may ask."""
        answerer = self._answerer
        if answerer is None:
            return [Sample("pgprog_reader_clients", (), 0.0)]
        found = [Sample("pgprog_reader_clients", (), float(len(answerer.clients)))]
        # Where nothing is to be kept there is no stream, and none that lags.
        return found + answerer.cached.samples() if answerer.cached.cache.shelves else found

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[asyncio.Task[None]]:
        """Serve for as long as the block lasts, as `reading` says."""
        path = _checked_path(self._config)
        mode = int(self._config.reader.mode, 8)
        settings = await self._settings()
        database = await database_of(self._config.dsn, name=_NAME)
        with listening(path, mode=mode) as place:
            log.info("reader_listening", path=str(path), namespaces=sorted(settings))
            task = asyncio.create_task(self._serve(place, settings, database))
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _serve(
        self, place: Place, settings: Mapping[str, CacheSettings], database: str
    ) -> None:
        """Serve under *settings*, then under those that come after them, and so on."""
        while True:
            try:
                async with self._served(place.listener, settings, database):
                    settings = await self._wait_other(settings, place)
            except StoreUnavailable as e:  # meanwhile who asks finds that nobody answers
                log.warning("reader_without_database", detail=str(e))
                self._looks += 1
                await asyncio.sleep(_LOOK_SECONDS)

    @asynccontextmanager
    async def _served(
        self, listener: socket.socket, settings: Mapping[str, CacheSettings], database: str
    ) -> AsyncIterator[None]:
        """Answer; when the block ends, clients find that they have to come again.

        Where nothing is to be kept they are told so, and wait for other settings on their lines.
        """
        config = self._config
        store = ClientStore(
            config.dsn,
            size=config.pool.api,
            checkout_timeout=config.pool.checkout_timeout,
            name=_NAME,
            metrics=self._store.metrics,
        )
        direct_dsn = config.direct_dsn or config.dsn
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(store.close)
            await store.open()
            cached = CachedReads(settings, store)
            if settings:
                reconnect = min(each.reconnect for each in settings.values())
                feed = Feed(direct_dsn, name=_NAME, reconnect=reconnect)
                feed.expect(PUBLISHED)
                await closing.enter_async_context(running("feed", feed.run()))
                await closing.enter_async_context(cached.follow(feed, direct_dsn, name=_NAME))
            self._answerer = Answerer(cached, database=database)
            closing.push_async_callback(self._answerer.close)
            accepting = accept(listener, self._answerer.client)
            await closing.enter_async_context(running("accepting", accepting))
            yield

    async def _wait_other(
        self, settings: Mapping[str, CacheSettings], place: Place
    ) -> Mapping[str, CacheSettings]:
        """Return the settings when they are others than these, or the socket is another."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._renewed(place):
                return settings
            try:
                found = await self._settings()
            except ConfigError as e:
                log.error("settings_refused", detail=str(e))  # noqa: TRY400 - the message says it all
                continue
            except (PgprogError, RolledBack):
                continue  # what is kept knows by itself that it grows old
            finally:
                self._looks += 1
            if found != settings:
                log.info("reader_settings_changed", namespaces=sorted(found))
                return found

    def _renewed(self, place: Place) -> bool:
        """Return whether the socket was taken away, and there is another in its place."""
        if place.is_found():
            self._unheard = ""
            return False
        try:
            place.renew()
        except ConfigError as e:
            if str(e) != self._unheard:
                log.error("reader_unheard", detail=str(e), hint=e.hint)  # noqa: TRY400 - it says it all
            self._unheard = str(e)
            return False
        log.warning("reader_socket_renewed")
        return True

    async def _settings(self) -> dict[str, CacheSettings]:
        """Return the settings under which something is kept, those of the database first."""
        configured = self._config.namespaces
        stored = await self._store.settings([*configured])
        found = {name: each.settings.cache for name, each in configured.items()}
        for name, each in stored.items():
            known, _ = split_known(json.loads(each.settings))
            where = f"the settings of {name} in the database"
            found[name] = NamespaceSettings.from_json(known, where=where).cache
        return enabled(found)


def _checked_path(config: Config) -> Path:
    if config.reader.socket is None:
        msg = "reader.socket is not set: where shall the reader listen?"
        raise ConfigError(msg, hint="such as /run/pgprog/reader.sock")
    if config.encryption.keys_file is not None:
        msg = "with encryption.keys_file nothing is kept in memory: a reader has nothing to serve"
        raise ConfigError(msg)
    return Path(config.reader.socket)
