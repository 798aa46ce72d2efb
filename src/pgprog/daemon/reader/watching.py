"""What clients of a shared reader watch: each is told once of a change, and asks again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from pgprog import logs
from pgprog.client.shared import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.cache.entries import Key
    from pgprog.client.cached_reads import CachedReads

log = logs.get(__name__)

# Some 600 bytes each; who is refused looks at PostgreSQL once a second.
_MOST_OF_A_CLIENT: Final = 1000
_MOST: Final = 10_000


class Watching:
    """The watches of all clients together, on what *cached* is told."""

    def __init__(self, cached: CachedReads) -> None:
        self.cached = cached
        self.count = 0
        self._is_full = False

    def has_room(self, own: int) -> bool:
        """Return whether one more may be watched by a client that has *own* already."""
        is_full = self.count >= _MOST or own >= _MOST_OF_A_CLIENT
        if is_full and not self._is_full:
            log.warning(
                "reader_watches_full",
                watches=self.count,
                of_this_client=own,
                hint="who is refused looks at PostgreSQL once a second",
            )
        self._is_full = is_full
        return not is_full


class Watches:
    """What one client watches; *tell* is given the number of each that has changed."""

    def __init__(self, all_: Watching, *, tell: Callable[[int], None]) -> None:
        self._all = all_
        self._tell = tell
        self._calls: dict[int, tuple[Key, Callable[[], None]]] = {}

    def add(self, message: wire.Watch) -> wire.Watched | None:
        """Begin to watch, or go on; None where that cannot be."""
        cached, key = self._all.cached, (message.namespace, message.process_id)
        if message.namespace not in cached.cache.shelves or not cached.cache.is_warm:
            return None
        known = self._calls.get(message.watch)
        if known is None or known[0] != key:
            self.drop(message.watch)
            if not self._all.has_room(len(self._calls)):
                return None
            call = partial(self._change, message.watch)
            self._calls[message.watch] = key, call
            self._all.count += 1
            cached.cache.watchers.add(key, call)
        return wire.Watched(cached.is_settled(key), cached.server)

    def drop(self, watch: int) -> None:
        """Watch no more; harmless after it has changed."""
        known = self._calls.pop(watch, None)
        if known is not None:
            self._all.count -= 1
            self._all.cached.cache.watchers.drop(*known)

    def clear(self) -> None:
        """Watch nothing any more."""
        for watch in [*self._calls]:
            self.drop(watch)

    def _change(self, watch: int) -> None:
        self.drop(watch)
        self._tell(watch)
