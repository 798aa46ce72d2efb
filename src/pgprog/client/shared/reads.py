"""Reads of a client that a shared reader may answer."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgprog.cache.floors import Floors
from pgprog.cache.lease import NEVER
from pgprog.client.background import running
from pgprog.client.entry_reading import process_told
from pgprog.client.memory import Memory
from pgprog.client.shared.line import Line
from pgprog.client.shared.wire import Question
from pgprog.metrics import Sample
from pgprog.store.probe import database_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pgprog.cache.entries import Key
    from pgprog.client.freshness import Range, Wanted
    from pgprog.client.shared.wire import Answer, Welcome
    from pgprog.model import Process
    from pgprog.namespace import Namespace
    from pgprog.store.client_store import ClientStore

_MOST_NOTED = 100_000
_MOST_UNSEEN = 10_000
_DIRECTIONS = ("forward", "backward")  # PostgreSQL has a message for others
_RESULTS = ("hit", "miss", "bypass")


class SharedReads(Memory):
    """Asks the reader at *path*; what this client knows travels with each question.

    The reader's memory is as of a time that only grows while the line holds.  So what the client
    knows from before that time is forgotten; with each new line, nothing is taken that is not known
    as of its beginning.
    """

    def __init__(self, path: str, store: ClientStore, *, dsn: str, name: str) -> None:
        super().__init__(store)
        self._dsn = dsn
        self._name = name
        self._database = ""
        self._line = Line(path, find_database=self._find_database, on_open=self._begin)
        self._namespaces: frozenset[str] = frozenset()
        self._floors: Floors[Key] = Floors()
        self._unseen: dict[Key, tuple[int, ...]] = {}
        self._server = ""

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Keep the line for as long as the block lasts; nothing here waits for it."""
        async with running("reader", self._line.run()):
            yield

    def serves(self, namespace: str) -> bool:
        """Return whether the reader serves a namespace, or the last one did."""
        return namespace in self._namespaces

    def look(self, *_: object) -> None:
        """Return None: all that is here takes a wait."""

    async def read(
        self, key: Key, namespace: Namespace[Any] | None, range_: Range, wanted: Wanted
    ) -> tuple[bool, Process[Any] | None]:
        """Return whether the reader could answer, and the answer."""
        if key[0] not in self._namespaces or range_.direction not in _DIRECTIONS:
            return False, None
        asked_at = time.monotonic()
        answer = await self._line.ask(self._question(key, range_, wanted, now=asked_at))
        if answer is None:
            return False, None
        if answer.unseen or key in self._unseen:
            self._keep_unseen(key, answer)
        if answer.lag is None:
            self._counts[key[0], "miss"] += 1
            return True, _process_of(answer, namespace, None)
        self._counts[key[0], "hit"] += 1
        # The reader looked some time after it was asked: the worst is taken.
        as_of = asked_at - answer.lag
        self._floors.release(as_of=as_of)
        lag = time.monotonic() - as_of
        return True, _process_of(answer, namespace, lag)

    def told(self, key: Key) -> tuple[int, ...]:
        """Return transactions that the reader has shown us, and snapshots may not see."""
        return self._unseen.get(key, ())

    async def watch(self, key: Key, call: Callable[[], None]) -> bool:
        """Call when the reader tells of a process; return whether no look is needed before."""
        if key[0] not in self._namespaces:
            return False
        watched = await self._line.watch(key, call)
        return watched is not None and watched.is_settled and self._may_read(watched.server)

    def unwatch(self, key: Key, call: Callable[[], None]) -> None:
        """Do not call."""
        self._line.unwatch(key, call)

    def note(self, key: Key, version: int | None = None) -> None:
        """Let no later read of a process be older than now, or than *version*: we know it."""
        now = time.monotonic()
        time_ = now if version is None else NEVER
        self._floors.raise_floor(key, version=version or 0, time=time_, now=now)
        if self._floors.noted > _MOST_NOTED:
            self._floors.clear()
            self._floors.not_before = now

    def note_any(self) -> None:
        """Let no later read be older than now: we have changed a process, we know not which."""
        self._floors.not_before = time.monotonic()

    def samples(self) -> list[Sample]:
        """Return what metrics show; any thread may ask."""
        found = [Sample("pgprog_reader_up", (), float(self._line.is_open))]
        return found + [
            Sample("pgprog_cache_requests_total", (name, result), float(self._counts[name, result]))
            for name in self._namespaces
            for result in _RESULTS
        ]

    def _question(self, key: Key, range_: Range, wanted: Wanted, *, now: float) -> Question:
        floor, at_least, known_ago = self._floors.floors.get(key), wanted.at_least, None
        if floor is not None:
            at_least = max(at_least, floor.version)
            known_ago = None if floor.time == NEVER else now - floor.time
        before = self._floors.not_before
        changed_ago = None if before == NEVER else now - before
        return Question(
            0,
            key[0],
            key[1],
            at_least,
            wanted.max_lag,
            known_ago,
            changed_ago,
            range_.max_events,
            range_.after,
            range_.direction,
        )

    def _keep_unseen(self, key: Key, answer: Answer) -> None:
        """Keep what a snapshot must see that we read past the reader."""
        if answer.server and answer.server != self._server:
            self._server = answer.server
            self._unseen.clear()
        self._unseen.pop(key, None)
        if answer.unseen:
            self._unseen[key] = answer.unseen
            if len(self._unseen) > _MOST_UNSEEN:
                del self._unseen[next(iter(self._unseen))]

    def _begin(self, welcome: Welcome) -> None:
        """Take nothing from the reader that it does not know as of now, or later."""
        self._namespaces = frozenset(welcome.namespaces)
        self._floors.clear()
        self._floors.not_before = time.monotonic()

    def _is_of(self, server: str) -> bool:
        return server == self._server

    async def _find_database(self) -> str:
        if not self._database:
            self._database = await database_of(self._dsn, name=self._name)
        return self._database


def _process_of(
    answer: Answer, namespace: Namespace[Any] | None, lag: float | None
) -> Process[Any]:
    return process_told(answer.row, answer.timers, namespace, answer.events, lag)
