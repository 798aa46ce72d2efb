"""What metrics and health show of the database, on a connection of its own that is opened late."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import psycopg

from pgprog.errors import PgprogError
from pgprog.metrics import Sample
from pgprog.metrics.parts import Component
from pgprog.store.faults import DataFault, RolledBack
from pgprog.store.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEEP_SECONDS = 2.0
# What took long is asked for less often: counting a queue of millions shall not be what fills it.
_KEEP_FACTOR = 20
_MOST_KEEP_SECONDS = 300.0
_DOWN = [Sample("pgprog_database_up", (), 0.0)]


class Seen(NamedTuple):
    """What the database said last, or why it said nothing; *good_until* is monotonic."""

    samples: list[Sample]
    components: list[Component]
    good_until: float


class Gauges:
    """Figures of the database, at most some seconds old; for one event loop.

    A database that fails or hangs costs a look half a second, and no look fails because of it.
    """

    def __init__(self, dsn: str, *, name: str) -> None:
        self._lane = Lane(dsn, name=f"{name} metrics")
        self._seen = Seen(_DOWN, [], 0.0)
        self._counted = self._seen
        self._looking: asyncio.Task[None] | None = None

    @property
    def samples(self) -> list[Sample]:
        """The figures of the last look; any thread may ask."""
        return self._seen.samples

    @property
    def components(self) -> list[Component]:
        """What the database found wrong at the last look, by component; any thread may ask."""
        return self._seen.components

    async def refresh(self, *, patience: float = 0.5) -> None:
        """Look again if the last look was long ago; wait for that *patience* seconds at most.

        A look that takes longer goes on, and meanwhile the database counts as down.
        """
        if self._looking is None or self._looking.done():
            if time.monotonic() < self._seen.good_until:
                return
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait([self._looking], timeout=patience)
        if not self._looking.done() and time.monotonic() >= self._seen.good_until:
            self._seen = _down("the database does not answer", good_until=0.0)

    async def close(self) -> None:
        """Close the connection."""
        if self._looking is not None:
            self._looking.cancel()
        await self._lane.close()

    async def _look(self) -> None:
        """Count, or only hear whether the database answers while the last counts are good."""
        began_at = time.monotonic()
        try:
            if began_at < self._counted.good_until:
                await self._lane.fetch("select 1")
            else:
                await self._count(began_at)
        except (PgprogError, RolledBack, DataFault, psycopg.Error) as e:
            self._seen = _down(str(e), good_until=time.monotonic() + 1.0)
            self._counted = self._seen._replace(good_until=0.0)
            return
        self._seen = self._counted._replace(good_until=time.monotonic() + _KEEP_SECONDS)

    async def _count(self, began_at: float) -> None:
        rows = await self._lane.fetch("select * from pgprog_engine.gauges()")
        [[health]] = await self._lane.fetch("select pgprog.health()")
        now = time.monotonic()
        keep = min(max(_KEEP_SECONDS, _KEEP_FACTOR * (now - began_at)), _MOST_KEEP_SECONDS)
        self._counted = Seen(_samples(rows), _components(health), now + keep)


def _down(reason: str, *, good_until: float) -> Seen:
    return Seen(_DOWN, [Component("database", "critical", reason)], good_until)


def _samples(rows: Sequence[Sequence[Any]]) -> list[Sample]:
    found = [Sample("pgprog_database_up", (), 1.0)]
    for name, waiting, blocked, running, age, errors, workers, is_paused in rows:
        statuses = {"waiting": waiting, "blocked": blocked, "running": running}
        found += [
            Sample("pgprog_queue_tasks", (name, status), float(count))
            for status, count in statuses.items()
        ]
        found += [
            Sample("pgprog_oldest_due_age_seconds", (name,), age),
            Sample("pgprog_processes_in_error", (name,), float(errors)),
            Sample("pgprog_workers", (name,), float(workers)),
            Sample("pgprog_namespace_paused", (name,), float(is_paused)),
        ]
    return found


def _components(health: bytes) -> list[Component]:
    """Return the components of pgprog.health; a worker is ready as long as there is a database."""
    return [
        Component(
            f"database {each['name']}" if each["name"] != "database" else "database",
            each["status"],
            each["reason"],
            is_needed=each["name"] == "database",
        )
        for each in msgspec.json.decode(health)["components"]
    ]
