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


def test_a_paused_namespace_starts_nothing_and_says_why(terminal: Any, shop: Any) -> None:
    answer = terminal.type("namespace", "pause", "orders", "--reason", "stock-taking")
    called = terminal.json("process", "call", "orders", "o-1", "--name", "echo", "--no-wait")
    explained = terminal.json("process", "explain", "orders", "o-1")

    assert (answer.exit_code, answer.stdout) == (0, "namespace orders is paused\n")
    shown = terminal.json("namespace", "show", "orders")
    [noted] = terminal.json("audit", "list")
    assert (shown["pause_reason"], shown["paused_by"]) == ("stock-taking", noted["login"])
    assert explained["reason"] == "paused"
    assert explained["details"]["task_id"] == called["task_id"]


def test_a_resumed_namespace_goes_on_with_what_waited(terminal: Any, shop: Any) -> None:
    terminal.type("namespace", "pause", "orders")
    task = shop.submit("call", "orders", "o-1", 5, name="echo")

    answer = terminal.type("namespace", "resume", "orders")

    assert (answer.exit_code, answer.stdout) == (0, "namespace orders is resumed\n")
    assert task.wait(timeout=5) == 5


def test_workers_are_told_of_a_resumed_namespace_at_once(
    terminal: Any, closed_shop: None, session: Any
) -> None:
    listening = session()
    listening.execute("listen pgprog_due")
    terminal.type("namespace", "pause", "orders")

    terminal.type("namespace", "resume", "orders")

    heard = [note.payload for note in listening.notifies(timeout=5, stop_after=1)]
    assert heard == ["orders"]


def test_pausing_and_resuming_may_be_repeated(terminal: Any, closed_shop: None) -> None:
    paused = [terminal.json("namespace", "pause", "orders")["was_running"] for _ in range(2)]
    resumed = [terminal.json("namespace", "resume", "orders")["was_paused"] for _ in range(2)]
    shown = terminal.type("namespace", "resume", "orders").stdout

    assert (paused, resumed) == ([True, False], [True, False])
    assert shown == "namespace orders was not paused\n"


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_namespace_that_is_not_there_is_neither_paused_nor_resumed(
    terminal: Any, command: str
) -> None:
    answer = terminal.type("namespace", command, "ordres")

    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: no namespace ordres")


@pytest.mark.parametrize("reason", ["a\0b", "a\udcff", "a" * 2000])
def test_a_reason_that_the_database_cannot_hold_is_refused(
    terminal: Any, closed_shop: None, reason: str
) -> None:
    answer = terminal.type("namespace", "pause", "orders", "--reason", reason)

    assert answer.exit_code == 2
    assert "reason" in answer.stderr
    assert terminal.json("namespace", "show", "orders")["paused_at"] is None


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


def test_what_is_not_there_comes_with_where_to_look(terminal: Any, closed_shop: None) -> None:
    namespace = terminal.type("process", "call", "ordres", "o-1", "--name", "echo")
    process = terminal.type("process", "explain", "orders", "o-9")

    assert "Hint: the first worker that serves it makes it" in namespace.stderr
    assert "Hint: `pgprog process list --namespace" in process.stderr


def test_a_role_that_may_not_is_told_in_a_sentence(terminal: Any, sql: Any, db: str) -> None:
    sql.execute("drop role if exists nobody_here")
    sql.execute("create role nobody_here login")
    answer = CliRunner().invoke(main, ["namespace", "list", "--dsn", f"{db} user=nobody_here"])
    sql.execute("drop role nobody_here")

    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: permission denied for schema pgprog\nHint: use another")
