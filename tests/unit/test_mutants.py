"""Mutants are aimed at text that is there, and killed by tests that are there."""

from __future__ import annotations

from pathlib import Path

from tools.mutants import files_of_tests, read_mutants


def test_each_mutant_finds_its_text_once_and_its_tests() -> None:
    files, adrift = files_of_tests(), []
    for mutant in read_mutants(Path("tests/mutants")):
        adrift += [f"{mutant.name}: no test {name}" for name in mutant.tests if name not in files]
        try:
            mutant.text()
        except ValueError as e:
            adrift.append(f"{mutant.name}: {e}")

    assert not adrift
