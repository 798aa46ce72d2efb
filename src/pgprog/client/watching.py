"""Follow one process as it changes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, overload

from pgprog.client.freshness import Range
from pgprog.client.lookout import Lookout
from pgprog.client.reads import AsyncReads, checked_names
from pgprog.errors import Overloaded, ProcessNotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from pgprog.model import Process
    from pgprog.namespace import Namespace

S = TypeVar("S")

_PAGE = 1000


class _Event(Protocol):
    @property
    def event_id(self) -> int | None: ...


class _Snapshot(Protocol):
    """A process as `get` gives it, its payloads decoded or not."""

    @property
    def incarnation(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def last_event_id(self) -> int: ...
    @property
    def history(self) -> Sequence[_Event]: ...


P = TypeVar("P", bound=_Snapshot)


class Seen(NamedTuple):
    """How far one has followed a process; three zeros are before its first event."""

    version: int
    incarnation: int
    event_id: int

    @classmethod
    def of(cls, process: _Snapshot) -> Seen:
        """Return how far one is who has dealt with a snapshot that `watch` gave."""
        event_id = process.history[-1].event_id if process.history else None
        last = process.last_event_id if event_id is None else event_id
        return cls(process.version, process.incarnation, last)


class Wakes:
    """Wakes those who watch when any task has ended, as far as it is heard of."""

    def __init__(self) -> None:
        self.is_closed = False
        self._calls: set[Callable[[], None]] = set()

    def tell(self) -> None:
        """Have all look again."""
        for call in self._calls:
            call()

    def close(self) -> None:
        """Let who watches find that the client is closed."""
        self.is_closed = True
        self.tell()

    @contextlib.contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Call for as long as the block lasts."""
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)


async def follow(
    read: Callable[[Range], Awaitable[P | None]],
    pause: Callable[[], Awaitable[None]],
    *,
    seen: Seen | None,
) -> AsyncGenerator[P, None]:
    """Yield what *read* finds whenever it has changed since *seen*, until there is no process.

    Without *seen* it begins with the process as it is, without its history.  Once it has found
    the process, a database that does not answer is asked again.
    """
    is_first = True
    while True:
        try:
            found = await _since(read, seen)
        except (StoreUnavailable, Overloaded):
            if is_first:
                raise
            await pause()
            continue
        is_first = False
        if found is None:
            return
        if seen is not None and not _is_news(found, seen):
            await pause()
            continue
        seen = Seen.of(found)
        yield found


async def _since(read: Callable[[Range], Awaitable[P | None]], seen: Seen | None) -> P | None:
    if seen is None:
        return await read(Range(0, None, "forward"))
    after = seen.event_id
    found = await read(Range(_PAGE, after, "forward"))
    if found is not None and found.incarnation != seen.incarnation and after:
        found = await read(Range(_PAGE, 0, "forward"))  # its events count from 1 again
    return found


def _is_news(found: _Snapshot, seen: Seen) -> bool:
    if found.version == seen.version:  # events that the last page had no room for
        return found.last_event_id > seen.event_id
    return found.version > seen.version


class AsyncWatching(AsyncReads):
    """The following half of the reads of a client."""

    _wakes: Wakes

    @overload
    def watch(
        self, namespace: Namespace[S], process_id: str, *, after: Seen | None = None
    ) -> AsyncGenerator[Process[S], None]: ...

    @overload
    def watch(
        self, namespace: str, process_id: str, *, after: Seen | None = None
    ) -> AsyncGenerator[Process[Any], None]: ...

    async def watch(
        self, namespace: str | Namespace[Any], process_id: str, *, after: Seen | None = None
    ) -> AsyncGenerator[Process[Any], None]:
        """Yield a process as it is, then whenever it has changed, until it is removed.

        Versions may be passed over; events never are: *history* holds those since the snapshot
        before, each once and in order, at most 1 000 at a time.  To go on later, keep
        `Seen.of(process)` and give it as *after*.  A process that was removed and created again has
        another *incarnation*, and events that count from 1; what the old one wrote in its last
        moment is gone with it.

        With the cache or a reader it looks when a change is told, and asks PostgreSQL nothing in
        between; otherwise, and while nothing can be told, once a second, with
        ``wakeups="stream"`` at the end of any task, too.

        Raises:
            ProcessNotFound: There is no such process; with *after*, there being none is the end.
            StoreUnavailable: The database cannot be reached at first, or the client is closed.
        """
        key = checked_names(namespace, process_id)
        lookout = Lookout(self._cached, key)

        async def read(range_: Range) -> Process[Any] | None:
            if self._wakes.is_closed:
                return None
            return await lookout.look(lambda: self.get(namespace, process_id, **range_._asdict()))

        is_found = after is not None
        following = follow(read, lookout.pause, seen=after)
        with self._wakes.calling(lookout.told.set), lookout.kept():
            async with contextlib.aclosing(following):
                async for process in following:
                    is_found = True
                    yield process
        if self._wakes.is_closed:
            msg = "the client is closed"
            raise StoreUnavailable(msg)
        if not is_found:
            msg = f"no process {process_id} in namespace {key[0]}"
            raise ProcessNotFound(msg)
