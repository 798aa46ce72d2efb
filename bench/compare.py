"""What has changed from one run to another, and how sure is that?

python -m bench.compare BEFORE AFTER    each a file of results, or the begin of a commit's name

A commit stands for the newest results that were taken of it.  Each line is the ratio of medians,
after by before, with its 95 % interval: rounds of both runs are drawn again, with replacement,
four thousand times.  Rates are compared as they are and by c32, pgbench's simple-update at 32
clients in the same round, which is what counts where the machine was another or not as quiet;
CPU is that of PostgreSQL and of the programs for one thing.  An interval that holds 1 shows no
difference; one of three rounds shows little.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.pgbench import YARDSTICK
from bench.report import pairs, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.question import Sample
    from bench.report import Rounds

_RESULTS = Path(__file__).parent / "results"
_DRAWS = 4000
_SEED = 1
_TAIL = 0.025
_HEAD = "| question | figure | before | after | ratio | 95 % from | to | |\n" + "| --- " * 8 + "|"
# Of all other figures more is neither better nor worse.
_LESS_IS_BETTER = ("CPU us", "WAL B")


class Interval(NamedTuple):
    """A ratio and what it lies between."""

    ratio: float
    least: float
    greatest: float


def main() -> None:
    """Print the comparison of two runs."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m bench.compare BEFORE AFTER")
    before, after = (find(given, _RESULTS) for given in sys.argv[1:])
    print(f"before: {before}\nafter:  {after}\n\n{table(read(before), read(after))}")


def find(given: str, results: Path) -> Path:
    """Return the file of results, or the newest of a commit.

    Raises:
        FileNotFoundError: There is none.
    """
    if Path(given).is_file():
        return Path(given)
    for path in sorted(results.glob("*.json"), reverse=True):  # by their time, in their names
        commit = str(json.loads(path.read_text())["machine"]["commit"])
        # A name of `git describe` that is no tag ends in -gCOMMIT, one of a dirty tree in -dirty.
        if given and (commit.startswith(given) or f"-g{given}" in commit):
            return path
    msg = f"{given} is no file, and no results in {results} are of a commit that begins so"
    raise FileNotFoundError(msg)


def table(before: Rounds, after: Rounds) -> str:
    """Return a line for each figure of each question that both runs have."""
    lines = [
        line
        for name, samples in before.items()
        if samples and after.get(name)
        for line in _lines(name, (samples, before), (after[name], after))
    ]
    return "\n".join((_HEAD, *lines))


def interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return the ratio of the medians, after by before, with its bootstrap interval."""
    draws = random.Random(_SEED)
    ratios = sorted(
        statistics.median(draws.choices(after, k=len(after))) / below
        for _ in range(_DRAWS)
        if (below := statistics.median(draws.choices(before, k=len(before))))
    )
    ratio = statistics.median(after) / statistics.median(before)
    last = len(ratios) - 1
    return Interval(ratio, ratios[round(_TAIL * last)], ratios[round((1 - _TAIL) * last)])


def _lines(
    name: str, before: tuple[Sequence[Sample], Rounds], after: tuple[Sequence[Sample], Rounds]
) -> list[str]:
    lines = []
    for figure, of in _figures(before[0][0]).items():
        old, new = of(*before), of(*after)
        if not old or not new or not statistics.median(old):
            continue
        found = interval(old, new)
        cells = (
            name,
            figure,
            *(f"{statistics.median(values):.4g}" for values in (old, new)),
            *(f"{value:.3f}" for value in found),
            _verdict(figure, found),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _figures(sample: Sample) -> dict[str, Callable[[Sequence[Sample], Rounds], list[float]]]:
    """Return what is compared, as functions of the samples and of all that was asked beside."""
    return {
        "a second": lambda samples, _: [each.rate for each in samples],
        "x c32": lambda samples, rounds: [
            each.rate / other.rate for each, other in pairs(samples, rounds.get(YARDSTICK, []))
        ],
        "CPU us": lambda samples, _: [
            1e6 * (each.postgres_cpu + each.client_cpu) / each.count for each in samples
        ],
        "WAL B": lambda samples, _: [each.wal_bytes / each.count for each in samples],
        **{figure: _figure(figure) for figure in sample.figures},
    }


def _figure(name: str) -> Callable[[Sequence[Sample], Rounds], list[float]]:
    return lambda samples, _: [each.figures[name] for each in samples if name in each.figures]


def _verdict(figure: str, found: Interval) -> str:
    if found.least <= 1 <= found.greatest:
        return ""
    if figure in ("a second", "x c32"):
        return "better" if found.ratio > 1 else "worse"
    if figure in _LESS_IS_BETTER or figure.endswith(" ms"):
        return "better" if found.ratio < 1 else "worse"
    return "more" if found.ratio > 1 else "less"


if __name__ == "__main__":
    main()
