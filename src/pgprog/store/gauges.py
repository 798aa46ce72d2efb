"""What metrics and health show of the database, on a connection of its own that is opened late."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import msgspec
import psycopg

from pgprog.errors import PgprogError, StoreUnavailable
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
_UP = Sample("pgprog_database_up", (), 1.0)
_DOWN = Sample("pgprog_database_up", (), 0.0)


class Seen(NamedTuple):
    """What the database said last, or why it said nothing."""

    samples: list[Sample]
    components: list[Component]


_NOTHING = Seen([_UP], [])


class Gauges:
    """Figures of the database, some seconds old or as old as a slow count; for one event loop.

    A database that fails or hangs costs a look half a second, and no look fails because of it.
    Whether it lives is asked apart from the count, which may take as long as the queue is.
    """

    def __init__(self, dsn: str, *, name: str) -> None:
        self._lane = Lane(dsn, name=f"{name} metrics")
        # Asks while the other counts: opened only where a count takes longer than a look is kept.
        self._spare = Lane(dsn, name=f"{name} metrics")
        self._lost: Seen | None = Seen([_DOWN], [])
        self._is_heard = False  # by the last look
        self._counted = _NOTHING
        self._looking: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._counting_since = 0.0
        self._look_again_at = self._count_again_at = 0.0  # monotonic

    @property
    def samples(self) -> list[Sample]:
        """The figures of the last count, if the database answers; any thread may ask."""
        return (self._lost or self._counted).samples

    @property
    def components(self) -> list[Component]:
        """What was wrong with the database at the last count, or now; any thread may ask."""
        return (self._lost or self._counted).components

    async def refresh(self, *, patience: float = 0.5) -> None:
        """Look again if the last look was long ago; wait for that *patience* seconds at most.

        A database that takes longer to answer counts as down until it does; a count that takes
        longer goes on, and meanwhile the last one is shown.
        """
        began_at = time.monotonic()
        if self._looking is None or (self._looking.done() and began_at >= self._look_again_at):
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait([self._looking], timeout=patience)
        if not self._looking.done():
            self._lost = _down("the database does not answer")
        elif self._is_heard and self._counting is not None:
            left = began_at + patience - time.monotonic()
            await asyncio.wait([self._counting], timeout=left)
            if self._is_heard:  # still, though it may have been lost meanwhile
                self._lost = None

    async def close(self) -> None:
        """Close the connections."""
        for task in (self._looking, self._counting):
            if task is not None:
                task.cancel()
        await asyncio.gather(self._lane.close(), self._spare.close())

    async def _look(self) -> None:
        """Hear whether the database answers, and begin to count where the last count is old."""
        lane = self._spare if _is_under_way(self._counting) else self._lane
        try:
            await lane.fetch("select 1")
        except (PgprogError, RolledBack, DataFault, psycopg.Error) as e:
            self._lose(e)
            return
        now = time.monotonic()
        self._is_heard = True
        self._look_again_at = now + _KEEP_SECONDS
        if _is_under_way(self._counting):
            if (took := now - self._counting_since) > _MOST_KEEP_SECONDS:
                self._counted = _uncounted(f"they have been counted for {took:.0f} s")
        elif now >= self._count_again_at:
            self._counting_since = now
            self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        try:
            rows = await self._lane.fetch("select * from pgprog_engine.gauges()")
            [[health]] = await self._lane.fetch("select pgprog.health()")
            self._counted = Seen(_samples(rows), _components(health))
        except StoreUnavailable as e:
            self._lose(e)
            return
        except RolledBack as e:  # it was cut off, by a time-out of the role for example
            self._counted = _uncounted(str(e))
        except (PgprogError, DataFault, psycopg.Error) as e:
            self._counted = _down(str(e))
        now = time.monotonic()
        keep = max(_KEEP_SECONDS, _KEEP_FACTOR * (now - self._counting_since))
        self._count_again_at = now + min(keep, _MOST_KEEP_SECONDS)
        self._look_again_at = now + _KEEP_SECONDS

    def _lose(self, reason: Exception) -> None:
        self._is_heard = False
        self._lost = _down(str(reason))
        self._counted = _NOTHING
        self._look_again_at = time.monotonic() + 1.0
        self._count_again_at = 0.0


def _is_under_way(task: asyncio.Task[None] | None) -> TypeGuard[asyncio.Task[None]]:
    return task is not None and not task.done()


def _down(reason: str) -> Seen:
    return Seen([_DOWN], [Component("database", "critical", reason)])


def _uncounted(reason: str) -> Seen:
    return Seen([_UP], [Component("figures", "critical", reason, is_needed=False)])


def _samples(rows: Sequence[Sequence[Any]]) -> list[Sample]:
    found = [_UP]
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
