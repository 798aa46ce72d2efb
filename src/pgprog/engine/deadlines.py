"""Many time-outs on one timer of the loop: nearly all that they bound ends long before."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# All deadlines are looked over when one is reached: a hundred times a second at most.
_GRAIN_SECONDS = 0.01


class Deadlines:
    """Calls what was set when its time has come, up to 10 ms late, unless it was cleared before.

    A fraction of the price of a timer of the loop for each.  Belongs to the loop that runs when it
    is made.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._deadlines: dict[int, tuple[float, Callable[[Any], object], object]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._rung_at = -math.inf

    def set(self, seconds: float, expire: Callable[[Any], object], subject: object) -> int:
        """Call *expire* with *subject* in so many seconds; return what clears the deadline."""
        number = next(self._numbers)
        at = self.loop.time() + seconds
        self._deadlines[number] = (at, expire, subject)
        if at < self._rings_at:
            self._ring_at(at)
        return number

    def clear(self, number: int) -> None:
        """Forget a deadline, reached or not."""
        self._deadlines.pop(number, None)

    def _ring_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = max(at, self._rung_at + _GRAIN_SECONDS)
        self._timer = self.loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        self._rung_at = now = self.loop.time()
        self._rings_at = math.inf
        for number, (at, expire, subject) in list(self._deadlines.items()):
            if at <= now and number in self._deadlines:  # not cleared by one before it
                self.clear(number)
                expire(subject)
        if self._deadlines:
            self._ring_at(min(at for at, _, _ in self._deadlines.values()))
