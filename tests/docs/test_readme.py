"""Every example of the README runs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from pgprog import Engine
from pgprog.cli import main
from pgprog.config import Config, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


HELLO, CLIENTS, LETTERS = blocks("python")
SQL, *_ = blocks("sql")
[YAML] = blocks("yaml")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import shop  # type: ignore[import-not-found] # noqa: PLC0415 - found in examples only

    yield shop
    del sys.modules["shop"]


@pytest.mark.slow  # starts a PostgreSQL
def test_hello_says_hello_in_at_most_fifteen_lines() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(HELLO, "README.md", "exec"), {})

    assert printed.getvalue() == "Hello Ada, you are number 1\n"
    assert (ROOT / "examples/hello.py").read_text() == HELLO
    assert len([line for line in HELLO.splitlines() if line.strip()]) <= 15


def test_the_sql_of_the_readme_runs_while_the_shop_is_served(db: str, shop: ModuleType) -> None:
    with (
        Engine(db, [shop.orders]) as engine,
        psycopg.connect(db, autocommit=True) as connection,
    ):
        *_, call, get = [s for s in SQL.split(";") if s.strip()]
        for statement in [s for s in SQL.split(";") if s.strip()][:-2]:
            connection.execute(statement.encode())
        [[task_id]] = connection.execute(call.encode()).fetchall()
        assert engine.wait(task_id, timeout=5) == "5.50"
        [[process]] = connection.execute(get.encode()).fetchall()

    assert process["state"] == {"due": "10", "paid": "4.50"}
    assert len(process["history"]) == 2


def test_the_clients_of_the_readme_get_their_answers(
    db: str, shop: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    exec(compile(CLIENTS, "README.md", "exec"), names)
    asyncio.run(names["main"](db))

    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "5.50"
    assert second.startswith("0.00 ")
    assert "finished" in third


def test_a_handler_of_the_readme_inserts_in_the_commit_of_its_step(db: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(LETTERS, "README.md", "exec"), names)
    with psycopg.connect(db, autocommit=True) as connection:
        connection.execute("create table public.outgoing (address text)")
        try:
            with Engine(db, [names["letters"]]) as engine:
                engine.init("letters", "l", {"to": "ada@example.com"})
            sent = connection.execute("select address from outgoing").fetchall()
        finally:
            connection.execute("drop table public.outgoing")

    assert sent == [("ada@example.com",)]


def test_the_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "pgprog.yaml"
    path.write_text(YAML)

    config = load(path, environ={})

    assert isinstance(config, Config)
    assert set(config.namespaces) == set(yaml.safe_load(YAML)["namespaces"])


def test_the_commands_of_the_readme_are_done_while_the_shop_is_served(
    db: str, shop: ModuleType
) -> None:
    section = README.partition("## From the command line")[2].partition("\n## ")[0]
    with Engine(db, [shop.orders]):
        answers = [
            CliRunner().invoke(main, [*shlex.split(line), "--dsn", db])
            for line in re.findall(r"^    pgprog (.*)$", section, flags=re.MULTILINE)
        ]

    assert [answer.exit_code for answer in answers] == [0] * 9
    assert answers[1].stdout == '"5.50"\n'


def test_the_readme_names_every_extra_that_users_may_want() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"pgprog\[(\w+)\]", README))

    assert set(project["optional-dependencies"]) - {"check", "test"} <= named
