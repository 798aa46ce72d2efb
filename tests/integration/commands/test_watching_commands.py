"""`pgprog top` for programs, and `pgprog worker list`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from pgprog import Engine, Namespace, PermanentError, Step
from pgprog.cli import main
from pgprog.errors import StepFailed


def test_without_a_terminal_top_looks_once(terminal: Any, shop: Any) -> None:
    answer = terminal.type("top")
    found = terminal.json("top")

    assert answer.exit_code == 0
    assert [line for line in answer.stdout.splitlines() if line in {"namespaces", "workers"}]
    assert found["namespaces"][0]["namespace"] == "orders"
    assert found["namespaces"][0]["ended_per_second"] > 0
    assert found["workers"][0]["namespaces"] == ["orders"]


def test_top_names_a_namespace_that_nobody_serves_first(terminal: Any, shop: Any, sql: Any) -> None:
    sql.execute("select pgprog_engine._create_namespace('zoo', '{}')")
    sql.execute("select pgprog.init('zoo', 'z-1')")

    lines = terminal.type("top").stdout.splitlines()

    assert lines[2].split()[0] == "zoo"
    assert lines[2].endswith("no worker")


def test_top_names_the_errors_of_the_latest_tasks(terminal: Any, db: str) -> None:
    orders: Namespace[Any] = Namespace("orders")

    @orders.init
    async def begin(step: Step[Any]) -> None:
        raise PermanentError("no paper")

    with Engine(db, [orders]) as engine:
        with pytest.raises(StepFailed):
            engine.init("orders", "o-1")
        found = terminal.json("top")

    [failed] = found["failures"]
    assert (failed["failed"], failed["error_type"]) == (1, "PermanentError")
    assert found["namespaces"][0]["errors"] == 1


def test_workers_are_listed_with_their_leases_and_what_they_run(terminal: Any, shop: Any) -> None:
    [found] = terminal.json("worker", "list")
    [_, line] = terminal.type("worker", "list").stdout.splitlines()

    assert found["namespaces"] == ["orders"]
    assert found["running"] == 0
    assert line.split()[0] == str(found["worker_id"])


def test_a_database_without_workers_lists_none(terminal: Any) -> None:
    assert terminal.type("worker", "list").stdout == "none\n"
    assert terminal.json("worker", "list") == []


def test_a_stream_of_looks_is_a_line_each(terminal: Any, shop: Any) -> None:
    answer = CliRunner().invoke(main, ["top", "--once", "--json", "--dsn", terminal.dsn])

    assert [json.loads(line)["workers"] for line in answer.stdout.splitlines()]
