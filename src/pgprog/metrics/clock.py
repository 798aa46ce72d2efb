"""The clock of the database, as a worker knows it from the answers that it gets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_WINDOW_SECONDS = 60.0
_UNKNOWN = float("-inf")


class DatabaseClock:
    """How far the database's clock is ahead of our monotonic one.

    An answer tells a time that has passed by then, so each gives a lower bound, and the best of
    the last minute or two counts; our own clock and its steps do not matter.
    """

    def __init__(self) -> None:
        self._ahead = self._before = self._newest = _UNKNOWN
        self._window_ends = _UNKNOWN

    def hear(self, told: datetime) -> None:
        """Take the time that an answer told."""
        now = time.monotonic()
        bound = told.timestamp() - now
        if now >= self._window_ends:
            self._window_ends = now + _WINDOW_SECONDS
            self._before, self._newest = self._newest, bound
        self._newest = max(self._newest, bound)
        self._ahead = max(self._before, self._newest)

    def age(self, instant: datetime, *, now: float) -> float | None:
        """Return how many seconds ago an instant was, 0 at least; None before the first answer."""
        if self._ahead == _UNKNOWN:
            return None
        return max(0.0, now + self._ahead - instant.timestamp())
