"""Reads of a client that may be answered from its cache."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pgprog.cache.advice import Advice
from pgprog.cache.fence import Cache
from pgprog.cache.reader import Reader
from pgprog.cache.shelves import Shelf
from pgprog.cache.snapshots import Snapshot
from pgprog.cache.stream import PUBLISHED
from pgprog.client.background import running
from pgprog.client.cache_figures import cache_samples
from pgprog.client.entry_reading import entry_from, process_from
from pgprog.client.freshness import ANYTHING, NO_EVENTS, Range, Wanted
from pgprog.client.memory import Memory, TooSoon
from pgprog.namespace import Namespace
from pgprog.store.beats import Beats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pgprog.cache.entries import Entry, EventRow, Key
    from pgprog.cache.fills import Fill
    from pgprog.config import CacheSettings
    from pgprog.metrics import Sample
    from pgprog.model import Process
    from pgprog.replication.shared import Feed
    from pgprog.store.client_store import ClientStore

_WINDOW = 50


def enabled(cache: Mapping[str, CacheSettings] | None) -> dict[str, CacheSettings]:
    """Return those settings under which something is cached."""
    return {name: each for name, each in (cache or {}).items() if each.enabled}


class Found(NamedTuple):
    """What is known of a process: None that there is none; *lag* is None if it was read now."""

    entry: Entry | None
    lag: float | None


class CachedReads(Memory):
    """Serves the namespaces in *settings* from `cache`, which a reader keeps true.

    It remembers what this client wrote and read, so that no later read is older.
    """

    def __init__(self, settings: Mapping[str, CacheSettings], store: ClientStore) -> None:
        super().__init__(store)
        self.cache = Cache(
            {
                name: Shelf(
                    ttl=each.ttl.total_seconds(),
                    max_bytes=each.max_bytes,
                    max_lag=each.max_lag.total_seconds(),
                )
                for name, each in settings.items()
            },
            window=_WINDOW,
        )
        self._began_at = time.monotonic()
        self._reader: Reader | None = None
        self._waits = {name: each.wait.total_seconds() for name, each in settings.items()}
        self._flights: dict[Key, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def follow(self, feed: Feed, direct_dsn: str, *, name: str) -> AsyncIterator[None]:
        """Listen to *feed* for as long as the block lasts; nothing here waits for it."""
        beats = Beats(direct_dsn, name=name)
        self._reader = Reader(self.cache, beats, reopen=feed.reopen)
        try:
            with feed.told_to(PUBLISHED, self._reader.hear):
                async with running("cache", self._reader.run()):
                    yield
        finally:
            self.cache.go_cold()
            await beats.close()

    def look(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        range_: Range = NO_EVENTS,
        wanted: Wanted = ANYTHING,
    ) -> Process[Any] | None:
        """Return the process if it is kept, as fresh as it is wanted; from any thread."""
        if type(process_id) is not str:
            return None
        if isinstance(namespace, Namespace):
            name, typed = namespace.name, namespace
        else:
            name, typed = namespace, None
        # Before the look: while it is looked at, the loop may find all to be newer, or lost.
        now, as_of = time.monotonic(), self.cache.lease.as_of
        at_least, max_lag, since = wanted.at_least, wanted.max_lag, wanted.since
        entry = self.cache.look(name, process_id, now, at_least, max_lag, since)
        if entry is None:
            return None
        if range_ is not NO_EVENTS and not _has(entry, range_):
            self.cache.shelves[name].hits -= 1
            return None
        self.hits += 1
        return _answer(entry, typed, range_, now - as_of)

    async def read(
        self,
        key: Key,
        namespace: Namespace[Any] | None,
        range_: Range,
        wanted: Wanted,
    ) -> tuple[bool, Process[Any] | None]:
        """Return whether this could answer, and the answer: after a wait, or by a fill."""
        found = await self.find(key, range_, wanted)
        if found is None:
            return False, None
        if found.entry is None:
            return True, None
        return True, _answer(found.entry, namespace, range_, found.lag)

    async def find(self, key: Key, range_: Range, wanted: Wanted) -> Found | None:
        """Return what is known of a process: after a wait, or by a fill; None if not enough is."""
        at_least, max_lag = wanted.at_least, wanted.max_lag
        advice = self.cache.advise(key, now=time.monotonic(), at_least=at_least, max_lag=max_lag)
        found = None
        if advice is Advice.WAIT:
            found = await self._told(key, range_, wanted)
        elif advice is Advice.JOIN:
            await asyncio.wait([self._flights[key]])  # it ends, whatever becomes of it
            found = self.kept(key, range_, wanted)
        if found is not None:
            self.cache.shelves[key[0]].hits -= 1
            self._counts[key[0], "wait"] += 1
            return found
        if advice is not Advice.FILL:
            advice = self.cache.advise(key, now=time.monotonic(), max_lag=max_lag)
        if advice not in {Advice.FILL, Advice.WAIT} or self._is_beyond(key, range_):
            return None
        try:
            entry = await self._fill(key)
        except TooSoon:
            return None
        if entry is None:
            is_answer = not at_least
        else:
            is_answer = _has(entry, range_) and entry.version >= at_least
        self._counts[key[0], "miss"] += is_answer
        return Found(entry, None) if is_answer else None

    def _is_beyond(self, key: Key, range_: Range) -> bool:
        """Return whether a fill would not have a range of events: it begins with older ones."""
        entry = self.cache.shelves[key[0]].entries.get(key[1])
        return entry is not None and not _has(entry, range_, newest=_WINDOW)

    def kept(self, key: Key, range_: Range, wanted: Wanted) -> Found | None:
        """Return what is kept of a process, as fresh as it is wanted."""
        now = time.monotonic()
        entry = self.cache.look(*key, now, wanted.at_least, wanted.max_lag, wanted.since)
        if entry is None:
            return None
        if not _has(entry, range_):
            self.cache.shelves[key[0]].hits -= 1
            return None
        return Found(entry, now - self.cache.lease.as_of)

    @property
    def server(self) -> str:
        """The run of the server that is followed, an empty text before any was."""
        return (self._reader and self._reader.server) or ""

    def serves(self, namespace: str) -> bool:
        """Return whether processes of a namespace are kept here."""
        return namespace in self.cache.shelves

    def told(self, key: Key) -> tuple[int, ...]:
        """Return transactions that readers of a process may know, and snapshots may not see."""
        return self.cache.told(key)

    async def watch(self, key: Key, call: Callable[[], None]) -> bool:
        """Call once when something is told of a process; return if no look is due before."""
        self.cache.watchers.add(key, call)
        return self.is_settled(key)

    def is_settled(self, key: Key) -> bool:
        """Return whether a read from now on shows all that was told of a process."""
        return self._may_read(self.server) and self.cache.is_settled(key, now=time.monotonic())

    def unwatch(self, key: Key, call: Callable[[], None]) -> None:
        """Do not call; harmless after it was."""
        self.cache.watchers.drop(key, call)

    def samples(self) -> list[Sample]:
        """Return what metrics show; any thread may ask."""
        connections = 0 if self._reader is None else self._reader.connections
        return cache_samples(
            self.cache, counts=self._counts, connections=connections, began_at=self._began_at
        )

    def note(self, key: Key, version: int | None = None) -> None:
        """Let no later read of a process be older than now, or than *version*: we know it."""
        if version is None:
            self.cache.note_time(key, now=time.monotonic())
        else:
            self.cache.note_version(key, version, now=time.monotonic())

    def note_any(self) -> None:
        """Let no later read be older than now: we have changed a process, we know not which."""
        self.cache.note_time_of_all(now=time.monotonic())

    def _is_of(self, server: str) -> bool:
        return self._reader is not None and server == self._reader.server

    async def _told(self, key: Key, range_: Range, wanted: Wanted) -> Found | None:
        """Return what is wanted once the stream has told it, None if that is not worth the wait."""
        told = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._waits[key[0]]):
                while self.cache.is_warm:
                    self.cache.watchers.add(key, told.set)
                    try:
                        await told.wait()
                    finally:
                        self.cache.watchers.drop(key, told.set)
                    told.clear()
                    found = self.kept(key, range_, wanted)
                    if found is not None:
                        return found
        return None

    async def _fill(self, key: Key) -> Entry | None:
        """Read a process from PostgreSQL into the cache; None when there is none."""
        told = self.cache.told(key)
        fill = self.cache.begin_fill(key, now=time.monotonic())
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._read_into(fill, told)
        finally:
            self.cache.drop_fill(fill)  # does nothing if it was ended
            flight.set_result(None)
            if self._flights.get(key) is flight:  # not that of a fill since the cache went cold
                del self._flights[key]

    async def _read_into(self, fill: Fill, told: tuple[int, ...]) -> Entry | None:
        text, server, raw = await self._store.get_fenced(*fill.key, max_events=_WINDOW)
        now, snapshot, self._read_server = time.monotonic(), Snapshot.parse(text), server
        self._check_past(told, snapshot, server)
        if raw is None:
            return None
        entry = entry_from(raw, snapshot=snapshot, as_of=fill.began_at)
        kept = self.cache.end_fill(fill, entry, now=now) if self._is_of(server) else None
        if kept is None:
            self.note(fill.key)
        # What was read has more events, where they are too large to be kept.
        return entry if kept is None or len(kept.events) < len(entry.events) else kept


def _has(entry: Entry, range_: Range, *, newest: int | None = None) -> bool:
    """Return whether every event of a range, if it exists, is kept, or is among the *newest*."""
    max_events, after, direction = range_
    forward = direction == "forward"
    return max_events == 0 or (
        direction in {"forward", "backward"}
        and entry.has_range(max_events=max_events, after=after, forward=forward, newest=newest)
    )


def events_in(entry: Entry, range_: Range) -> tuple[EventRow, ...]:
    """Return the events of a range that is kept."""
    max_events, after, direction = range_
    if max_events == 0:
        return ()
    return entry.range(max_events=max_events, after=after, forward=direction == "forward")


def _answer(
    entry: Entry, namespace: Namespace[Any] | None, range_: Range, lag: float | None
) -> Process[Any] | None:
    """Return what a caller gets of an entry, None if the events he wants are not there."""
    if range_ is NO_EVENTS:
        return process_from(entry, namespace, (), lag)
    if not _has(entry, range_):
        return None
    return process_from(entry, namespace, events_in(entry, range_), lag)
