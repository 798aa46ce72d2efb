"""Break the guards of the SQL functions one by one and expect the tests that name them to fail.

python tools/mutants.py [word of a mutant's name]…

A mutant is an entry of tests/mutants/*.toml: `name` says what is broken, `file` is below sql/,
`edits` are pairs of old and new text, `tests` must all fail.  The broken function is laid over the
migrated database of a test run of its own; no file of sql/ is touched.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from pgprog.embedded import EmbeddedPostgres

_JOBS = 2
_FAILED = re.compile(
    r"^FAILED (?P<file>\S+)::(?P<test>\w+)(?:\[.*?\])? - (?P<reason>.*)$", re.MULTILINE
)
# A mutant that PostgreSQL cannot run shows nothing about the tests.
_NONSENSE = re.compile(r"errors\.(Syntax|Undefined|Ambiguous|DatatypeMismatch|InvalidColumn)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A guard taken away, and the tests that must notice."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    def text(self) -> str:
        """Return the file with its guard taken away.

        Raises:
            ValueError: An old text is not there, or more than once.
        """
        text = Path("sql", self.file).read_text()
        for old, new in self.edits:
            if text.count(old) != 1:
                message = f"{text.count(old)} times in {self.file}, once is needed: {old.strip()}"
                raise ValueError(message)
            text = text.replace(old, new)
        return text


def main(words: list[str]) -> int:
    """Print a table of the mutants and what killed them; return the exit code."""
    mutants = [
        mutant
        for mutant in read_mutants(Path("tests/mutants"))
        if not words or any(word in mutant.name for word in words)
    ]
    with ExitStack() as stack:
        if "PGPROG_TEST_DSN" not in os.environ:
            server = stack.enter_context(EmbeddedPostgres(durable=False))
            os.environ["PGPROG_TEST_DSN"] = server.dsn
            stack.callback(os.environ.pop, "PGPROG_TEST_DSN")
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        jobs = stack.enter_context(ThreadPoolExecutor(_JOBS))
        faults = 0
        verdicts = jobs.map(judge, mutants, repeat(Path(directory)), repeat(test_files()))
        for mutant, (fault, killers) in zip(mutants, verdicts, strict=True):
            print(f"{'FAULT' if fault else 'dead':5}  {mutant.name}", flush=True)
            print("".join(f"         {line}\n" for line in [fault, *killers] if line), end="")
            faults += bool(fault)
    print(f"{len(mutants)} mutants, {faults} faults")
    return 1 if faults or not mutants else 0


def read_mutants(directory: Path) -> list[Mutant]:
    """Return all mutants, by file and in the order in which they stand there."""
    return [
        Mutant(
            name=entry["name"],
            file=entry["file"],
            edits=tuple((old, new) for old, new in entry["edits"]),
            tests=tuple(entry["tests"]),
        )
        for path in sorted(directory.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["mutant"]
    ]


def test_files() -> dict[str, str]:
    """Return the file of each test of the SQL, by its name."""
    return {
        name: str(path)
        for path in sorted(Path("tests/sql").glob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def judge(mutant: Mutant, directory: Path, files: dict[str, str]) -> tuple[str, list[str]]:
    """Run the tests of a mutant; return what is wrong with it, or nothing, and its killers."""
    try:
        text = mutant.text()
    except ValueError as e:
        return str(e), []
    if unknown := [test for test in mutant.tests if test not in files]:
        return f"no such test: {', '.join(unknown)}", []
    output = run(text, [f"{files[test]}::{test}" for test in mutant.tests], directory)
    reasons = {found["test"]: found["reason"] for found in _FAILED.finditer(output)}
    killers = [f"{test}: {reason[:100]}" for test, reason in reasons.items()]
    if nonsense := next(filter(_NONSENSE.search, reasons.values()), None):
        return f"cannot run: {nonsense}", killers
    survived = [test for test in mutant.tests if test not in reasons]
    return f"SURVIVED {', '.join(survived)}" if survived else "", killers


def run(text: str, tests: list[str], directory: Path) -> str:
    """Run tests on a database with this SQL laid over it; return what pytest says."""
    with tempfile.NamedTemporaryFile("w", dir=directory, suffix=".sql", delete=False) as file:
        file.write(text)
    environment = os.environ | {"PGPROG_TEST_MUTANT": file.name, "COLUMNS": "400"}
    options = ["-q", "--tb=no", "-rf", "--timeout=40", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
