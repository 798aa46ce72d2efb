"""Holds back what nobody may see yet.

With synchronous replication the stream tells a commit before the standby has acknowledged it: it is
not visible, for as long as the standby stalls, and after a fail-over it may never have been.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.cache.entries import Change
    from pgprog.cache.fence import Cache
    from pgprog.cache.snapshots import Snapshot

# Of a standby that stalls, before everything is given up.
_MOST_HELD = 100_000


class Gate:
    """Gives *cache* what the stream tells, in its order; where it is shut, only once it is visible.

    While it `is_waiting`, snapshots are wanted soon.
    """

    def __init__(self, cache: Cache) -> None:
        self.is_shut = False
        self._cache = cache
        self._snapshot: Snapshot | None = None
        self._held: deque[tuple[int | None, int, Sequence[Change]]] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def clear(self) -> None:
        """Forget what is held back, with the stream that told it."""
        self._held.clear()
        self._snapshot = None

    def on_transaction(
        self, xid: int, end_lsn: int, changes: Sequence[Change], *, now: float
    ) -> None:
        """Take the next transaction of the stream."""
        self._held.append((xid, end_lsn, changes))
        self._open(now=now)

    def on_progress(self, lsn: int, *, now: float) -> None:
        """Take the word that every transaction up to *lsn* has been told."""
        self._held.append((None, lsn, ()))
        self._open(now=now)

    def on_snapshot(self, snapshot: Snapshot, *, now: float) -> None:
        """Let through what *snapshot* sees."""
        self._snapshot = snapshot
        self._open(now=now)

    def _open(self, *, now: float) -> None:
        while self._held and self._may_pass(self._held[0][0]):
            xid, lsn, changes = self._held.popleft()
            if xid is None:
                self._cache.on_progress(lsn)
            else:
                self._cache.on_transaction(xid, lsn, changes, now=now)
        if len(self._held) > _MOST_HELD:
            self._cache.counts["overrun"] += 1
            self._cache.go_cold()
            self.clear()

    def _may_pass(self, xid: int | None) -> bool:
        if xid is None or not self.is_shut:
            return True
        return self._snapshot is not None and self._snapshot.sees(xid)
