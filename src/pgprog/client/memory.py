"""What a client keeps in mind so that no later read is older than what it knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

from pgprog.cache.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.cache.entries import Key
    from pgprog.client.freshness import Range, Wanted
    from pgprog.metrics import Sample
    from pgprog.model import Process
    from pgprog.namespace import Namespace
    from pgprog.store.client_store import ClientStore

_MOST_TASKS = 10_000


class TooSoon(Exception):  # noqa: N818 - what happened; it never leaves the client
    """A snapshot does not see yet what readers of this client may have seen."""


class Memory(ABC):
    """Reads that need no PostgreSQL, and what those must know that do.

    *hits* counts those that took no wait.
    """

    def __init__(self, store: ClientStore) -> None:
        self.hits = 0
        self._store = store
        self._counts: Counter[tuple[str, str]] = Counter()
        self._asked: OrderedDict[int, Key] = OrderedDict()
        self._read_server = ""  # that of the last read of PostgreSQL

    # ---- Reading.

    @abstractmethod
    def serves(self, namespace: str) -> bool:
        """Return whether processes of a namespace may be known here."""

    @abstractmethod
    def look(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        range_: Range = ...,
        wanted: Wanted = ...,
    ) -> Process[Any] | None:
        """Return the process if that takes no wait, as fresh as it is wanted; from any thread."""

    @abstractmethod
    async def read(
        self, key: Key, namespace: Namespace[Any] | None, range_: Range, wanted: Wanted
    ) -> tuple[bool, Process[Any] | None]:
        """Return whether this could answer, and the answer."""

    @abstractmethod
    def told(self, key: Key) -> tuple[int, ...]:
        """Return transactions, with their epoch, that this client may have shown.

        Snapshots may not see them.
        """

    @abstractmethod
    async def watch(self, key: Key, call: Callable[[], None]) -> bool:
        """Call once when something is told of a process, or nothing can be any more.

        Return whether whoever has looked, or looks from now on, need not look again before.  That
        does not hold for ever: ask again, with the same *call*, as often as a look would be due.
        """

    @abstractmethod
    def unwatch(self, key: Key, call: Callable[[], None]) -> None:
        """Do not call; harmless after it was."""

    @abstractmethod
    def samples(self) -> list[Sample]:
        """Return what metrics show; any thread may ask."""

    def pass_by(self, namespace: str) -> None:
        """Note that a read goes to PostgreSQL and past the memory."""
        if self.serves(namespace):
            self._counts[namespace, "bypass"] += 1

    async def read_past(self, key: Key, range_: Range, told: tuple[int, ...]) -> bytes | None:
        """Return a process from PostgreSQL, as raw JSON, in a snapshot that sees *told*.

        Raises:
            TooSoon: It does not yet.
        """
        snapshot, server, raw = await self._store.get_fenced(*key, **range_._asdict())
        self._read_server = server
        self.note(key)
        self._check_past(told, Snapshot.parse(snapshot), server)
        return raw

    # ---- What this client knows.

    @abstractmethod
    def note(self, key: Key, version: int | None = None) -> None:
        """Let no later read of a process be older than now, or than *version*: we know it."""

    @abstractmethod
    def note_any(self) -> None:
        """Let no later read be older than now: we have changed a process, we know not which."""

    def remember(self, task_id: int, key: Key) -> None:
        """Remember whose a task is that this client has asked for."""
        self._asked[task_id] = key
        if len(self._asked) > _MOST_TASKS:
            self._asked.popitem(last=False)

    def process_of(self, task_id: int) -> Key | None:
        """Return whose a task is that this client has asked for, None if it is another's."""
        return self._asked.get(task_id)  # who gave up to wait for it may wait again

    @abstractmethod
    def _is_of(self, server: str) -> bool:
        """Return whether what was told is of this run of this server."""

    def _may_read(self, server: str) -> bool:
        """Return whether PostgreSQL is read there, as far as is known.

        Another, such as a standby, may show later what was told.
        """
        return self._read_server in {"", server}

    def _check_past(self, told: tuple[int, ...], snapshot: Snapshot, server: str) -> None:
        if self._is_of(server) and not all(map(snapshot.shows, told)):
            raise TooSoon
