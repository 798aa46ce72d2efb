"""`pgprog namespace`, and how every command finds its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory without configuration; no development server is running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGPROG_HOME", str(tmp_path / "home"))
    return tmp_path


def test_namespaces_are_listed(terminal: Any, closed_shop: None) -> None:
    rows = terminal.json("namespace", "list")
    [_, line] = terminal.type("namespace", "list").stdout.splitlines()

    assert [row["namespace"] for row in rows] == ["orders"]
    assert line.split()[:2] == ["orders", "1"]


def test_a_database_without_namespaces_lists_none(terminal: Any) -> None:
    assert terminal.type("namespace", "list").stdout == "none\n"
    assert terminal.json("namespace", "list") == []


def test_a_namespace_is_shown_with_its_settings(terminal: Any, closed_shop: None) -> None:
    found = terminal.json("namespace", "show", "orders")
    shown = terminal.type("namespace", "show", "orders").stdout

    assert found["settings"]["numbers"] == "decimal"
    assert (found["settings_version"], found["paused_at"]) == (1, None)
    assert '"numbers": "decimal"' in shown


def test_a_namespace_that_is_not_there_is_named(terminal: Any) -> None:
    answer = terminal.type("namespace", "show", "ordres")

    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: no namespace ordres\nHint: ")


def test_the_database_is_that_of_the_environment(
    db: str, closed_shop: None, monkeypatch: pytest.MonkeyPatch, nowhere: Path
) -> None:
    monkeypatch.setenv("PGPROG_DSN", db)

    assert "orders" in CliRunner().invoke(main, ["namespace", "list"]).stdout


def test_the_database_is_that_of_the_configuration_file(
    db: str, closed_shop: None, nowhere: Path
) -> None:
    (nowhere / "pgprog.yaml").write_text(f"dsn: {db}\n")

    assert "orders" in CliRunner().invoke(main, ["namespace", "list"]).stdout


def test_a_schema_is_checked_where_the_configuration_says(db: str, nowhere: Path) -> None:
    (nowhere / "pgprog.yaml").write_text(f"dsn: host=a.pooler.invalid\ndirect_dsn: {db}\n")

    assert CliRunner().invoke(main, ["db", "check"]).exit_code == 0


def test_without_a_database_the_hint_is_to_start_one(nowhere: Path) -> None:
    answer = CliRunner().invoke(main, ["namespace", "list"])

    assert answer.exit_code == 1
    assert "Hint: `pgprog db start`" in answer.stderr


def test_a_database_that_cannot_be_reached_is_told_by_its_host_without_the_password() -> None:
    dsn = "postgresql://me:sesame@db.invalid:5432/shop"

    answer = CliRunner().invoke(main, ["process", "list", "--dsn", dsn])

    assert answer.exit_code == 1
    assert "db.invalid" in answer.stderr
    assert "sesame" not in answer.output
    assert isinstance(answer.exception, SystemExit)
