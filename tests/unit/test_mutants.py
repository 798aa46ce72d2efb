"""Mutants are aimed at text that is there, and killed by tests that are there and run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.mutants import Mutant, files_of_tests, judge, read_mutants

HARMLESS = Mutant(name="nothing", file="pgprog/errors.py", edits=(), tests=("test_it",))


def test_each_mutant_finds_its_text_once_and_its_tests() -> None:
    files, adrift = files_of_tests(), []
    for mutant in read_mutants(Path("tests/mutants")):
        adrift += [f"{mutant.name}: no test {name}" for name in mutant.tests if name not in files]
        try:
            mutant.text()
        except ValueError as e:
            adrift.append(f"{mutant.name}: {e}")

    assert not adrift


@pytest.mark.slow  # pytest runs in a program of its own
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def test_it(): assert 0", ""),
        ("def test_it(): pass", "SURVIVED test_it"),
        ("import nowhere\ndef test_it(): assert 0", "did not run: test_it: ERROR "),
        ("def test_it(nothing): assert 0", "did not run: test_it: ERROR "),
        ("def test_other(): assert 0", "did not run: test_it: ERROR"),
        ("import pytest\ndef test_it(): pytest.skip()", "did not run: test_it: SKIPPED "),
    ],
)
def test_a_mutant_is_dead_by_a_test_that_ran_and_failed_only(
    text: str, fault: str, tmp_path: Path
) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(text)

    found, killers = judge(HARMLESS, tmp_path, {"test_it": str(test)})

    assert found.startswith(fault)
    assert bool(found) is bool(fault)
    assert [killer.partition(":")[0] for killer in killers] == ([] if fault else ["test_it"])
