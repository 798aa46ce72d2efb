"""What an operator watches, read at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgprog.store.operator_store import OperatorStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from pgprog.store.rows import NamespaceStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many tasks of a namespace ended a second, lately, and how many of them failed."""

    ended: float = 0.0
    failed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSight:
    """A worker with its lease: *lease_left* is negative where it has ended."""

    worker_id: int
    name: str
    namespaces: Sequence[str]
    started_at: datetime
    lease_until: datetime
    lease_left: timedelta
    renewals: int
    running: int
    oldest_started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How many of the latest *ended* tasks of a namespace *failed*, and the most frequent error."""

    namespace: str
    ended: int
    failed: int
    error_type: str | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All of it; *took* is how long the database needed for it, in seconds."""

    now: datetime
    namespaces: Sequence[NamespaceStats]
    rates: dict[str, Rate]
    workers: Sequence[WorkerSight]
    failures: Sequence[Failures]
    took: float


class SightStore(OperatorStore):
    """An operator's store with what `pgprog top` shows."""

    async def workers(self) -> list[WorkerSight]:
        """Return the workers, by their names."""
        rows = await self._rows("select * from pgprog.inspect_workers()", ())
        return [WorkerSight(**row) for row in rows]

    async def look(self) -> Sight:
        """Return what there is to see at this moment."""
        began_at = time.monotonic()
        now = await self.now()
        stats = await self.stats()
        rates = await self._rows("select * from pgprog.inspect_rates()", ())
        failures = await self._rows(
            "select * from pgprog.inspect_failures() where failed > 0 order by failed desc", ()
        )
        workers = await self.workers()
        return Sight(
            now=now,
            namespaces=stats,
            rates={row["namespace"]: _rate(row) for row in rates},
            workers=workers,
            failures=[Failures(**row) for row in failures],
            took=time.monotonic() - began_at,
        )


def _rate(row: dict[str, Any]) -> Rate:
    return Rate(ended=row["ended"] / row["seconds"], failed=row["failed"] / row["seconds"])
