"""`pgprog namespace purge`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pgprog.cli import namespace_purge
from pgprog.errors import TaskCancelled

ROWS = """
select (select count(*) from pgprog.processes), (select count(*) from pgprog.tasks),
  (select count(*) from pgprog_data.events)
"""
HOLD = """
set idle_in_transaction_session_timeout = '700ms';
begin;
select from pgprog_data.processes for update;
"""


@pytest.mark.slow  # answers stay for two seconds
def test_a_purge_leaves_nothing_and_tells_who_waits(
    terminal: Any, shop: Any, sql: psycopg.Connection[Any]
) -> None:
    terminal.type("namespace", "pause", "orders")
    task = shop.submit("call", "orders", "o-1", 5, name="echo")

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(task.wait, timeout=20)
        answer = terminal.json("namespace", "purge", "orders", "--yes")

        with pytest.raises(TaskCancelled, match="removed"):
            waiting.result()
    assert answer["namespace"] == "orders"
    assert sql.execute(ROWS).fetchone() == (0, 0, 0)


def test_a_namespace_that_runs_is_purged_only_when_told_so(
    terminal: Any, closed_shop: None
) -> None:
    refused = terminal.type("namespace", "purge", "orders", "--yes")
    assert refused.exit_code == 1
    assert "namespace orders is not paused\nHint: " in refused.stderr


def test_a_purge_asks_first_and_says_what_there_is(
    terminal: Any, closed_shop: None, sql: psycopg.Connection[Any]
) -> None:
    answer = terminal.type("namespace", "purge", "orders", "--pause", stdin="n\n")

    assert answer.exit_code == 1
    assert "0 open tasks and 1 timers" in answer.stderr
    assert terminal.json("namespace", "show", "orders")["paused_at"] is None
    assert sql.execute("select count(*) from pgprog.processes").fetchone() == (1,)


@pytest.mark.slow  # answers stay for two seconds
def test_a_purge_that_waits_for_an_open_transaction_says_so_and_goes_on(
    terminal: Any, closed_shop: None, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace_purge, "_SILENT_SECONDS", 0.3)
    terminal.type("namespace", "pause", "orders")
    with closing(psycopg.connect(db, autocommit=True)) as stranger:
        stranger.execute(HOLD)
        answer = terminal.type("namespace", "purge", "orders", "--yes")

    assert answer.exit_code == 0
    assert "`pgprog doctor --only locks,transactions --long 0s` says who" in answer.stderr
