"""Which transactions a snapshot of PostgreSQL sees."""

from __future__ import annotations

from typing import NamedTuple, Self

_CIRCLE = 1 << 32
_HALF = 1 << 31


class Snapshot(NamedTuple):
    """A value of pg_current_snapshot(): all before *xmin* has ended, nothing from *xmax* on has.

    *running* holds the transactions between them that run, as the 32 bits that the stream tells.
    """

    xmin: int
    xmax: int
    running: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the snapshot that PostgreSQL writes as ``xmin:xmax:running,running``."""
        xmin, xmax, running = text.split(":")
        xids = (int(xid) % _CIRCLE for xid in running.split(",") if xid)
        return cls(int(xmin), int(xmax), frozenset(xids))

    def sees(self, xid: int) -> bool:
        """Return whether a committed transaction, by its 32 bits, is visible.

        Numbers go in a circle: of two, the one less than half a circle ahead is the later.
        """
        return _precedes(xid, self.xmin) or (_precedes(xid, self.xmax) and xid not in self.running)

    def whole(self, xid: int) -> int:
        """Return a transaction of about this time, by its 32 bits, with its epoch."""
        return self.xmax + (xid - self.xmax + _HALF) % _CIRCLE - _HALF

    def shows(self, whole: int) -> bool:
        """Return whether a committed transaction, with its epoch, is visible, however old it is."""
        if whole < self.xmin:
            return True
        return whole < self.xmax and whole % _CIRCLE not in self.running

    def is_far_from(self, other: Snapshot) -> bool:
        """Return whether transactions of the one may be taken for later ones of the other."""
        return self.xmax - other.xmax > _HALF // 2


def _precedes(xid: int, other: int) -> bool:
    return 0 < (other - xid) % _CIRCLE < _HALF
