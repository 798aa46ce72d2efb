"""What a worker shows of itself: signs of life, and what it is doing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgprog.config import WorkerConfig
    from pgprog.engine.lease import Lease
    from pgprog.engine.runner import Runner
    from pgprog.engine.scanner import Scanner


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One part of a worker that goes round, and is answered by the database in each round.

    *count* grows with each answer, after *rests_seconds* at the latest, unless *may_rest* says that
    there is nothing to ask for.
    """

    name: str
    count: Callable[[], int]
    rests_seconds: float
    may_rest: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a worker does at this moment; *claimed_seconds* ago a claim was answered.

    *is_behind* says that due tasks wait for a free place.  A worker without steps has no places.
    """

    busy: int = 0
    places: int = 0
    is_behind: bool = False
    claimed_seconds: float | None = None

    def __str__(self) -> str:
        """Return it as a line for people."""
        if self.claimed_seconds is None:
            return "no steps run here"
        queue = "more are due" if self.is_behind else "no more are due"
        last = f"last claim {self.claimed_seconds:.1f} s ago"
        return f"{self.busy} of {self.places} steps busy, {queue}, {last}"


def sum_of(statuses: Sequence[Status]) -> Status:
    """Return what several workers do together; each has the same roles."""
    claimed = [each.claimed_seconds for each in statuses if each.claimed_seconds is not None]
    return Status(
        busy=sum(each.busy for each in statuses),
        places=sum(each.places for each in statuses),
        is_behind=any(each.is_behind for each in statuses),
        claimed_seconds=min(claimed, default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """The signs of life of one worker, and how to ask for its status."""

    signs: tuple[Sign, ...]
    status: Callable[[], Status] = Status


def vitals_of(
    scanner: Scanner,
    lease: Lease,
    runner: Runner,
    *,
    upkeep: tuple[Sign, ...],
    config: WorkerConfig,
) -> Vitals:
    """Return those of a worker that runs steps, and has the signs of its *upkeep* besides."""

    def status() -> Status:
        return Status(
            busy=runner.busy,
            places=runner.concurrency,
            is_behind=scanner.has_backlog,
            claimed_seconds=time.monotonic() - scanner.answered_at,
        )

    claims = Sign(
        name="claims",
        count=lambda: scanner.answers,
        rests_seconds=config.poll_every.total_seconds(),
        may_rest=lambda: scanner.may_rest,
    )
    renewals = Sign(
        name="renewals",
        count=lambda: lease.answers,
        rests_seconds=config.heartbeat_every.total_seconds(),
        may_rest=lambda: lease.may_rest,
    )
    return Vitals(signs=(claims, renewals, *upkeep), status=status)
