"""Is a trial faster than what it was tried on?  Both are asked by turns, in the same minutes.

python -m bench.turns TRIAL [--rounds N]

A trial is a patch of `trials/` with a head of two lines: `On: COMMIT` says what it changes, `Run:
python …` what asks a side for one round and writes its results.  Each side is checked out in a
directory of its own, with the libraries and the Python of this one.  What is printed is that of
`compare.py`; the samples are kept, with the commit, the name of the trial and the SHA-256 of its
file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import compare, report

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_RESULTS = Path("bench/results")
_KEPT = _ROOT / _RESULTS


class Trial(NamedTuple):
    """A patch on a commit, and what asks: the arguments of Python."""

    name: str
    patch: str
    commit: str
    asks: list[str]


def main() -> None:
    """Ask, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.turns", description=__doc__)
    parser.add_argument("trial", type=Path, help="a file of bench/trials")
    parser.add_argument("--rounds", type=int, default=6, help="how many rounds, six")
    given = parser.parse_args()
    trial = read(given.trial)
    with checked_out(trial.commit) as before, checked_out(trial.commit) as after:
        apply(trial, after)
        rounds = _by_turns(trial, before, after, rounds=given.rounds)
        kept = [
            _keep(trial, rounds[0], before, name="before"),
            _keep(trial, rounds[1], after, name="after"),
        ]
    print(f"before: {kept[0]}\nafter:  {kept[1]}\n\n{compare.table(*rounds)}")


def read(path: Path) -> Trial:
    """Read a trial.

    Raises:
        ValueError: It does not say what it changes, or how it is asked.
    """
    patch = path.read_text()
    head = re.match(r"On: (\S+)\nRun: python (.+)\n", patch)
    if head is None:
        msg = f"{path} does not begin with the lines On: COMMIT and Run: python ARGUMENTS"
        raise ValueError(msg)
    return Trial(path.stem, patch, head[1], shlex.split(head[2]))


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a directory with the files of a commit while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="turns-") as directory:
        archive = subprocess.run(
            ["git", "archive", commit], cwd=_ROOT, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", directory], check=True, input=archive.stdout)
        yield Path(directory)


def apply(trial: Trial, directory: Path) -> None:
    """Change what is checked out there."""
    command = ["git", "apply", "--unsafe-paths", f"--directory={directory}", "-"]
    subprocess.run(command, cwd=directory, check=True, input=trial.patch.encode())


def _by_turns(
    trial: Trial, before: Path, after: Path, *, rounds: int
) -> tuple[report.Rounds, report.Rounds]:
    """Ask both once a round, each first in every other one."""
    found: dict[Path, report.Rounds] = {before: {}, after: {}}
    for number in range(rounds):
        for side in (before, after) if number % 2 else (after, before):
            for question, samples in _asked(trial, side).items():
                kept = found[side].setdefault(question, [])
                kept += [replace(each, round=1000 * number + each.round) for each in samples]
        print(f"round {number + 1} of {rounds}", flush=True)
    return found[before], found[after]


def _asked(trial: Trial, directory: Path) -> report.Rounds:
    """Ask a side once."""
    known = {*(directory / _RESULTS).glob("*.json")}
    path = os.pathsep.join([str(directory / "src"), str(directory)])
    subprocess.run(
        [sys.executable, *trial.asks],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    [written] = {*(directory / _RESULTS).glob("*.json")} - known
    return report.read(written)


def _keep(trial: Trial, rounds: report.Rounds, side: Path, *, name: str) -> Path:
    """Write the samples of a side beside those of other runs."""
    newest = max((side / _RESULTS).glob("*.json"))
    stamp, _, _ = newest.stem.partition("-")
    path = _KEPT / f"{stamp}-{trial.name}-{name}.json"
    machine = json.loads(newest.read_text())["machine"]
    report.write(path, rounds, machine=machine | _origin(trial, name))
    return path


def _origin(trial: Trial, side: str) -> dict[str, str]:
    """Return what was asked, which a side cannot tell: it has no history."""
    command = ["git", "rev-parse", "--verify", f"{trial.commit}^{{commit}}"]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return {
        "commit": done.stdout.strip(),
        "trial": trial.name,
        "trial_sha256": hashlib.sha256(trial.patch.encode()).hexdigest(),
        "side": side,
    }


if __name__ == "__main__":
    main()
