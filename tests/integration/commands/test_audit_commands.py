"""`pgprog audit list`: who did what, by the command line and by a client."""

from __future__ import annotations

from typing import Any

from pgprog import Client


def test_what_was_done_by_commands_and_by_a_client_is_listed(
    terminal: Any, closed_shop: None, db: str
) -> None:
    terminal.type("namespace", "pause", "orders", "--reason", "stock-taking")
    terminal.type("namespace", "resume", "orders")
    with Client(db) as client:
        task = client.submit("init", "orders", "o-9", {"card": "4711-sesame"})
        client.cancel(task.task_id)
    rows = terminal.json("audit", "list", "--namespace", "orders")
    shown = terminal.type("audit", "list", "--action", "pause").stdout

    assert [row["action"] for row in rows] == ["cancel", "resume", "pause"]
    assert (rows[0]["process_id"], rows[0]["task_id"]) == ("o-9", task.task_id)
    assert [row["application"] for row in rows[:2]] == ["pgprog client", "pgprog command"]
    assert rows[2]["details"] == {"reason": "stock-taking"}
    assert "stock-taking" in shown
    assert "cancel" not in shown
    assert "sesame" not in str(rows)


def test_the_audit_of_a_namespace_that_is_not_there_is_refused(terminal: Any) -> None:
    answer = terminal.type("audit", "list", "--namespace", "ordres")

    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: no namespace ordres\n")


def test_a_time_and_a_process_bound_what_is_listed(terminal: Any, closed_shop: None) -> None:
    terminal.type("namespace", "pause", "orders")

    assert terminal.json("audit", "list", "--since", "2099-01-01T00:00Z") == []
    assert terminal.json("audit", "list", "--process", "o-1") == []
    assert len(terminal.json("audit", "list", "--limit", "1")) == 1
