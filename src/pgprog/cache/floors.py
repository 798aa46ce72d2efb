"""What may not be served, since somebody here knows better."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from pgprog.cache.lease import NEVER

K = TypeVar("K", bound=Hashable)


class Floor(NamedTuple):
    """The least that may be served of a process: a version, and a time that it is known as of.

    *noted_at* is when it was last raised.
    """

    version: int
    time: float
    noted_at: float

    def is_met(self, version: int, *, as_of: float) -> bool:
        """Return whether a version that is known as of a time may be served."""
        return version >= self.version and as_of > self.time


class Floors(Generic[K]):
    """What a program wrote or read and the stream may not have told yet.

    *floors* are those of single processes; *not_before* is such a time for all of them.
    """

    def __init__(self) -> None:
        self.floors: dict[K, Floor] = {}
        self.not_before = NEVER
        self._noted: deque[tuple[float, K]] = deque()

    @property
    def noted(self) -> int:
        """How much is remembered of floors."""
        return len(self._noted)

    def raise_floor(self, key: K, *, version: int = 0, time: float = NEVER, now: float) -> None:
        """Serve nothing of a process that is older than a version or not known as of a time.

        *now* is a time at which what is asked for had been committed.
        """
        floor = self.floors.get(key, Floor(0, NEVER, now))
        self.floors[key] = Floor(max(floor.version, version), max(floor.time, time), now)
        self._noted.append((now, key))

    def release(self, *, as_of: float) -> None:
        """Forget the floors from before a time as of which everything is known."""
        while self._noted and self._noted[0][0] < as_of:
            _, key = self._noted.popleft()
            if key in self.floors and self.floors[key].noted_at < as_of:
                del self.floors[key]

    def clear(self) -> None:
        """Forget all."""
        self.floors.clear()
        self.not_before = NEVER
        self._noted.clear()
