"""Print what was wanted of pgprog beside what was measured, from the stored samples.

python -m bench.table [FILE]…    all files of bench/results without any

Each line comes from the newest file that has its questions: medians, with the least and the
greatest, ratios round by round.  Another machine gives other numbers: look at the load, too.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.measure import spread
from bench.pgbench import COMMIT, YARDSTICK
from bench.report import pairs, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.question import Sample
    from bench.report import Rounds

    Numbers = Callable[["Sample", "Sample"], float]

_RESULTS = Path(__file__).parent / "results"
_HEAD = (
    "| question | wanted | measured (range) | met | rounds | commit | date | load | sizes |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
_PLAIN = "plain design, claim and complete by turns"
_DRAIN = "drain, one task a process"
_START = "enqueue to start, idle worker [pgprog]"
_PINNED = "half a million tasks under a pinned xmin"
_STEADY = "ten million tasks in one run"
_IDLE = "idle worker [pgprog]"


@dataclass(frozen=True, slots=True)
class Line:
    """What is wanted of *question*: *number* of its sample and that of *beside* in the same round.

    *wanted* is the least of it, or the most where *is_most*.
    """

    what: str
    question: str
    beside: str
    number: Numbers
    unit: str
    wanted: float
    is_most: bool = False


def _times(sample: Sample, other: Sample) -> float:
    return sample.rate / other.rate


def _rate(sample: Sample, _: Sample) -> float:
    return sample.rate


def _postgres_us(sample: Sample, _: Sample) -> float:
    return 1_000_000 * sample.postgres_cpu / sample.count


def _wal(sample: Sample, _: Sample) -> float:
    return sample.wal_bytes / sample.count


def _figure(name: str) -> Numbers:
    return lambda sample, _: sample.figures[name]


def _last_to_first(what: str) -> Numbers:
    """Return what a figure of the last quarter is to that of the first."""
    return lambda sample, _: (
        sample.figures[f"last quarter {what}"] / sample.figures[f"first quarter {what}"]
    )


def _commits(name: str) -> Numbers:
    return lambda sample, commit: sample.figures[name] * commit.rate / 1000


def _c32(what: str, question: str, wanted: float) -> Line:
    return Line(what, question, YARDSTICK, _times, "x c32", wanted)


def _most(what: str, question: str, number: Numbers, unit: str, most: float) -> Line:
    return Line(what, question, question, number, unit, most, is_most=True)


def _in_commits(what: str, question: str, name: str, most: float) -> Line:
    return Line(what, question, COMMIT, _commits(name), "commits", most, is_most=True)


LINES: Final = (
    _c32("drain of ready calls, one worker", _DRAIN, 3),
    Line("drain of ready calls, one worker", _DRAIN, _PLAIN, _times, "x ceiling", 0.6),
    _c32("drain of ready calls, two processes", "drain, --processes 2", 5),
    Line(
        "drain of no-op notify tasks",
        "drain, no-op jobs [pgprog]",
        "drain, no-op jobs [pgprog]",
        _rate,
        "a second",
        15_000,
    ),
    _c32("inits", "drain, inits", 5),
    _c32("enqueue by SQL, single", "pgprog.call in SQL, 32 clients", 5),
    Line(
        "enqueue by SQL, bulk",
        "pgprog.submit_many in SQL, 1000 a statement",
        "ceiling: plain queue rows, 1000 a statement",
        _times,
        "x ceiling",
        0.7,
    ),
    _c32("in-process calls, 200 callers", "in-process calls, 200 callers", 3),
    _c32("the same with keys", "in-process calls, 200 callers, keys", 2.5),
    _c32("cross-process calls, 200 callers", "cross-process calls, 200 callers", 1.5),
    _in_commits("in-process call, one caller, p50", "in-process calls, 1 caller", "call ms", 3),
    _in_commits(
        "cross-process call, one caller, p50", "cross-process calls, 1 caller", "call ms", 6
    ),
    _in_commits("a step of one hot process", "drain, one hot process", "step ms", 1.2),
    _most(
        "5 000 timers a second beside later ones: lateness p99",
        "5 000 timers a second beside later ones",
        _figure("start p99 ms"),
        "ms",
        50,
    ),
    _most(
        "timers due at one moment: lateness p99",
        "timers due at one moment",
        _figure("start p99 ms"),
        "ms",
        200,
    ),
    Line("cached get", "get from memory", "get from memory", _rate, "a CPU second", 250_000),
    _most(
        "cached get over a Unix socket, p50",
        "get over a socket, 1 caller",
        _figure("p50 us"),
        "us",
        60,
    ),
    _most(
        "from a commit to the cache, 1 000 a second, p99",
        "hear of 1 000 commits a second",
        _figure("p99 ms"),
        "ms",
        5,
    ),
    _most("PostgreSQL's CPU of a task", _DRAIN, _postgres_us, "us", 55),
    _most("WAL of a task", _DRAIN, _wal, "bytes", 2200),
    _most("from enqueue to start, p50", _START, _figure("p50 ms"), "ms", 3.3),
    _most("from enqueue to start, p99", _START, _figure("p99 ms"), "ms", 9),
    Line(
        "under a pinned xmin, first fifth",
        _PINNED,
        _PINNED,
        _figure("first fifth x unpinned"),
        "x unpinned",
        0.5,
    ),
    Line(
        "under a pinned xmin, last fifth",
        _PINNED,
        _PINNED,
        _figure("last fifth x unpinned"),
        "x unpinned",
        0.8,
    ),
    _most(
        "ten million tasks: hot tables, last quarter",
        _STEADY,
        _last_to_first("hot MB"),
        "x first",
        1.5,
    ),
    _most(
        "ten million tasks: p99, last quarter",
        _STEADY,
        _last_to_first("p99 ms"),
        "x first",
        1.5,
    ),
    _most(
        "recovery of a killed worker's steps, lease 10 s, p99",
        "recovery, workers killed",
        _figure("p99 ms"),
        "ms",
        12_000,
    ),
    _most(
        "recovery of own child processes, p99",
        "recovery, supervised workers killed",
        _figure("p99 ms"),
        "ms",
        1000,
    ),
    _most("idle worker, statements", _IDLE, _figure("statements a second"), "a second", 2),
    _most("idle worker, memory", _IDLE, _figure("MB"), "MB", 80),
)


def main() -> None:
    """Print the table."""
    print(table([Path(name) for name in sys.argv[1:]] or sorted(_RESULTS.glob("*.json"))))


def table(files: Sequence[Path]) -> str:
    """Return the table of these files, of which the last are the newest."""
    runs = [
        (read(file), json.loads(file.read_text())["machine"] | {"kind": file.stem.split("-")[-1]})
        for file in reversed(files)
    ]
    return "\n".join((_HEAD, *(_shown(line, runs) for line in LINES)))


def _shown(line: Line, runs: Sequence[tuple[Rounds, Any]]) -> str:
    sign = "≤" if line.is_most else "≥"
    wanted = f"{sign} {line.wanted:g} {line.unit}"
    for numbers, samples, machine in _answers(line, runs):
        found = spread(numbers)
        is_met = found.median <= line.wanted if line.is_most else found.median >= line.wanted
        cells = (
            line.what,
            wanted,
            f"{found.median:.4g} ({found.least:.4g} to {found.greatest:.4g})",
            "yes" if is_met else "no",
            str(len(numbers)),
            machine.get("commit", ""),
            str(machine.get("began_at", ""))[:10],
            f"{spread([sample.load for sample in samples]).median:.1f}",
            machine["kind"],
        )
        return f"| {' | '.join(cells)} |"
    return f"| {line.what} | {wanted} | not asked |" + " |" * 6


def _answers(
    line: Line, runs: Sequence[tuple[Rounds, Any]]
) -> Iterator[tuple[list[float], list[Sample], Any]]:
    for rounds, machine in runs:
        found = pairs(rounds.get(line.question, []), rounds.get(line.beside, []))
        if found:
            numbers = [line.number(sample, other) for sample, other in found]
            yield numbers, [sample for sample, _ in found], machine


if __name__ == "__main__":
    main()
