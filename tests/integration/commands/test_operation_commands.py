"""`pgprog process repair`, `simple-repair`, `put`, `remove` and `explain`, as they are typed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgprog.errors import StepFailed

DIGITS = "12345678901234567890.12345678901234567890"
O_1 = ("orders", "o-1")


@pytest.fixture
def broken_by_a_call(shop: Any) -> Any:
    """The shop where a call has broken o-1."""
    with pytest.raises(StepFailed):
        shop.call(*O_1, name="break")
    return shop


@pytest.fixture
def broken_by_a_notification(shop: Any) -> Any:
    """The shop where a notification, which fails while o-1 is due by 10, has broken o-1."""
    with pytest.raises(StepFailed):
        shop.notify(*O_1, "broken", name="note").wait(timeout=5)
    return shop


def test_a_repair_prints_the_answer_of_its_handler(terminal: Any, broken_by_a_call: Any) -> None:
    answer = terminal.type("process", "repair", *O_1, "[7]", "--name", "mend")

    assert (answer.exit_code, answer.stdout) == (0, "[\n  7\n]\n")
    assert terminal.json("process", "get", *O_1)["status"] == "running"


def test_a_repair_that_fails_changes_nothing(terminal: Any, broken_by_a_call: Any) -> None:
    before = terminal.json("process", "get", *O_1)
    answer = terminal.type("process", "repair", *O_1, "--name", "mend")

    assert answer.exit_code == 3
    assert "mend it with what?" in answer.stderr
    assert terminal.json("process", "get", *O_1) == before


def test_a_repair_is_repeated_by_its_key(terminal: Any, broken_by_a_call: Any) -> None:
    words = ("process", "repair", *O_1, "1", "--name", "mend", "--key", "k", "--no-wait")

    first = terminal.json(*words)
    terminal.type("task", "wait", str(first["task_id"]))

    assert terminal.json(*words) == first


@pytest.mark.parametrize("command", ["repair", "simple-repair"])
def test_a_process_that_is_not_in_error_is_not_repaired(
    terminal: Any, closed_shop: None, command: str
) -> None:
    answer = terminal.type("process", command, *O_1)

    assert answer.exit_code == 1
    assert "process o-1 in namespace orders is running, not in error" in answer.stderr


def test_a_simple_repair_tries_again_what_failed_and_prints_its_answer(
    terminal: Any, broken_by_a_notification: Any, session: Any
) -> None:
    session().execute("""update pgprog_data.processes set state = '{"due": 9}'""")

    answer = terminal.type("process", "simple-repair", *O_1)

    assert (answer.exit_code, answer.stdout) == (0, "null\n")
    assert terminal.json("process", "get", *O_1)["status"] == "running"


def test_a_simple_repair_of_a_world_that_is_still_broken_says_so(
    terminal: Any, broken_by_a_notification: Any
) -> None:
    answer = terminal.type("process", "simple-repair", *O_1)

    assert answer.exit_code == 3
    assert "no ink" in answer.stderr


def test_a_simple_repair_prints_its_task_without_waiting(
    terminal: Any, broken_by_a_notification: Any
) -> None:
    words = ("process", "simple-repair", *O_1, "--key", "k", "--no-wait")

    first = terminal.json(*words)
    again = terminal.type(*words)

    assert again.stdout == f"task {first['task_id']}\n"


def test_a_simple_repair_after_a_failed_call_tries_nothing_again(
    terminal: Any, broken_by_a_call: Any
) -> None:
    shown = terminal.type("process", "simple-repair", *O_1, "--key", "k")
    printed = terminal.json("process", "simple-repair", *O_1, "--key", "k")

    assert shown.stdout == "process o-1 in namespace orders is mended; a call had failed\n"
    assert printed == {"task_id": None}
    assert terminal.json("process", "get", *O_1)["status"] == "running"


def test_a_process_that_was_printed_can_be_put_back(terminal: Any, closed_shop: None) -> None:
    first = terminal.json("process", "get", *O_1, "--events", "9")
    first["state"] = {"due": DIGITS}
    typed = json.dumps(first).replace(f'"{DIGITS}"', DIGITS)
    terminal.type("process", "remove", *O_1, "--yes")

    done = terminal.type("process", "put", "-", "--key", "k", stdin=typed)
    again = terminal.type("process", "put", "-", "--key", "k", stdin=typed)
    found = terminal.json("process", "get", *O_1, "--events", "9")

    assert done.stdout == again.stdout == f"version {found['version']}\n"
    assert (found["history"], found["timers"]) == (first["history"], first["timers"])
    assert DIGITS in terminal.type("process", "get", *O_1).stdout


def test_an_id_that_is_taken_is_not_put(terminal: Any, closed_shop: None) -> None:
    typed = json.dumps(terminal.json("process", "get", *O_1, "--events", "9"))

    answer = terminal.type("process", "put", typed)

    assert answer.exit_code == 1
    assert "process o-1 in namespace orders exists" in answer.stderr


@pytest.mark.parametrize(
    ("typed", "code", "fault"),
    [
        ("null", 2, "a process is a JSON object"),
        ("[1]", 2, "a process is a JSON object"),
        ("{", 2, "is no JSON"),
        ("{}", 2, "it has no namespace"),
        ('{"namespace": "orders"}', 2, "it has no process_id"),
    ],
)
def test_what_is_no_process_is_not_put(terminal: Any, typed: str, code: int, fault: str) -> None:
    answer = terminal.type("process", "put", typed)

    assert answer.exit_code == code
    assert fault in answer.stderr


def test_a_process_is_removed_after_a_yes(terminal: Any, closed_shop: None) -> None:
    answer = terminal.type("process", "remove", *O_1, stdin="y\n")

    assert "process o-1 in namespace orders is running, of version" in answer.stderr
    assert answer.stdout == "process o-1 in namespace orders is removed\n"
    assert terminal.type("process", "get", *O_1).exit_code == 1


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_a_process_is_not_removed_without_a_yes(
    terminal: Any, closed_shop: None, typed: str
) -> None:
    answer = terminal.type("process", "remove", *O_1, stdin=typed)

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert terminal.json("process", "get", *O_1)["status"] == "running"


def test_a_process_is_removed_in_the_version_that_is_named_only(
    terminal: Any, closed_shop: None
) -> None:
    version = terminal.json("process", "get", *O_1)["version"]
    words = ("process", "remove", *O_1, "--yes", "--version")

    other = terminal.type(*words, str(version + 1))
    done = terminal.json(*words, str(version))
    again = terminal.json(*words, str(version), code=1)

    assert other.exit_code == 1
    assert f"no process o-1 of version {version + 1} in namespace orders" in other.stderr
    assert (done["removed"], again["removed"]) == (True, False)


def test_what_is_not_there_is_not_asked_about(terminal: Any, closed_shop: None) -> None:
    answer = terminal.type("process", "remove", "orders", "o-9")

    assert answer.exit_code == 1
    assert "Error: no process o-9 in namespace orders" in answer.stderr
    assert "Remove it" not in answer.stderr


def test_a_process_is_explained_by_one_reason(terminal: Any, closed_shop: None) -> None:
    terminal.json("process", "call", *O_1, "--no-wait")

    shown = terminal.type("process", "explain", *O_1)
    printed = terminal.json("process", "explain", *O_1)

    assert shown.exit_code == 0
    assert shown.stdout.startswith("reason    no worker\nsentence  no live worker serves namespace")
    assert (printed["reason"], printed["details"]["runnable"]) == ("no worker", False)


def test_a_process_that_is_not_there_is_not_explained(terminal: Any, closed_shop: None) -> None:
    answer = terminal.type("process", "explain", "orders", "o-9")

    assert answer.exit_code == 1
    assert "Error: no process o-9 in namespace orders" in answer.stderr
