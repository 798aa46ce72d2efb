"""`pgprog namespace purge`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.errors import TaskCancelled

if TYPE_CHECKING:
    import psycopg

ROWS = """
select (select count(*) from pgprog.processes), (select count(*) from pgprog.tasks),
  (select count(*) from pgprog_data.events)
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
