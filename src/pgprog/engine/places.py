"""How many steps a worker runs at once, where that follows latency and processor."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

from pgprog import logs

if TYPE_CHECKING:
    from pgprog.engine.runner import Runner
    from pgprog.engine.scanner import Scanner

log = logs.get(__name__)

# Where no step has ended for so long what waits for its place, or for its child process, may be
# sooner elsewhere.
STUCK_SECONDS: Final = 0.5
# A worker with no thread, or no child process, for a step lets others try, but not in a storm of
# claims.
UNAVAILABLE_SECONDS: Final = 1.0
_TICK_SECONDS = 1.0
_STEPS_TO_THE_TOP: Final = 20
_SHRINK: Final = 0.75
_SLOW: Final = 2.0
_BUSY_CPU: Final = 0.9


class Adaptive:
    """Finds a number of places between *least* and *most*: up in steps, down by a quarter (AIMD).

    Each second in which due tasks waited for a place adds a twentieth of the range.  A second in
    which handlers took twice as long as they can, or Python nine tenths of a core, takes a quarter
    away: more at once would only wait elsewhere.  How long they can take is what they took with the
    least places, or less since: handlers that have become slower bring it there, to learn it anew.
    """

    def __init__(self, least: int, most: int) -> None:
        self.most = most
        self.limit = self._least = min(least, most)
        self._best = math.inf

    def learn(self, *, latency: float | None, cpu: float, is_behind: bool) -> int:
        """Return the places after a second; *latency* is None where no handler has ended in it."""
        least = min(self._least, self.most)
        is_slow = latency is not None and latency > _SLOW * self._best
        if latency is not None:
            self._best = latency if self.limit == least else min(self._best, latency)
        if is_slow or cpu > _BUSY_CPU:
            self.limit = int(self.limit * _SHRINK)
        elif is_behind:
            self.limit += max(1, (self.most - least) // _STEPS_TO_THE_TOP)
        self.limit = max(least, min(self.limit, self.most))
        return self.limit


class Laps:
    """How many handlers have ended since it was last taken, and how long they took together."""

    def __init__(self) -> None:
        self._count = 0
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._count += 1
        self._seconds += seconds

    def take(self) -> float | None:
        """Return how long one took on average, None if there was none, and begin anew."""
        mean = self._seconds / self._count if self._count else None
        self._count, self._seconds = 0, 0.0
        return mean


class Places:
    """Tells *runner* how many steps may run; as many as allowed if *least* is None."""

    def __init__(self, runner: Runner, scanner: Scanner, *, least: int | None) -> None:
        self.laps = None if least is None else Laps()
        self._runner = runner
        self._scanner = scanner
        self._adaptive = None if least is None else Adaptive(least, runner.concurrency)

    def allow(self, most: int) -> None:
        """Run at most so many from here on."""
        if self._adaptive is not None:
            self._adaptive.most = most
            most = min(most, self._adaptive.limit)
        self._runner.limit(most)

    async def run(self) -> None:
        """Follow what the steps and the processor show, until cancelled."""
        if self._adaptive is None:
            return
        before = self._clocks()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = self._clocks()
            self.look(self._adaptive, cpu=(now[1] - before[1]) / (now[0] - before[0]))
            before = now

    def look(self, adaptive: Adaptive, *, cpu: float) -> None:
        """Learn from the last second, in which *cpu* of one core was taken."""
        latency = None if self.laps is None else self.laps.take()
        before = adaptive.limit
        is_behind = self._scanner.has_backlog or not self._runner.places
        limit = adaptive.learn(latency=latency, cpu=cpu, is_behind=is_behind)
        if limit != before:
            self._runner.limit(limit)
            log.debug("places_changed", before=before, after=limit, latency=latency, cpu=cpu)

    def _clocks(self) -> tuple[float, float]:
        return time.monotonic(), time.process_time()
