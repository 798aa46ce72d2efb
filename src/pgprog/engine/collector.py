"""Ends zombies: tasks whose workers are dead."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.errors import StoreUnavailable
from pgprog.store.faults import OUTLIVED

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from pgprog.store.engine_store import EngineStore

log = logs.get(__name__)

# A dead worker is collected at most a lease and one look after its last renewal.
_LOOK_SECONDS = 2.0
# While it is alone it only waits for others: the first of them is seen this late at most.
LONE_LOOK_SECONDS = 5.0
# A look so much later than it was due: the database, or this process, stood still.
_GAP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Sighting:
    renewals: int
    since: float


class Collector:
    """Watches the renewal counters of workers, by its own monotonic clock.

    A worker is dead when its counter was seen unchanged for a full lease in which the database
    answered each look: a stalled database is not the death of workers.  *on_freed* is called when
    tasks were freed; *looks* counts the looks that were answered.
    """

    def __init__(
        self,
        store: EngineStore,
        *,
        lease: timedelta,
        on_freed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.looks = 0
        self._store = store
        self._lease_seconds = lease.total_seconds()
        self._look_seconds = min(_LOOK_SECONDS, self._lease_seconds / 4)
        self._lone_look_seconds = min(LONE_LOOK_SECONDS, self._lease_seconds / 2)
        self._on_freed = on_freed
        self._clock = clock
        self._sightings: dict[int, _Sighting] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        parts = self._store.metrics.parts
        part = parts.watch("collector", patience=30 + 4 * self._lone_look_seconds)
        orphans_at = -self._lease_seconds
        due_at = self._clock()
        while True:
            try:
                is_sweeping = due_at - orphans_at >= self._lease_seconds
                for worker_id, renewals in await self.look(due_at=due_at, is_sweeping=is_sweeping):
                    await self._collect(worker_id, renewals)
                if is_sweeping:
                    orphans_at = due_at
                part.succeeded()
            except OUTLIVED as e:
                self.looks += not isinstance(e, StoreUnavailable)
                part.failed(f"nobody can be looked at: {e}")
                log.warning("collector_without_database", detail=str(e))
                self._sightings.clear()
            pause = self.pause()
            due_at = self._clock() + pause
            await asyncio.sleep(pause)

    async def look(self, *, due_at: float, is_sweeping: bool = False) -> list[tuple[int, int]]:
        """Return (worker_id, renewals) of those that are dead; *due_at*, monotonic, is past.

        A look much later than it was due begins the watch anew.  One that *is_sweeping* frees the
        tasks of workers that are gone, too.
        """
        counters = await (self._sweep() if is_sweeping else self._store.list_workers())
        self.looks += 1
        now = self._clock()
        if now - due_at > _GAP_SECONDS:
            self._sightings.clear()
        sightings = {}
        for worker_id, renewals in counters.items():
            before = self._sightings.get(worker_id)
            same = before is not None and before.renewals == renewals
            sightings[worker_id] = before if before and same else _Sighting(renewals, now)
        self._sightings = sightings
        return [
            (worker_id, seen.renewals)
            for worker_id, seen in sightings.items()
            if now - seen.since >= self._lease_seconds
        ]

    def pause(self) -> float:
        """Return the seconds until the next look, which comes when a silent lease is over."""
        if len(self._sightings) < 2:
            return self._lone_look_seconds
        now = self._clock()
        left = (seen.since + self._lease_seconds - now for seen in self._sightings.values())
        return min([self._look_seconds, *(seconds for seconds in left if seconds > 0)])

    async def _sweep(self) -> dict[int, int]:
        counters, freed = await self._store.list_workers_and_sweep()
        if freed:
            self._on_freed()
        return counters

    async def _collect(self, worker_id: int, renewals: int) -> None:
        freed = await self._store.collect_zombies(worker_id, renewals)
        log.warning("worker_collected", worker_id=worker_id, tasks=freed)
        if freed:
            self._on_freed()
