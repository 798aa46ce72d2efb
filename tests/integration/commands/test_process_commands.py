"""`pgprog process`, as a person or a script types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tests.waiting import until

from pgprog.cli import main
from pgprog.client.lookout import Lookout

if TYPE_CHECKING:
    from pathlib import Path

    from pgprog import Namespace

DIGITS = "12345678901234567890.12345678901234567890"


def test_a_process_is_made_called_and_read(terminal: Any, shop: Any) -> None:
    made = terminal.type("process", "init", "orders", "o-2", '{"due": 7}')
    called = terminal.type("process", "call", "orders", "o-2", "[1]", "--name", "echo")
    found = terminal.json("process", "get", "orders", "o-2")

    assert (made.exit_code, made.stdout) == (0, "null\n")
    assert (called.exit_code, called.stdout) == (0, "[\n  1\n]\n")
    assert (found["status"], found["state"], found["last_event_id"]) == ("running", {"due": 7}, 2)


def test_an_answer_as_json_is_the_result_of_the_task(terminal: Any, shop: Any) -> None:
    answer = terminal.json("process", "call", "orders", "o-1", '{"a": 1}', "--name", "echo")

    assert answer["status"] == "finished"
    assert answer["response"] == {"a": 1}
    assert answer["error"] is None
    assert answer["task_id"] > 0
    assert answer["version"] == terminal.json("process", "get", "orders", "o-1")["version"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_numbers_keep_every_digit_on_their_way_there_and_back(
    terminal: Any, shop: Any, options: list[str]
) -> None:
    called = terminal.type(
        "process", "call", "orders", "o-1", f'{{"n": {DIGITS}}}', "--name", "echo", *options
    )
    listed = terminal.type("process", "history", "orders", "o-1", *options)
    traced = terminal.type("process", "trace", "orders", "o-1", "--json")

    assert DIGITS in called.stdout
    assert DIGITS in listed.stdout
    assert DIGITS in traced.stdout


def test_args_are_read_from_a_file_and_from_standard_input(
    terminal: Any, shop: Any, tmp_path: Path
) -> None:
    (tmp_path / "args.json").write_text('{"due": 1}')
    words = ("process", "call", "orders", "o-1")

    by_file = terminal.type(*words, f"@{tmp_path}/args.json", "--name", "echo", "--json")
    by_stdin = terminal.type(*words, "-", "--name", "echo", "--json", stdin='{"due": 2}\n')

    assert json.loads(by_file.stdout)["response"] == {"due": 1}
    assert json.loads(by_stdin.stdout)["response"] == {"due": 2}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (['{"due": }'], "byte 8"),
        (["@nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["-", "--context", "-"], "standard input can be read for one argument only"),
        (["--timeout", "soon"], "'soon' is not a duration"),
        (["--run-at", "2026-01-31T12:00"], "has no zone"),
        (["--run-at", "tomorrow"], "is no time"),
        (["--priority", "high"], "not a valid integer"),
    ],
)
def test_a_fault_of_the_command_line_is_told_before_anything_is_asked(
    terminal: Any, words: list[str], fault: str
) -> None:
    answer = terminal.type("process", "call", "orders", "o-1", *words, stdin="1")

    assert answer.exit_code == 2
    assert fault in answer.stderr


@pytest.mark.parametrize(
    ("typed", "code", "fault"),
    [
        ("1e999999", 1, "overflow"),
        ('"a\\u0000b"', 1, "NUL"),
        ('"\\ud800"', 2, "is no JSON"),
        ("NaN", 2, "is no JSON"),
        ("", 2, "is no JSON"),
        ("[" * 100_000, 2, "is no JSON"),
        (f'"{"a" * 1_100_000}"', 1, "at most 1048576 are allowed"),
    ],
)
def test_json_that_the_database_cannot_hold_is_refused(
    terminal: Any, closed_shop: None, typed: str, code: int, fault: str
) -> None:
    answer = terminal.type("process", "call", "orders", "o-1", "-", "--no-wait", stdin=typed)

    assert answer.exit_code == code
    assert fault in answer.stderr
    assert terminal.json("task", "list", "--type", "call") == []


def test_an_id_that_the_database_cannot_hold_is_a_fault_of_the_command_line(terminal: Any) -> None:
    long = terminal.type("process", "get", "orders", "o" * 1100)
    broken = terminal.type("process", "get", "orders", "o-\udcff")

    assert (long.exit_code, broken.exit_code) == (2, 2)
    assert "1100 bytes" in long.stderr
    assert "surrogate" in broken.stderr


def test_a_rejected_call_has_its_payload_and_an_exit_code_of_its_own(
    terminal: Any, shop: Any
) -> None:
    shown = terminal.type("process", "call", "orders", "o-1", "--name", "refuse")
    printed = terminal.json("process", "call", "orders", "o-1", "--name", "refuse", code=3)

    assert shown.exit_code == 3
    assert '"rest": 5' in shown.stderr
    assert printed["error"] == {"rejected": {"rest": 5}}


def test_a_failed_call_says_why(terminal: Any, shop: Any) -> None:
    answer = terminal.type("process", "call", "orders", "o-1", "--name", "break")
    after = terminal.type("process", "call", "orders", "o-1", "--name", "echo")

    assert answer.exit_code == 3
    assert "RuntimeError: no paper" in answer.stderr
    assert after.exit_code == 1
    assert "is in error" in after.stderr


def test_an_answer_that_is_late_leaves_the_task_to_be_waited_for(
    terminal: Any, closed_shop: None
) -> None:
    words = ("process", "call", "orders", "o-1", "--timeout", "1ms")

    shown = terminal.type(*words)
    printed = terminal.json(*words, code=4)

    assert shown.exit_code == 4
    assert "the task goes on" in shown.stderr
    assert printed["status"] == "waiting"
    assert terminal.json("task", "show", str(printed["task_id"]))["status"] == "waiting"


@pytest.mark.parametrize("way", ["options", "environment"])
def test_a_request_carries_the_trace_and_the_correlation_id_it_is_given(
    terminal: Any, closed_shop: None, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    words = ["call", "orders", "o-1", "1", "--name", "pay", "--context", '{"c": 1}', "--no-wait"]
    if way == "options":
        words += ["--traceparent", trace, "--correlation-id", "req-1"]
    else:
        monkeypatch.setenv("TRACEPARENT", trace)
        monkeypatch.setenv("PGPROG_CORRELATION_ID", "req-1")

    terminal.json("process", *words)

    [shown] = [
        task["context"]
        for task in terminal.json("process", "trace", "orders", "o-1")
        if task["name"] == "pay"
    ]
    assert shown == {"c": 1, "traceparent": trace, "correlation_id": "req-1"}


def test_a_trace_that_is_none_is_left_out_with_a_warning(terminal: Any, closed_shop: None) -> None:
    words = ("call", "orders", "o-1", "1", "--name", "pay", "--no-wait")

    answer = terminal.type("process", *words, "--traceparent", "garbage")

    assert answer.exit_code == 0
    assert answer.stderr == (
        "Warning: traceparent is not as W3C Trace Context has it; it is left out\n"
    )


def test_a_request_takes_all_that_sql_takes(terminal: Any, closed_shop: None) -> None:
    words = ("call", "orders", "o-1", "1", "--name", "pay", "--key", "k", "--priority", "-3")
    more = ("--context", '{"c": 1}', "--run-at", "2999-01-01T00:00:00+01:00", "--no-wait")

    first = terminal.json("process", *words, *more)
    again = terminal.json("process", *words, *more)
    [_, task] = [
        t for t in terminal.json("process", "trace", "orders", "o-1") if t["name"] != "expiry"
    ]

    assert first == again == {"task_id": task["task_id"]}
    assert (task["args"], task["context"], task["idempotency_key"]) == (1, {"c": 1}, "k")
    assert task["scheduled_at"].startswith("2998-12-31T23:00:00")
    assert terminal.json("task", "show", str(task["task_id"]))["priority"] == -3


def test_a_notification_is_queued_and_its_task_printed(terminal: Any, shop: Any) -> None:
    answer = terminal.type("process", "notify", "orders", "o-1", "1", "--name", "note")
    word, task_id = answer.stdout.split()
    waited = terminal.type("task", "wait", task_id)

    assert (answer.exit_code, word) == (0, "task")
    assert (waited.exit_code, waited.stdout) == (0, "null\n")


def test_a_process_is_shown_with_its_timers_and_newest_events(terminal: Any, shop: Any) -> None:
    shop.call("orders", "o-1", {"n": 1}, name="echo")

    shown = terminal.type("process", "get", "orders", "o-1", "--events", "1", "--backward").stdout

    assert '"due": 10' in shown
    assert "timer expiry" in shown
    assert '{"echoed": {"n": 1}}' in shown
    assert "opened" not in shown


def test_json_of_get_is_what_sql_gives(terminal: Any, shop: Any, session: Any) -> None:
    found = terminal.json("process", "get", "orders", "o-1", "--events", "5")

    [(expected,)] = session().execute("select pgprog.get('orders', 'o-1', 5)").fetchall()
    assert found == expected


def test_history_is_paged_in_both_directions(terminal: Any, shop: Any) -> None:
    for n in range(3):
        shop.call("orders", "o-1", n, name="echo")
    words = ("process", "history", "orders", "o-1", "--limit", "2")

    forward = terminal.json(*words, "--after", "1")
    backward = terminal.json(*words, "--backward")

    assert [event["event_id"] for event in forward] == [2, 3]
    assert [event["event_id"] for event in backward] == [4, 3]
    assert forward[0]["payload"] == {"echoed": 0}


def test_a_trace_shows_each_task_on_a_line(terminal: Any, shop: Any) -> None:
    shop.call("orders", "o-1", name="echo")

    head, *lines = terminal.type("process", "trace", "orders", "o-1").stdout.splitlines()

    assert head.split()[:4] == ["TASK_ID", "TYPE", "NAME", "STATUS"]
    assert [line.split()[1:4] for line in lines] == [
        ["init", "-", "finished"],
        ["timeout", "expiry", "waiting"],
        ["call", "echo", "finished"],
    ]


def test_processes_are_listed_and_paged_by_their_ids(terminal: Any, shop: Any) -> None:
    for n in (2, 3):
        shop.init("orders", f"o-{n}", {})
    shop.call("orders", "o-3", name="finish")

    page = terminal.json("process", "list", "--namespace", "orders", "--after", "o-1")
    finished = terminal.type("process", "list", "--status", "finished").stdout.splitlines()

    assert [row["process_id"] for row in page] == ["o-2", "o-3"]
    assert [line.split()[:3] for line in finished[1:]] == [["orders", "o-3", "finished"]]


def test_a_list_cannot_go_on_behind_an_id_of_no_namespace(terminal: Any) -> None:
    answer = terminal.type("process", "list", "--after", "o-1")

    assert answer.exit_code == 2
    assert "--namespace" in answer.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["process", "get", "orders", "o-9"], "no process o-9 in namespace orders"),
        (["process", "history", "orders", "o-9"], "no process o-9 in namespace orders"),
        (["process", "trace", "ordres", "o-1"], "no namespace ordres"),
        (["process", "get", "ordres", "o-1"], "no namespace ordres"),
        (["process", "list", "--namespace", "ordres"], "no namespace ordres"),
        (["process", "call", "ordres", "o-1"], "no namespace ordres"),
        (["process", "init", "orders", "o-1"], "process o-1 in namespace orders exists"),
    ],
)
def test_what_is_not_there_is_named(
    terminal: Any, closed_shop: None, words: list[str], message: str
) -> None:
    answer = terminal.type(*words)

    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert f"Error: {message}" in answer.stderr


def test_an_id_cannot_steer_the_terminal(terminal: Any, shop: Any) -> None:
    shop.init("orders", "\x1b[2Jo\n2", {})

    shown = terminal.type("process", "list").stdout

    assert "\x1b" not in shown
    assert r"\x1b[2Jo\n2" in shown


def test_an_error_of_a_handler_cannot_steer_the_terminal(
    terminal: Any, orders: Namespace[Any], request: pytest.FixtureRequest
) -> None:
    @orders.call("shout")
    def shout(step: Any, args: Any = None) -> None:
        raise RuntimeError("\x1b[2Jno\tpaper\x9b31m")

    request.getfixturevalue("shop")
    answer = terminal.type("process", "call", "orders", "o-1", "--name", "shout")

    assert answer.exit_code == 3
    assert r"RuntimeError: \x1b[2Jno paper\x9b31m" in " ".join(answer.stderr.split())


def test_a_state_that_is_watched_cannot_steer_the_terminal(
    terminal: Any, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def remove(_: Lookout) -> None:
        monkeypatch.undo()
        shop.remove("orders", "o-2")

    monkeypatch.setattr(Lookout, "pause", remove)
    shop.init("orders", "o-2", {"name": "\x9b31m"})

    shown = terminal.type("process", "watch", "orders", "o-2").stdout

    assert r"\x9b31m" in shown
    assert "\x9b" not in shown


@pytest.mark.parametrize(
    ("variable", "value", "is_coloured"),
    [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("NO_COLOR", "", True)],
)
def test_a_finding_has_colours_unless_nobody_wants_them(
    db: str,
    closed_shop: None,
    sql: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    is_coloured: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    sql.execute("select pgprog.pause('orders')")

    words = ["doctor", "--only", "paused", "--long", "0s", "--dsn", db]
    shown = CliRunner().invoke(main, words, color=True).stdout

    assert "warning" in shown
    assert ("\x1b" in shown) is is_coloured


@pytest.mark.slow  # an interpreter is started
@pytest.mark.parametrize("words", [["process", "list"], ["top", "--once"]])
def test_a_command_whose_output_is_closed_ends_well(
    db: str, closed_shop: None, words: list[str]
) -> None:
    command = [sys.executable, "-m", "pgprog", *words, "--dsn", db]
    shell = ["sh", "-c", '"$@" >&-', "sh", *command]

    done = subprocess.run(shell, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow  # two interpreters are started
def test_ctrl_c_ends_a_wait_quietly_and_the_task_goes_on(
    db: str, closed_shop: None, terminal: Any, session: Any
) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "pgprog", "process", "call", "orders", "o-1", "--dsn", db],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    watching = session()
    asked = "select 1 from pgprog.tasks where type = 'call'"
    until(lambda: waiting.poll() is not None or watching.execute(asked).fetchall())
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    printed, complained = waiting.communicate()

    assert waiting.returncode == 130
    assert (printed, complained) == (b"", b"")
    assert [t["status"] for t in terminal.json("task", "list", "--type", "call")] == ["waiting"]
