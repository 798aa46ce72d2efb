"""What a question is: a name, and a function that takes one sample of it in an arena."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.server import Arena


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything a sample takes."""

    tasks: int
    many_processes: int
    few_processes: int
    seconds: float
    scale: int
    crowd: int
    hot_calls: int


TINY = Sizes(
    tasks=40, many_processes=40, few_processes=10, seconds=0.2, scale=1, crowd=100, hot_calls=50
)
QUICK = Sizes(
    tasks=10_000,
    many_processes=10_000,
    few_processes=500,
    seconds=1.5,
    scale=10,
    crowd=100_000,
    hot_calls=100_000,
)
FULL = Sizes(
    tasks=20_000,
    many_processes=20_000,
    few_processes=1_000,
    seconds=5.0,
    scale=10,
    crowd=1_000_000,
    hot_calls=100_000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer: *count* things in *seconds*, with what they cost.

    CPU is in seconds, of the server and of all programs that ask it; *wal_bytes* are those of the
    whole server, *load* is the machine's at the end.  *figures* are further numbers by name.
    """

    count: int
    seconds: float
    postgres_cpu: float
    client_cpu: float
    wal_bytes: int
    load: float
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Question:
    """A question by its *name*, counted in *what*."""

    name: str
    what: str
    ask: Callable[[Arena, Sizes], Sample]
