"""What the comparison with peers names is there to be looked at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/comparison.md").read_text()
COMMANDS = sorted(
    {*re.findall(r"^    (make .*)$", PAGE, flags=re.MULTILINE), *re.findall(r"`(make .*?)`", PAGE)}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_is_one_of_the_makefile(command: str) -> None:
    options = "--dry-run --old-file .venv/.ready --old-file .venv-peers/.ready PEERS_PYTHON=python3"
    done = subprocess.run(
        ["bash", "-c", f"{command} {options}"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def test_each_proof_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:tests|bench)/[\w/.]+)`", PAGE)

    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_versions_are_those_that_the_bench_asks() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", _requirements(), flags=re.MULTILINE))
    rows = re.findall(r"^\| (\w+) \| (\d[\d.]+) \|", PAGE, flags=re.MULTILINE)
    packages = {"absurd": "absurd-sdk", "awa": "awa-pg"}

    assert len(rows) == 7
    for name, version in rows:
        assert pins[packages.get(name.lower(), name.lower())] == version, name


def _requirements() -> str:
    return (ROOT / "bench/peers/requirements.txt").read_text()
