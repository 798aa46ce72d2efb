"""`pgprog task`, as a person or a script types it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture
def waiting(terminal: Any, closed_shop: None) -> str:
    """The id of a call that nobody will run."""
    found = terminal.json("process", "call", "orders", "o-1", "--name", "echo", "--no-wait")
    return str(found["task_id"])


def test_tasks_are_listed_the_newest_first(terminal: Any, shop: Any) -> None:
    task_id = shop.notify("orders", "o-1", name="note").task_id
    shop.call("orders", "o-1", name="echo")

    head, *lines = terminal.type("task", "list").stdout.splitlines()

    assert head.split()[:4] == ["TASK_ID", "NAMESPACE", "PROCESS_ID", "TYPE"]
    assert [line.split()[3:5] for line in lines] == [
        ["call", "echo"],
        ["notify", "note"],
        ["timeout", "expiry"],
        ["init", "-"],
    ]
    assert lines[1].split()[0] == str(task_id)
    assert "in 2d" in lines[2]


@pytest.mark.parametrize(
    ("words", "types"),
    [
        (["--type", "timeout"], ["timeout"]),
        (["--status", "finished"], ["init"]),
        (["--process", "o-9"], []),
        (["--namespace", "orders", "--limit", "1"], ["timeout"]),
    ],
)
def test_a_list_of_tasks_is_narrowed_by_its_options(
    terminal: Any, closed_shop: None, words: list[str], types: list[str]
) -> None:
    rows = terminal.json("task", "list", *words)

    assert [row["type"] for row in rows] == types


def test_a_task_is_shown_with_its_answer(terminal: Any, shop: Any) -> None:
    task_id = str(
        terminal.json("process", "call", "orders", "o-1", "[7]", "--name", "echo")["task_id"]
    )

    found = terminal.json("task", "show", task_id)
    shown = terminal.type("task", "show", task_id).stdout

    assert (found["status"], found["response"], found["error"]) == ("finished", [7], None)
    assert "finished" in shown
    assert "response" in shown


def test_a_failed_task_is_shown_with_its_error(terminal: Any, shop: Any) -> None:
    answer = terminal.json("process", "call", "orders", "o-1", "--name", "break", code=3)

    found = terminal.json("task", "show", str(answer["task_id"]))

    assert found["error"]["detail"] == "no paper"
    assert found["error"] == answer["error"]


def test_waiting_for_a_task_ends_as_a_call_would(terminal: Any, shop: Any) -> None:
    words = ("process", "call", "orders", "o-1", "--no-wait", "--name")
    good = str(terminal.json(*words, "echo")["task_id"])
    bad = str(terminal.json(*words, "refuse")["task_id"])

    answer = terminal.type("task", "wait", good)
    rejected = terminal.type("task", "wait", bad)

    assert (answer.exit_code, answer.stdout) == (0, "null\n")
    assert rejected.exit_code == 3


def test_a_wait_that_is_too_short_has_an_exit_code_of_its_own(terminal: Any, waiting: str) -> None:
    answer = terminal.type("task", "wait", waiting, "--timeout", "50ms")

    assert answer.exit_code == 4
    assert f"task {waiting} has not ended in time" in answer.stderr


def test_a_task_is_cancelled_after_a_yes(terminal: Any, waiting: str) -> None:
    answer = terminal.type("task", "cancel", waiting, stdin="y\n")
    waited = terminal.type("task", "wait", waiting)

    assert answer.exit_code == 0
    assert (
        f"task {waiting}, call echo of process o-1 in namespace orders, is waiting" in answer.stderr
    )
    assert answer.stdout == f"task {waiting} is cancelled\n"
    assert waited.exit_code == 3
    assert "cancelled" in waited.stderr


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_a_task_is_not_cancelled_without_a_yes(terminal: Any, waiting: str, typed: str) -> None:
    answer = terminal.type("task", "cancel", waiting, stdin=typed)

    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert terminal.json("task", "show", waiting)["status"] == "waiting"


@pytest.mark.slow  # an interpreter is started
def test_ctrl_c_at_the_question_cancels_nothing(terminal: Any, waiting: str) -> None:
    words = ("-m", "pgprog", "task", "cancel", waiting, "--dsn", terminal.dsn)
    asking = subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert asking.stderr is not None
    asked = b""
    while b"Cancel it?" not in asked:
        asked += os.read(asking.stderr.fileno(), 1000)
    asking.send_signal(signal.SIGINT)
    _, complained = asking.communicate()

    assert asking.returncode == 130
    assert b"Aborted" not in complained
    assert terminal.json("task", "show", waiting)["status"] == "waiting"


def test_a_script_cancels_without_being_asked(terminal: Any, waiting: str) -> None:
    done = terminal.json("task", "cancel", waiting, "--yes")
    again = terminal.json("task", "cancel", waiting, "--yes", code=1)

    assert done == {"task_id": int(waiting), "cancelled": True}
    assert again == {"task_id": int(waiting), "cancelled": False}


def test_cancelling_an_init_takes_its_process_away(terminal: Any, closed_shop: None) -> None:
    made = terminal.json("process", "init", "orders", "o-2", "--no-wait")

    terminal.json("task", "cancel", str(made["task_id"]), "--yes")

    assert terminal.type("process", "get", "orders", "o-2").exit_code == 1


@pytest.mark.parametrize("command", ["show", "wait", "cancel"])
def test_a_task_that_is_not_there_is_named(terminal: Any, command: str) -> None:
    answer = terminal.type("task", command, "99999")

    assert answer.exit_code == 1
    assert "99999" in answer.stderr


@pytest.mark.parametrize("task_id", ["0", "9223372036854775808", "one"])
def test_what_is_no_task_id_is_a_fault_of_the_command_line(terminal: Any, task_id: str) -> None:
    assert terminal.type("task", "show", task_id).exit_code == 2
