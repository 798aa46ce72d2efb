"""Meters: wall time, CPU of PostgreSQL and of Python, WAL, load; and medians of samples."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import psycopg

from bench.question import Sample
from bench.server import postmaster_pid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Measures one block: what happened on the server of *dsn* and in this process's family.

    Ended children of the server count once they were waited for, so that nothing is lost with a
    connection that closes within the block.  `profiling.py` has something run *around* it.
    """

    around: ClassVar[Callable[[str], AbstractContextManager[object]]] = nullcontext

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._postmaster = postmaster_pid(dsn)

    def __enter__(self) -> Self:
        self._around = type(self).around(self._dsn)
        self._around.__enter__()
        self._wal = _wal_position(self._dsn)
        self._postgres = cpu_of_family(self._postmaster)
        self._python = cpu_of_family(os.getpid(), without=self._postmaster)
        self._began_at = time.perf_counter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = time.perf_counter() - self._began_at
        self._postgres = cpu_of_family(self._postmaster) - self._postgres
        self._python = cpu_of_family(os.getpid(), without=self._postmaster) - self._python
        self._wal = _wal_position(self._dsn) - self._wal
        self._around.__exit__(None, None, None)

    @property
    def client_cpu(self) -> float:
        """CPU seconds of all programs that ask."""
        return self._python

    def sample(
        self, count: int, *, seconds: float = 0, figures: Mapping[str, float] | None = None
    ) -> Sample:
        """Return the block as a sample of *count* things, over *seconds* where it knows better."""
        return Sample(
            count=count,
            seconds=seconds or self.seconds,
            postgres_cpu=self._postgres,
            client_cpu=self._python,
            wal_bytes=self._wal,
            load=os.getloadavg()[0],
            figures=figures or {},
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several numbers, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float


def spread(numbers: Sequence[float]) -> Spread:
    """Return the spread of at least one number."""
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def percentile(numbers: Sequence[float], share: float) -> float:
    """Return the number below which *share* of *numbers* lie, 0 where there are none."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def cpu_of_family(root: int, *, without: int = 0) -> float:
    """Return the CPU seconds of *root* and its descendants, but of those below *without*.

    The whole of /proc is walked by parent: the kernel's own lists of children are incomplete
    while children come and go.
    """
    return sum(_family(root, without=without).values())


def family(root: int) -> list[int]:
    """Return *root* and its descendants."""
    return [*_family(root, without=0)]


def children_of(parent: int) -> list[int]:
    """Return the processes that *parent* has started and that have not ended."""
    return [pid for pid in _pids() if (stat := _stat(pid)) is not None and stat[0] == parent]


def _family(root: int, *, without: int) -> dict[int, float]:
    stats = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
    found: dict[int, float] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        if pid == without or pid not in stats:
            continue
        found[pid] = stats[pid][1]
        todo += [child for child, (parent, _) in stats.items() if parent == pid]
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _stat(pid: int) -> tuple[int, float] | None:
    """Return the parent of a process and its CPU seconds with those of its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), sum(map(int, fields[11:15])) / _TICKS


def _wal_position(dsn: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0
