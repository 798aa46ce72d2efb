"""The table of exit codes that `pgprog --help` prints, each provoked."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from pgprog.cli import main


def test_the_exit_codes_of_the_help_are_those_that_commands_end_with(
    terminal: Any, shop: Any, sql: Any
) -> None:
    call = ("process", "call", "orders", "o-1", "--name")
    shop.submit("notify", "orders", "o-1", name="note").wait(timeout=10)
    terminal.type("namespace", "pause", "orders")
    sql.execute("select pgprog_engine._create_namespace('zoo', '{}')")
    sql.execute("select pgprog.init('zoo', 'z-1')")
    ends = {
        0: terminal.type("namespace", "list"),
        1: terminal.type("process", "get", "orders", "none"),
        2: terminal.type("process", "get", "orders"),
        4: terminal.type(*call, "echo", "--timeout", "100ms"),
        5: terminal.type("doctor", "--only", "paused", "--long", "0s"),
        6: terminal.type("doctor", "--only", "workers"),
    }
    terminal.type("namespace", "resume", "orders")
    ends[3] = terminal.type(*call, "refuse")

    told = (main.help or "").partition("Exit codes:")[2]
    assert {code: answer.exit_code for code, answer in ends.items()} == {c: c for c in ends}
    assert [int(line.split()[0]) for line in told.splitlines() if line.strip()[:1].isdigit()] == [
        *range(7),
        130,
    ]


def test_several_workers_that_would_each_be_the_reader_of_a_machine_are_refused() -> None:
    words = ["worker", "--dsn", "dbname=none", "--processes", "2", "--only", "steps,reader"]
    answer = CliRunner().invoke(main, words)

    assert answer.exit_code == 1
    assert "a machine has one reader" in answer.stderr
    assert "pgprog worker --only reader" in answer.stderr
