"""What a question is: a name, and a function that takes one sample of it in an arena."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.server import Arena


class NoAnswerError(Exception):
    """Whoever was asked ended, or said nothing for too long: a result, not the end of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything a sample takes.

    *victims* workers are ended at once, in each of *batches*, with leases of *lease_seconds*.
    What peers are asked, too, takes *jobs* (after *aged* that came and went) and is cut after
    *cut_seconds*; *settle_seconds* are for a worker to start in, *grace_seconds* for the last
    arrivals to begin in.
    """

    tasks: int
    many_processes: int
    few_processes: int
    seconds: float
    scale: int
    jobs: int = 20_000
    aged: int = 100_000
    cut_seconds: float = 10.0
    short_seconds: float = 2.0
    settle_seconds: float = 1.5
    grace_seconds: float = 3.0
    idle_seconds: float = 8.0
    arrivals: int = 250
    timers: int = 5_000
    later: int = 1_000_000
    crowd: int = 1_000_000
    hot_calls: int = 100_000
    long_history: int = 1_000_000
    history_requests: int = 50
    cached_gets: int = 50_000
    victims: int = 20
    batches: int = 10
    lease_seconds: float = 10.0
    stall_seconds: float = 60.0
    pinned: int = 500_000
    steady: int = 10_000_000


TINY = Sizes(
    tasks=40,
    many_processes=40,
    few_processes=10,
    seconds=0.2,
    scale=1,
    jobs=40,
    aged=40,
    short_seconds=0.1,
    settle_seconds=0.2,
    grace_seconds=1.0,
    idle_seconds=0.5,
    arrivals=3,
    timers=20,
    later=100,
    crowd=100,
    hot_calls=50,
    long_history=200,
    history_requests=2,
    cached_gets=1_000,
    victims=2,
    batches=1,
    lease_seconds=1.0,
    stall_seconds=2.0,
    pinned=80,
    steady=80,
)
QUICK = Sizes(
    tasks=5_000,
    many_processes=5_000,
    few_processes=250,
    seconds=1.0,
    scale=10,
    jobs=3_000,
    aged=10_000,
    cut_seconds=4.0,
    short_seconds=1.0,
    settle_seconds=1.0,
    idle_seconds=2.0,
    arrivals=50,
    timers=2_000,
    later=100_000,
    pinned=50_000,
    steady=100_000,
)
FULL = Sizes(tasks=20_000, many_processes=20_000, few_processes=1_000, seconds=5.0, scale=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer: *count* things in *seconds*, with what they cost.

    CPU is in seconds, of the server and of all programs that ask it; *wal_bytes* are those of the
    whole server, *load* is the machine's at the end, *figures* are further numbers by name.
    Samples of one *round* may be compared with each other.
    """

    count: int
    seconds: float
    postgres_cpu: float
    client_cpu: float
    wal_bytes: int
    load: float
    figures: Mapping[str, float] = field(default_factory=dict)
    round: int = 0

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Question:
    """A question by its *name*, counted in *what*.

    One that *is_long* is asked only when it is named, and once a run.
    """

    name: str
    what: str
    ask: Callable[[Arena, Sizes], Sample]
    is_long: bool = False
