"""What was written and when that was acknowledged, and what reads must show by that.

A process has *ranks*: each transaction on it gets a higher one.  Removal is a rank, too.  All times
are of the monotonic clock, which the programs of one machine share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Key: TypeAlias = tuple[str, str]

_LIFE = 1 << 32
_GONE = _LIFE - 1


def rank(life: int, number: int, phase: int = 0) -> int:
    """Return the rank of event *number* of a life; in phase 1 its timer is gone."""
    return life * _LIFE + 2 * number + phase


def gone(life: int) -> int:
    """Return the rank of the end of a life."""
    return life * _LIFE + _GONE


def is_gone(rank: int) -> bool:
    """Return whether there is no process at a rank."""
    return rank % _LIFE == _GONE or rank < _LIFE


class Written(NamedTuple):
    """What one transaction tried: *mark* is its own, in what it wrote."""

    mark: str
    rank: int
    began_at: float


class Read(NamedTuple):
    """What a client got.

    *rank* is None for absence.  *lag* is as the answer has it, *free* the number of a timer that is
    set without a lock on its process.  *floor* and *free_floor* are what the same client had seen
    before the read began.
    """

    client: str
    key: Key
    began_at: float
    ended_at: float
    source: str
    lag: float
    max_lag: float
    rank: int | None
    marks: tuple[str, ...]
    free: int
    floor: int
    free_floor: int
    version: int
    at_least: int


@dataclass
class Past:
    """All that happened to one process, in its order."""

    acked_at: list[float] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    removals: list[Written] = field(default_factory=list)
    free_at: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    free: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def rank_by(self, time: float) -> int:
        """Return the highest rank acknowledged by a time."""
        found = bisect_right(self.acked_at, time)
        return self.acked[found - 1] if found else 0

    def free_by(self, life: int, time: float) -> int:
        """Return the number of the free timer of a life acknowledged by a time."""
        found = bisect_right(self.free_at[life], time)
        return self.free[life][found - 1] if found else 0


class Oracle:
    """Takes what the writers say, and judges reads once all that could matter was said."""

    def __init__(self) -> None:
        self.pasts: dict[Key, Past] = defaultdict(Past)
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.versions: dict[Key, int] = {}
        self._said_until: dict[str, float] = {}
        self._written: dict[str, Written] = {}
        self._failed: set[str] = set()
        self._waiting: deque[Read] = deque()
        self._shown: set[str] = set()

    # ---- What the writers say.

    def said(self, writer: str, time: float) -> None:
        """Note that a writer has said everything up to a time."""
        self._said_until[writer] = time

    def began(self, key: Key, written: Written) -> None:
        """Note a transaction before it is sent."""
        self._written[written.mark] = written
        if is_gone(written.rank):
            self.pasts[key].removals.append(written)

    def committed(self, key: Key, mark: str, *, at: float, version: int = 0) -> None:
        """Note that a transaction was acknowledged, or found to be committed."""
        past = self.pasts[key]
        past.acked_at.append(at)
        past.acked.append(self._written[mark].rank)
        if version:
            self.versions[key] = version
        self.counts["commits"] += 1

    def failed(self, mark: str) -> None:
        """Note that a transaction was not committed, for certain."""
        self._failed.add(mark)
        self.counts["rollbacks"] += 1

    def freed(self, key: Key, life: int, number: int, *, at: float) -> None:
        """Note that a free timer was set."""
        past = self.pasts[key]
        past.free_at[life].append(at)
        past.free[life].append(number)

    # ---- What clients got.

    def fault(self, kind: str, why: str) -> None:
        """Note what is wrong by itself, whatever was written."""
        self.counts[f"VIOLATION {kind}"] += 1
        self.violations.append(f"{kind}: {why}")

    def add(self, read: Read) -> None:
        """Judge a read, soon."""
        self.counts[f"{read.client} {read.source}"] += 1
        self._waiting.append(read)

    def judge(self) -> None:
        """Judge what ended before the time up to which all writers have spoken."""
        until = min(self._said_until.values(), default=0.0)
        while self._waiting and self._waiting[0].ended_at < until:
            read = self._waiting.popleft()
            for kind, why in self._faults(read):
                self.fault(kind, f"{why}: {read}")

    def conclude(self) -> None:
        """Judge everything that is left: the writers are done."""
        self._said_until = {"all": float("inf")}
        self.judge()
        for mark in self._shown & self._failed:
            self.fault("never", f"what was rolled back was shown: {self._written[mark]}")

    @property
    def cached(self) -> int:
        """How many reads came from memory."""
        return sum(n for name, n in self.counts.items() if name.endswith(" cache"))

    def _faults(self, read: Read) -> Iterator[tuple[str, str]]:
        # What was acknowledged this long ago must be there; the client says how long.
        as_of = read.began_at - read.lag
        past = self.pasts[read.key]
        needed = past.rank_by(as_of)
        if read.lag > read.max_lag + read.ended_at - read.began_at:
            yield "stale", "the lag is over what was asked for"
        if read.rank is None:
            yield from self._faults_of_absence(read, past, needed)
            return
        if read.rank < needed:
            yield "stale", f"rank {needed} was acknowledged before"
        if read.rank < read.floor:
            yield "back", f"rank {read.floor} was seen before"
        life = read.rank // _LIFE
        if read.free < past.free_by(life, as_of):
            yield "stale", f"free timer {past.free_by(life, as_of)} was acknowledged before"
        if life == read.floor // _LIFE and read.free < read.free_floor:
            yield "back", f"free timer {read.free_floor} was seen before"
        if read.version < read.at_least:
            yield "stale", "a version was asked for"
        yield from self._faults_of_marks(read)

    def _faults_of_absence(self, read: Read, past: Past, needed: int) -> Iterator[tuple[str, str]]:
        least = max(needed, read.floor)
        if is_gone(least):
            return
        if not any(w.rank > least and w.began_at <= read.ended_at for w in past.removals):
            yield "back" if read.floor > needed else "stale", f"nothing removed it after {least}"

    def _faults_of_marks(self, read: Read) -> Iterator[tuple[str, str]]:
        for mark in read.marks:
            written = self._written.get(mark)
            if written is None or written.began_at > read.ended_at:
                yield "never", f"{mark} was not written by then"
        self._shown.update(read.marks)
