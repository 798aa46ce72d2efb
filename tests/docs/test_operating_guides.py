"""Every command of the guides for operators prints what the guide says."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner

from pgprog import Engine, Namespace, PermanentError, Step
from pgprog.cli import main
from pgprog.store.doctor import checks

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs/how-to"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory with the shop and the configuration of the guide to settings."""
    [text] = blocks("settings.md", "yaml")
    (tmp_path / "pgprog.yaml").write_text(text)
    (tmp_path / "shop.py").write_text((ROOT / "examples/shop.py").read_text())
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("shop", None)
    sys.path[:] = [each for each in sys.path if each != str(tmp_path)]


class BankIsDown(PermanentError):  # noqa: N818 - as the guide has it
    """Nobody answers."""


@pytest.fixture
def broken_orders(fresh_db: str) -> Iterator[None]:
    """Three orders that a payment broke, while they are served, on a database with no campaign."""
    orders = Namespace("orders")

    @orders.init
    async def begin(step: Step[Any]) -> None:
        return

    @orders.call
    async def pay(step: Step[Any]) -> None:
        raise BankIsDown("no answer from the bank")

    with Engine(fresh_db, [orders]) as engine:
        for name in ("o-1", "o-2", "o-3"):
            engine.init("orders", name)
            with pytest.raises(Exception, match="no answer"):
                engine.call("orders", name, name="pay")
        yield


def blocks(guide: str, language: str) -> list[str]:
    text = (GUIDES / guide).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(guide: str) -> list[tuple[list[str], str]]:
    """Return the words of each command, and what is to be printed; dots stand for anything."""
    found = [
        re.split(r"\n", each, maxsplit=1)
        for block in blocks(guide, "console")
        for each in block.split("$ pgprog ")[1:]
    ]
    return [(shlex.split(command), printed) for command, printed in found]


def is_like(expected: str, printed: str) -> bool:
    """Tell whether this was printed, but for the width of columns."""
    expected, printed = (re.sub(" +", " ", text) for text in (expected, printed))
    parts = re.split(r" ?\.\.\.[ \n]?", expected)
    return re.fullmatch(".*?".join(map(re.escape, parts)), printed, flags=re.DOTALL) is not None


@pytest.mark.usefixtures("place")
def test_the_commands_of_the_guide_to_settings_print_what_it_says(db: str) -> None:
    for words, expected in commands("settings.md"):
        is_compared = "--differences" in words
        to_db = [] if words[0] == "config" else ["--dsn", db]
        environ = {"PGPROG_DSN": db} if is_compared else {}
        answer = CliRunner().invoke(main, [*words, *to_db], env=environ)

        assert is_like(expected, answer.output), (words, answer.output)


@pytest.mark.usefixtures("broken_orders")
def test_the_commands_of_the_guide_to_campaigns_print_what_it_says(
    fresh_db: str,
) -> None:
    for words, expected in commands("campaigns.md"):
        answer = CliRunner().invoke(main, [*words, "--dsn", fresh_db])

        assert is_like(expected, answer.output), (words, answer.output)


def test_the_commands_of_the_guide_to_the_doctor_print_what_it_says(fresh_db: str) -> None:
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        connection.execute("select pgprog_engine._create_namespace('orders', '{}')")
        connection.execute("select pgprog_engine._create_namespace('stock', '{}')")
        connection.execute("select pgprog.init('orders', 'o-1')")
        connection.execute("select pgprog.pause('stock', 'stock-taking')")

    for words, expected in commands("doctor.md"):
        answer = CliRunner().invoke(main, [*words, "--dsn", fresh_db])

        assert is_like(expected, answer.output), (words, answer.output)


def test_the_guide_to_the_doctor_names_every_check() -> None:
    text = (GUIDES / "doctor.md").read_text()

    assert [name for name, _ in checks() if f"`{name}`" not in text] == []
