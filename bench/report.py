"""The samples of a run as a table and as JSON.

python -m bench.report FILE prints the table of a run again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import spread
from bench.pgbench import COMMIT, YARDSTICK
from bench.question import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The samples of a question, in the order of the rounds; it may have had no answer in some.
Rounds = dict[str, list["Sample"]]

_HEAD = (
    "| question | a second (range) | x c32 (range) | x c32 a CPU second (range) | cores"
    " | PG us | client us | WAL B | further |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
_MICROSECONDS = 1_000_000
# Figures that are also shown in commits: pgbench's simple-update at one client in the same round.
_IN_COMMITS = ("call ms", "step ms")


def table(rounds: Rounds) -> str:
    """Return a line for each question that had an answer; ratios are taken round by round."""
    lines = [_line(name, samples, rounds) for name, samples in rounds.items() if samples]
    return "\n".join((_HEAD, *lines))


def write(path: Path, rounds: Rounds, *, machine: Mapping[str, object]) -> None:
    """Write all samples as they are, with what they were taken on."""
    raw = {
        "machine": machine,
        "questions": {
            name: [{**asdict(sample), "rate": sample.rate} for sample in samples]
            for name, samples in rounds.items()
        },
    }
    path.write_text(json.dumps(raw, indent=1) + "\n")


def read(path: Path) -> Rounds:
    """Return the samples that `write` wrote."""
    questions = json.loads(path.read_text())["questions"]
    return {
        name: [
            Sample(**{"round": number} | {k: v for k, v in sample.items() if k != "rate"})
            for number, sample in enumerate(samples)
        ]
        for name, samples in questions.items()
    }


def pairs(samples: Sequence[Sample], others: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Return the samples that were taken in the same rounds."""
    by_round = {other.round: other for other in others}
    return [(each, by_round[each.round]) for each in samples if each.round in by_round]


def _line(name: str, samples: Sequence[Sample], rounds: Rounds) -> str:
    rates = [sample.rate for sample in samples]
    beside = pairs(samples, rounds.get(YARDSTICK, []))
    costs = (
        f"{spread([_cpu(sample) * sample.rate for sample in samples]).median:.1f}",
        _median([_MICROSECONDS * sample.postgres_cpu / sample.count for sample in samples]),
        _median([_MICROSECONDS * sample.client_cpu / sample.count for sample in samples]),
        _median([sample.wal_bytes / sample.count for sample in samples]),
    )
    ratios = (
        _shown([sample.rate / each.rate for sample, each in beside], digits=2),
        _shown([_cpu(each) / _cpu(sample) for sample, each in beside if _cpu(sample)], digits=2),
    )
    further = ", ".join((*_further(samples), *_in_commits(samples, rounds.get(COMMIT, []))))
    cells = (name, _shown(rates, digits=0), *ratios, *costs, further)
    return f"| {' | '.join(cells)} |"


def _further(samples: Sequence[Sample]) -> list[str]:
    return [
        f"{figure} {spread([sample.figures[figure] for sample in samples]).median:.1f}"
        for figure in samples[0].figures
    ]


def _in_commits(samples: Sequence[Sample], commits: Sequence[Sample]) -> list[str]:
    return [
        f"{figure.removesuffix(' ms')} {_shown(ratios, digits=1)} commits"
        for figure in _IN_COMMITS
        if (
            ratios := [
                sample.figures[figure] * each.rate / 1000
                for sample, each in pairs(samples, commits)
                if figure in sample.figures
            ]
        )
    ]


def _cpu(sample: Sample) -> float:
    """Return the CPU seconds of one thing."""
    return (sample.postgres_cpu + sample.client_cpu) / sample.count


def _median(numbers: Sequence[float]) -> str:
    return f"{spread(numbers).median:.0f}"


def _shown(numbers: Sequence[float], *, digits: int) -> str:
    if not numbers:
        return ""
    found = spread(numbers)
    return f"{found.median:.{digits}f} ({found.least:.{digits}f} to {found.greatest:.{digits}f})"


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]))))
