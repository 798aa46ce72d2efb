"""Reads of a client that may be answered from its cache."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgprog.cache.advice import Advice
from pgprog.cache.fence import Cache
from pgprog.cache.reader import Reader
from pgprog.cache.recent import unseen_by
from pgprog.cache.shelves import Shelf
from pgprog.cache.snapshots import Snapshot
from pgprog.cache.stream import PUBLISHED
from pgprog.client.background import running
from pgprog.client.cache_figures import cache_samples
from pgprog.client.entry_reading import entry_from, process_from
from pgprog.client.freshness import ANYTHING, NO_EVENTS, Range, Wanted
from pgprog.namespace import Namespace
from pgprog.store.beats import Beats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pgprog.cache.entries import Entry, Key
    from pgprog.cache.fence import Fill
    from pgprog.config import CacheSettings
    from pgprog.metrics import Sample
    from pgprog.model import Process
    from pgprog.replication.shared import Feed
    from pgprog.store.client_store import ClientStore

_WINDOW = 50
_MOST_TASKS = 10_000


class TooSoon(Exception):  # noqa: N818 - what happened; it never leaves the client
    """A snapshot does not see yet what readers of this client may have seen."""


def enabled(cache: Mapping[str, CacheSettings] | None) -> dict[str, CacheSettings]:
    """Return those settings under which something is cached."""
    return {name: each for name, each in (cache or {}).items() if each.enabled}


class CachedReads:
    """Serves the namespaces in *settings* from `cache`, which a reader keeps true.

    It remembers what this client wrote and read, so that no later read is older.
    """

    def __init__(self, settings: Mapping[str, CacheSettings], store: ClientStore) -> None:
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
        self.hits = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._began_at = time.monotonic()
        self._reader: Reader | None = None
        self._waits = {name: each.wait.total_seconds() for name, each in settings.items()}
        self._store = store
        self._flights: dict[Key, asyncio.Future[None]] = {}
        self._asked: OrderedDict[int, Key] = OrderedDict()

    @asynccontextmanager
    async def follow(self, feed: Feed, direct_dsn: str, *, name: str) -> AsyncIterator[None]:
        """Listen to *feed* for as long as the block lasts; nothing here waits for it."""
        beats = Beats(direct_dsn, publications=PUBLISHED.publications, name=name)
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
        now = time.monotonic()
        entry = self.cache.look(name, process_id, now, wanted.at_least, wanted.max_lag)
        if entry is None:
            return None
        self.hits += 1
        return _answer(entry, typed, range_, now - self.cache.lease.as_of)

    async def read(
        self,
        key: Key,
        namespace: Namespace[Any] | None,
        range_: Range,
        wanted: Wanted,
    ) -> tuple[bool, Process[Any] | None]:
        """Return whether this could answer, and the answer: after a wait, or by a fill."""
        at_least, max_lag = wanted.at_least, wanted.max_lag
        advice = self.cache.advise(key, now=time.monotonic(), at_least=at_least, max_lag=max_lag)
        found = None
        if advice is Advice.WAIT:
            found = await self._told(key, namespace, range_, wanted)
        elif advice is Advice.JOIN:
            await asyncio.wait([self._flights[key]])  # it ends, whatever becomes of it
            found = self.look(namespace or key[0], key[1], range_, wanted)
        if found is not None:
            self.cache.shelves[key[0]].hits -= 1
            self._counts[key[0], "wait"] += 1
            return True, found
        if advice is not Advice.FILL:
            advice = self.cache.advise(key, now=time.monotonic(), max_lag=max_lag)
        if advice not in {Advice.FILL, Advice.WAIT}:
            return False, None
        try:
            entry = await self._fill(key)
        except TooSoon:
            return False, None
        if entry is None:
            return self._filled(key, is_answer=not at_least), None
        found = _answer(entry, namespace, range_, None)
        is_answer = found is not None and found.version >= at_least
        return self._filled(key, is_answer=is_answer), found

    def pass_by(self, namespace: str) -> None:
        """Note that a read goes to PostgreSQL and past the cache."""
        if namespace in self.cache.shelves:
            self._counts[namespace, "bypass"] += 1

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

    def remember(self, task_id: int, key: Key) -> None:
        """Remember whose a task is that this client has asked for."""
        self._asked[task_id] = key
        if len(self._asked) > _MOST_TASKS:
            self._asked.popitem(last=False)

    def process_of(self, task_id: int) -> Key | None:
        """Return whose a task is that this client has asked for, None if it is another's."""
        return self._asked.pop(task_id, None)

    async def read_past(self, key: Key, range_: Range, told: tuple[int, ...]) -> bytes | None:
        """Return a process from PostgreSQL, as raw JSON, in a snapshot that sees *told*.

        Raises:
            TooSoon: It does not yet.
        """
        snapshot, server, raw = await self._store.get_fenced(*key, **range_._asdict())
        self.note(key)
        self._check_past(told, Snapshot.parse(snapshot), server)
        return raw

    def _check_past(self, told: tuple[int, ...], snapshot: Snapshot, server: str) -> None:
        is_same = self._reader is not None and server == self._reader.server
        if is_same and unseen_by(snapshot, told):
            raise TooSoon

    async def _told(
        self, key: Key, namespace: Namespace[Any] | None, range_: Range, wanted: Wanted
    ) -> Process[Any] | None:
        """Return what is wanted once the stream has told it, None if that is not worth the wait."""
        told = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._waits[key[0]]):
                while self.cache.is_warm:
                    self.cache.watch(key, told.set)
                    try:
                        await told.wait()
                    finally:
                        self.cache.unwatch(key, told.set)
                    told.clear()
                    found = self.look(namespace or key[0], key[1], range_, wanted)
                    if found is not None:
                        return found
        return None

    def _filled(self, key: Key, *, is_answer: bool) -> bool:
        """Count a read of PostgreSQL that went into the cache; return whether it answers."""
        self._counts[key[0], "miss"] += is_answer
        return is_answer

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
        now, snapshot = time.monotonic(), Snapshot.parse(text)
        self._check_past(told, snapshot, server)
        if raw is None:
            return None
        entry = entry_from(raw, snapshot=snapshot, as_of=fill.began_at)
        is_same = self._reader is not None and server == self._reader.server
        kept = self.cache.end_fill(fill, entry, now=now) if is_same else None
        if kept is None:
            self.note(fill.key)
        return kept or entry


def _answer(
    entry: Entry, namespace: Namespace[Any] | None, range_: Range, lag: float | None
) -> Process[Any] | None:
    """Return what a caller gets of an entry, None if the events he wants are not there."""
    if range_ is NO_EVENTS:
        return process_from(entry, namespace, (), lag)
    max_events, after, direction = range_
    if max_events == 0:
        return process_from(entry, namespace, (), lag)
    forward = direction == "forward"
    if direction not in {"forward", "backward"} or not entry.has_range(
        max_events=max_events, after=after, forward=forward
    ):
        return None
    events = entry.range(max_events=max_events, after=after, forward=forward)
    return process_from(entry, namespace, events, lag)
