"""Every command of the guide to settings prints what the guide says."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/how-to/settings.md").read_text()
DSN = "postgresql://app:sesame@db/orders"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory with the shop and the configuration of the guide."""
    [text] = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    (tmp_path / "pgprog.yaml").write_text(text)
    (tmp_path / "shop.py").write_text((ROOT / "examples/shop.py").read_text())
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("shop", None)
    sys.path[:] = [each for each in sys.path if each != str(tmp_path)]


def commands() -> list[tuple[list[str], str]]:
    """Return the words of each command, and what is to be printed; dots stand for anything."""
    blocks = re.findall(r"```console\n(.*?)```", GUIDE, flags=re.DOTALL)
    found = [re.split(r"\n", each, maxsplit=1) for b in blocks for each in b.split("$ pgprog ")[1:]]
    return [(shlex.split(command), printed) for command, printed in found]


def is_like(expected: str, printed: str) -> bool:
    """Tell whether this was printed, but for the width of columns."""
    expected, printed = (re.sub(" +", " ", text) for text in (expected, printed))
    parts = re.split(r" ?\.\.\.[ \n]?", expected)
    return re.fullmatch(".*?".join(map(re.escape, parts)), printed, flags=re.DOTALL) is not None


@pytest.mark.usefixtures("place")
def test_the_commands_of_the_guide_print_what_it_says(db: str) -> None:
    for words, expected in commands():
        is_compared = "--differences" in words
        to_db = [] if words[0] == "config" else ["--dsn", db]
        environ = {"PGPROG_DSN": db} if is_compared else {}
        answer = CliRunner().invoke(main, [*words, *to_db], env=environ)

        assert is_like(expected, answer.output), (words, answer.output)
