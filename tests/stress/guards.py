"""Take the guards of the cache away one by one: python -m tests.stress.guards [word…].

Each mutant of tests/mutants/cache.toml runs the stress until its first violation, in a copy of the
package, for `--seconds` at most; the table says how soon it was seen, and by which fault.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.mutants import Mutant, lay_out, read_mutants

_FOUND = re.compile(r"first violation after ([\d.]+) s")
_KIND = re.compile(r"^ +\d+  VIOLATION (\w+)$", re.MULTILINE)


def main() -> int:
    """Print how soon the loss of each guard is seen; 1 where one is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.guards", description=__doc__)
    parser.add_argument("words", nargs="*", help="of the names of mutants")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    unseen = 0
    for mutant in read_mutants(Path("tests/mutants")):
        if mutant.name.startswith("cache: ") and (
            not given.words or any(word in mutant.name for word in given.words)
        ):
            seen = _seen(mutant, seconds=given.seconds, seed=given.seed)
            unseen += not seen
            print(f"{seen or 'not seen':24}  {mutant.name}", flush=True)
    return 1 if unseen else 0


def _seen(mutant: Mutant, *, seconds: float, seed: int) -> str:
    """Return after how many seconds a run without this guard went wrong, and how."""
    with tempfile.TemporaryDirectory() as place:
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "tests.stress", "--hasty", "--pause", "0.8"),
                *("--seconds", str(seconds), "--seed", str(seed)),
            ],
            env=os.environ | lay_out(mutant, mutant.text(), Path(place)),
            capture_output=True,
            text=True,
            check=False,
        )
    found = _FOUND.search(finished.stdout)
    kinds = _KIND.findall(finished.stdout)
    if found:
        return f"{found[1]:>6} s  {', '.join(kinds)}"
    return f"at the end: {', '.join(kinds)}" if kinds else ""


if __name__ == "__main__":
    sys.exit(main())
