"""Break the guards of the SQL and of the Python one by one and expect their tests to fail.

python tools/mutants.py [word of a mutant's name or file, as .py]…

A mutant is an entry of tests/mutants/*.toml: `name` says what is broken, `file` is below sql/, or
below src/ where it ends in .py, `edits` are pairs of old and new text, `tests` must all fail; one
that cannot be imported, is skipped or fails before it begins has shown nothing.  The
broken function is laid over the migrated database of a test run of its own, the broken module
stands in a copy of the package that the run imports: no file of sql/ and src/ is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOBS = 2
_ENDED = re.compile(
    r"^(?P<how>FAILED|PASSED) \S+?::(?P<test>\w+)(?:\[.*?\])?(?: - (?P<reason>.*))?$", re.MULTILINE
)
_ERROR = re.compile(r"^(?:ERROR|SKIPPED|Command|ImportError).*$", re.MULTILINE)
# A mutant that PostgreSQL or Python cannot run shows nothing about the tests.
_NONSENSE = re.compile(
    r"errors\.(Syntax|Undefined|Ambiguous|DatatypeMismatch|InvalidColumn)"
    r"|^(Syntax|Indentation|Name|UnboundLocal|Import|ModuleNotFound)Error"
)
_RUN_SECONDS = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A guard taken away, and the tests that must notice."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    @property
    def is_python(self) -> bool:
        """Whether a module is broken, not a function of the database."""
        return self.file.endswith(".py")

    def text(self) -> str:
        """Return the file with its guard taken away.

        Raises:
            ValueError: An old text is not there, or more than once.
        """
        text = Path("src" if self.is_python else "sql", self.file).read_text()
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
        if not words or any(word in f"{mutant.name} {mutant.file}" for word in words)
    ]
    with ExitStack() as stack:
        if "PGPROG_TEST_DSN" not in os.environ:
            server = stack.enter_context(EmbeddedPostgres(durable=False))
            os.environ["PGPROG_TEST_DSN"] = server.dsn
            stack.callback(os.environ.pop, "PGPROG_TEST_DSN")
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        jobs = stack.enter_context(ThreadPoolExecutor(_JOBS))
        faults = 0
        verdicts = jobs.map(judge, mutants, repeat(Path(directory)), repeat(files_of_tests()))
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


def files_of_tests() -> dict[str, str]:
    """Return the file of each test, by its name."""
    return {
        name: str(path)
        for path in sorted(Path("tests").rglob("test_*.py"))
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def judge(mutant: Mutant, directory: Path, files: dict[str, str]) -> tuple[str, list[str]]:
    """Run the tests of a mutant; return what is wrong with it, or nothing, and its killers."""
    try:
        text = mutant.text()
    except ValueError as e:
        return str(e), []
    if unknown := [test for test in mutant.tests if test not in files]:
        return f"no such test: {', '.join(unknown)}", []
    output = run(mutant, text, [f"{files[test]}::{test}" for test in mutant.tests], directory)
    return verdict(mutant.tests, output)


def verdict(tests: Sequence[str], output: str) -> tuple[str, list[str]]:
    """Return what pytest's *output* says against a mutant, or nothing, and what killed it."""
    ended = [*_ENDED.finditer(output)]
    reasons = {each["test"]: each["reason"] or "" for each in ended if each["how"] == "FAILED"}
    killers = [f"{test}: {reason[:100]}" for test, reason in reasons.items()]
    if nonsense := next(filter(_NONSENSE.search, reasons.values()), None):
        return f"cannot run: {nonsense}", killers
    alive = [test for test in tests if test not in reasons]
    passed = {each["test"] for each in ended if each["how"] == "PASSED"}
    if dumb := [test for test in alive if test not in passed]:
        error = next(iter(_ERROR.findall(output)), "pytest does not say why")
        return f"did not run: {', '.join(dumb)}: {error[:200]}", killers
    return f"SURVIVED {', '.join(alive)}" if alive else "", killers


def run(mutant: Mutant, text: str, tests: list[str], directory: Path) -> str:
    """Run tests with this text in the place of the mutant's file; return what pytest says."""
    place = Path(tempfile.mkdtemp(dir=directory))
    options = ["-q", "--tb=no", "-rfEps", "--timeout=40", "-p", "no:cacheprovider"]
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            env=os.environ | {"COLUMNS": "400"} | lay_out(mutant, text, place),
            capture_output=True,
            text=True,
            check=False,
            timeout=_RUN_SECONDS,
        )
    except subprocess.TimeoutExpired as e:
        return str(e)
    finally:
        shutil.rmtree(place)
    return finished.stdout + finished.stderr


def lay_out(mutant: Mutant, text: str, place: Path) -> dict[str, str]:
    """Put the broken file where a test run finds it; return the environment that points there."""
    if not mutant.is_python:
        path = place / "mutant.sql"
        path.write_text(text)
        return {"PGPROG_TEST_MUTANT": str(path)}
    shutil.copytree("src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "sql").symlink_to(Path("sql").absolute())
    (place / "src" / mutant.file).write_text(text)
    # Before the editable installation; the programs that tests start inherit it.
    return {"PYTHONPATH": str(place / "src")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
