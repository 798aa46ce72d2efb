"""Transactions that were told before anybody asked for their process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgprog.cache.entries import Entry, Key
    from pgprog.cache.snapshots import Snapshot

K = TypeVar("K")


class Recent(Generic[K]):
    """Transactions on what is not kept, until every snapshot to come sees them.

    A read that does not see one of them must not be kept: it will never be told again.  All of
    them rather than the last: a timer that returns takes no lock on its process, so a snapshot may
    see the last transaction on a process and not the one before.

    Its length is that of all that is noted.
    """

    def __init__(self) -> None:
        self._xids: dict[K, list[int]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, subject: K, xids: Iterable[int]) -> None:
        """Note transactions on *subject*."""
        if xids := [*xids]:
            self._xids.setdefault(subject, []).extend(xids)
            self._length += len(xids)

    def of(self, subject: K) -> tuple[int, ...]:
        """Return the transactions noted on *subject*."""
        return (*self._xids.get(subject, ()),)

    def of_all(self) -> dict[K, tuple[int, ...]]:
        """Return a copy of all that is noted."""
        return {subject: (*xids,) for subject, xids in self._xids.items()}

    def forget(self, subject: K) -> None:
        """Forget what was noted on *subject*."""
        self._length -= len(self._xids.pop(subject, ()))

    def prune(self, snapshot: Snapshot) -> None:
        """Forget what *snapshot* sees: it was taken, so later ones see it too."""
        left = {subject: self._unseen(snapshot, xids) for subject, xids in self._xids.items()}
        self._xids = {subject: xids for subject, xids in left.items() if xids}
        self._length = sum(map(len, self._xids.values()))

    def clear(self) -> None:
        """Forget everything."""
        self._xids.clear()
        self._length = 0

    def _unseen(self, snapshot: Snapshot, xids: Iterable[int]) -> list[int]:
        return [*unseen_by(snapshot, xids)]


class Served(Recent[K]):
    """Transactions that were served and may be invisible, with their epoch, on what was given up.

    Nobody may look for long, and half a circle later their 32 bits would be those of the future.
    """

    def _unseen(self, snapshot: Snapshot, xids: Iterable[int]) -> list[int]:
        return [xid for xid in xids if not snapshot.shows(xid)]


class Unsettled:
    """Entries with transactions that a snapshot may not see, each until one sees them.

    Not longer: ids go round, and half a circle later none would see them any more.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._length = 0

    def __len__(self) -> int:
        """Return how many transactions they have, of those they had at most."""
        return self._length

    def add(self, entry: Entry) -> None:
        """Note an entry with one transaction more, in the place of the one of its process."""
        self._entries[entry.key] = entry
        self._length += 1

    def drop(self, key: Key) -> None:
        """Forget the one of a process."""
        self._entries.pop(key, None)

    def prune(self, snapshot: Snapshot) -> None:
        """Take from all what *snapshot* sees, and forget those that have nothing left."""
        for key, entry in [*self._entries.items()]:
            entry.unseen[:] = unseen_by(snapshot, entry.unseen)
            if not entry.unseen:
                del self._entries[key]
        self._length = sum(len(entry.unseen) for entry in self._entries.values())

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._length = 0


def unseen_by(snapshot: Snapshot, xids: Iterable[int]) -> tuple[int, ...]:
    """Return the transactions that *snapshot* does not see."""
    return tuple(xid for xid in xids if not snapshot.sees(xid))
