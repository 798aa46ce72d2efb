"""The tables of the specification: each operation in each status, each failure of each task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pgprog.errors import PgprogError

if TYPE_CHECKING:
    from collections.abc import Callable

_TABLES: Any = yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text())
STATUSES = ("absent", "init", "running", "error", "finished")
TYPES = ("init", "call", "notify", "timeout", "repair")

# How a process comes into each status: the replies of its steps, and what is asked of it.
INTO: dict[str, tuple[list[Any], list[Any]]] = {
    "absent": ([], []),
    "init": ([], [{"do": "init", "as": "last", "later": True}]),
    "running": ([{"step": "init"}], [{"do": "init"}]),
    "error": (
        [{"step": "init"}, {"step": "call", "raises": ["PermanentError", "broken"]}],
        [{"do": "init"}, {"do": "call", "as": "last"}, {"do": "wait", "status": "error"}],
    ),
    "finished": (
        [{"step": "init"}, {"step": "call", "then": "finish"}],
        [{"do": "init"}, {"do": "call", "as": "last"}, {"do": "wait", "status": "finished"}],
    ),
}


def cells(table: str, columns: tuple[str, ...]) -> list[Any]:
    return [
        pytest.param(row, column, cell, id=f"{row}-{column}")
        for row, line in _TABLES[table].items()
        for column, cell in zip(columns, line, strict=True)
        if cell != "-"
    ]


def ask(play: Any, operation: str) -> Any:
    """Do one operation by the client; return its task or what it returns."""
    match operation:
        case "init" | "call" | "notify" | "repair":
            return play.client.submit(operation, *play.names)
        case "put":
            process = {"namespace": play.namespace, "process_id": play.process_id}
            return play.client.put({**process, "status": "running"})
        case "cancel":
            return play.client.cancel(play.tasks["last"].task_id if play.tasks else 1 << 60)
        case _:
            return getattr(play.client, operation)(*play.names)


@pytest.mark.parametrize(("operation", "status", "expected"), cells("operations", STATUSES))
def test_an_operation_is_allowed_or_refused_by_the_status_of_its_process(
    play: Callable[..., Any], operation: str, status: str, expected: Any
) -> None:
    replies, when = INTO[status]
    scene = play({"replies": [*replies, {"step": operation}], "when": when})
    scene.run()
    if (operation, status) == ("cancel", "running"):
        scene.do("call", **{"as": "last", "later": True})
    before = scene.client.get(*scene.names)

    if str(expected).startswith("UP"):
        with pytest.raises(PgprogError) as caught:
            ask(scene, operation)
        assert caught.value.sqlstate == expected
        assert scene.client.get(*scene.names) == before
        return
    found = ask(scene, operation)
    match expected:
        case bool():
            assert found is expected
        case "queued":
            assert str(scene.client.result(found.task_id).status) in ("waiting", "blocked")
        case "null":
            assert found is None
        case _:
            assert expected == "done"
            if hasattr(found, "wait"):
                found.wait(timeout=20)
    assert not scene.script.faults


def failing(what: str, type_: str) -> tuple[list[Any], list[Any]]:
    """Return the replies and the actions that end in a task of this type that fails so."""
    replies, when = INTO[{"init": "absent", "repair": "error"}.get(type_, "running")]
    if type_ == "timeout":
        replies = [{"step": "init", "timers": {"": 3600}}]
    asking: dict[str, Any] = {"do": type_, "as": "task"}
    match what.split():
        case ["misfit"]:
            return replies, [*when, {**asking, "args": "none"}]
        case ["lost", "once"]:
            asking = {"do": "lost", "as": "task", "times": 1, "type": type_}
            return [*replies, {"step": type_, "sees": {"attempt": 2}}], [*when, asking]
        case ["lost", _]:
            return replies, [*when, {"do": "lost", "as": "task", "times": 3, "type": type_}]
        case ["time-out"]:
            reply: dict[str, Any] = {"step": type_, "until": "nobody opens it"}
        case _:
            reply = {"step": type_, "raises": [what, "broken"]}
    return [*replies, reply, reply, reply], [*when, {"do": "due"} if type_ == "timeout" else asking]


@pytest.mark.parametrize(("raised", "task_type", "expected"), cells("failures", TYPES))
def test_a_failure_has_its_outcome_by_the_type_of_its_task(
    play: Callable[..., Any], raised: str, task_type: str, expected: str
) -> None:
    status, waiter, attempts = expected.split()
    what, namespace = raised.rsplit(maxsplit=1)
    replies, when = failing(what, task_type)
    scene = play({"in": namespace, "replies": replies, "when": when[:-1]})
    scene.run()
    if task_type == "timeout" and what.split()[0] != "lost":
        scene.note("task", of="timer")
    scene.do(**when[-1])
    end = {"do": "answer", "of": "task"}
    scene.do(**end if waiter == "done" else {**end, "raises": waiter})
    scene.do("get", **{"absent": True} if status == "absent" else {"status": status})

    if waiter == "StepFailed":
        assert scene.caught.attempt == int(attempts)
    if status == "error":
        detail = "zombie detected" if what == "lost thrice" else None
        _assert_broken(scene, task_type, detail=detail)
    paused = scene.sql.execute(
        "select pause_reason from pgprog.namespaces where paused_at is not null"
    ).fetchall()
    scene.do("resume")
    assert paused == ([("broken",)] if what == "CriticalError" else [])
    assert not scene.script.faults


def _assert_broken(scene: Any, task_type: str, *, detail: str | None) -> None:
    """What broke the process is named, and a failing repair has changed nothing of it."""
    process = scene.client.get(*scene.names)
    if task_type == "repair":
        assert (process.detail, process.corrupted_by) == ("broken", scene.tasks["last"].task_id)
        return
    assert process.corrupted_by == scene.tasks["task"].task_id
    assert process.previous_status == ("init" if task_type == "init" else "running")
    assert process.detail
    assert detail in (None, process.detail)
