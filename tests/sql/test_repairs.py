"""Repairs, simple repairs and removals, as operators ask for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', 'p1')"
REPAIR = "select pgprog.repair('orders', 'p1')"
SIMPLE_REPAIR = "select pgprog.simple_repair('orders', 'p1')"
WITH_KEY = "select pgprog.simple_repair('orders', 'p1', 'key')"
REMOVE = "select pgprog.remove('orders', 'p1')"
BROKEN = '{"detail": "out of stock"}'


def process_of(app: Any) -> Any:
    return app.execute("select pgprog.get('orders', 'p1')").fetchone()[0]


def ask(connection: Any, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]


def refusal(connection: Any, statement: str) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    return caught.value.sqlstate


@pytest.fixture
def break_by(app: Any, worker: Any) -> Any:
    """Break p1 by the task that a statement asks for; return the failed task."""

    def broken(statement: str) -> Any:
        app.execute(statement)
        [task] = worker.claim()
        worker.complete(task, outcome=4, error=BROKEN)
        return task

    return broken


@pytest.fixture
def broken(process: str, break_by: Any) -> Any:
    """What broke the process p1: a call."""
    return break_by(CALL)


def test_a_repair_is_allowed_in_error_only(app: Any, process: str) -> None:
    assert refusal(app, REPAIR) == "UP003"
    assert refusal(app, SIMPLE_REPAIR) == "UP003"
    assert refusal(app, "select pgprog.repair('orders', 'nobody')") == "UP001"
    assert refusal(app, "select pgprog.simple_repair('orders', 'nobody')") == "UP001"
    assert refusal(app, "select pgprog.simple_repair('nowhere', 'p1')") == "UP007"
    assert refusal(app, "select pgprog.simple_repair('orders', '')") == "UP010"


def test_a_repair_runs_the_repair_handler(app: Any, worker: Any, broken: Any) -> None:
    task_id = ask(
        app, "select pgprog.repair('orders', 'p1', '[1]', 'mend', 'key', '{\"a\": 2}', 3)"
    )
    [task] = worker.claim()

    assert (task.task_id, task.type, task.name) == (task_id, "repair", "mend")
    assert (task.args, task.context) == ([1], {"a": 2})
    assert (
        ask(app, "select pgprog.repair('orders', 'p1', '[1]', 'mend', idempotency_key => 'key')")
        == task_id
    )


def test_after_a_failed_call_a_simple_repair_makes_the_process_simply_running(
    app: Any, worker: Any, broken: Any
) -> None:
    before = process_of(app)
    assert ask(app, SIMPLE_REPAIR) is None

    found = process_of(app)
    assert (found["status"], found["previous_status"]) == ("running", "error")
    assert (found["detail"], found["corrupted_by"]) == (None, None)
    assert found["version"] > before["version"]
    assert worker.claim() == []
    assert app.execute("select * from pgprog_data.ended_processes").fetchall() == []


def test_a_failed_notify_is_queued_again_by_a_simple_repair(
    app: Any, worker: Any, process: str, break_by: Any, result_of: Any
) -> None:
    failed = break_by(
        "select pgprog.notify('orders', 'p1', '{\"n\": 1}', 'paid', 'key', '{\"c\": 1}', 7)"
    )
    task_id = ask(app, SIMPLE_REPAIR)
    [again] = worker.claim()

    assert again.task_id == task_id != failed.task_id
    assert (again.type, again.name, again.args, again.context, again.attempt) == (
        "notify", "paid", {"n": 1}, {"c": 1}, 1,
    )  # fmt: skip
    queued = "select key, priority, due_at - rank from pgprog_data.queue"
    assert app.execute(queued).fetchone()[:2] == (None, 7)
    assert result_of(failed.task_id)["status"] == "error"


def test_a_failed_init_is_queued_again_and_calls_wait_behind_it(
    app: Any, worker: Any, break_by: Any
) -> None:
    break_by("select pgprog.init('orders', 'p1', '{\"due\": 1}')")
    task_id = ask(app, SIMPLE_REPAIR)
    assert process_of(app)["status"] == "init"
    call = ask(app, CALL)

    [init] = worker.claim()
    assert (init.task_id, init.type, init.args) == (task_id, "init", {"due": 1})
    rows = worker.complete(init, chain=True)
    assert [row.task_id for row in rows if row.outcome == "next"] == [call]
    assert process_of(app)["status"] == "running"


@pytest.mark.parametrize("is_held", [False, True])
def test_a_call_with_a_smaller_id_waits_behind_an_init_that_was_repaired(
    app: Any, session: Any, worker: Any, is_held: Any
) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    [init] = worker.claim()
    with session().transaction() as early:
        call = ask(early.connection, CALL)
        worker.complete(init, outcome=4, error=BROKEN)
        again = ask(app, SIMPLE_REPAIR)
    if is_held:
        worker.complete(*worker.claim(), outcome=3, retry_after=3_600_000_000)
        app.execute(CALL)
        assert worker.claim() == []
        app.execute("update pgprog_data.queue set due_at = now() where task_id = %s", (again,))

    [first] = worker.claim()
    assert first.task_id == again
    assert worker.claim() == []
    worker.complete(first)
    assert [task.task_id for task in worker.claim()] == [call]


def test_a_failed_timer_is_due_again_and_suspended_timers_come_back(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.call('orders', 'p1', context => '{\"c\": 1}')")
    worker.complete(*worker.claim(), timer_list=[("due", 0), ("later", 3_600_000_000)],
                    timers={})  # fmt: skip
    for task in worker.claim():
        worker.complete(task, outcome=4, error=BROKEN)
    assert process_of(app)["status"] == "error"
    task_id = ask(app, SIMPLE_REPAIR)

    timers = "select name, suspended from pgprog.timers order by name"
    assert app.execute(timers).fetchall() == [("due", False), ("later", False)]
    [again] = worker.claim()
    assert (again.task_id, again.type, again.name) == (task_id, "timeout", "due")
    assert (again.attempt, again.context) == (1, {"c": 1})


def test_an_init_that_is_queued_again_is_not_found_missing(
    app: Any, worker: Any, break_by: Any
) -> None:
    missing = "select array_agg(process_id) from pgprog.inspect_processes()"
    break_by("select pgprog.init('orders', 'p1')")
    ask(app, SIMPLE_REPAIR)
    waiting = ask(app, missing)
    [task] = worker.claim()
    running = ask(app, missing)
    app.execute("delete from pgprog_data.queue where task_id = %s", (task.task_id,))

    assert (waiting, running, ask(app, missing)) == ([None], [None], ["p1"])


def test_a_task_that_crashed_its_workers_is_queued_again_by_a_simple_repair(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.notify('orders', 'p1', '[1]')")
    app.execute("update pgprog_data.queue set crashes = 3")
    assert worker.claim() == []
    task_id = ask(app, SIMPLE_REPAIR)

    assert [(task.task_id, task.args) for task in worker.claim()] == [(task_id, [1])]


def test_what_a_simple_repair_needs_stays_while_the_process_is_in_error(
    app: Any, worker: Any, process: str, break_by: Any
) -> None:
    failed = break_by("select pgprog.notify('orders', 'p1', '[1]')")
    app.execute("delete from pgprog_data.tasks where task_id = %s", (failed.task_id,))
    task_id = ask(app, SIMPLE_REPAIR)

    assert [(task.task_id, task.args) for task in worker.claim()] == [(task_id, [1])]


def test_a_repeated_simple_repair_with_the_same_key_gives_the_same_task(
    app: Any, worker: Any, process: str, break_by: Any
) -> None:
    break_by("select pgprog.notify('orders', 'p1')")
    task_id = ask(app, WITH_KEY)

    assert ask(app, WITH_KEY) == task_id
    assert len(worker.claim()) == 1
    assert refusal(app, "select pgprog.call('orders', 'p1', idempotency_key => 'key')") == "UP008"


def test_a_repeated_simple_repair_after_a_failed_call_gives_none_again(
    app: Any, broken: Any
) -> None:
    assert ask(app, WITH_KEY) is None
    assert ask(app, WITH_KEY) is None


@pytest.mark.parametrize("is_running", [False, True])
def test_a_repair_that_a_simple_repair_forestalls_ends_with_not_in_error(
    app: Any, worker: Any, broken: Any, result_of: Any, is_running: Any
) -> None:
    repair = ask(app, REPAIR)
    running = worker.claim() if is_running else []
    app.execute(SIMPLE_REPAIR)

    assert result_of(repair)["error"] == {"cause": "process not in error"}
    assert [row.outcome for task in running for row in worker.complete(task)] == [
        "lost" for _ in running
    ]
    assert process_of(app)["status"] == "running"


def test_of_two_simple_repairs_at_once_the_second_is_told_not_in_error(
    app: Any, session: Any, process: str, break_by: Any, wait_for_lock: Any
) -> None:
    break_by("select pgprog.notify('orders', 'p1')")
    with ThreadPoolExecutor(1) as threads:
        with session().transaction() as first:
            first.connection.execute(SIMPLE_REPAIR)
            second = threads.submit(refusal, app, SIMPLE_REPAIR)
            wait_for_lock(app)
        assert second.result() == "UP003"

    assert app.execute("select count(*) from pgprog_data.queue").fetchone() == (1,)


def test_a_removed_process_is_gone_at_once_and_its_id_may_be_used_again(
    app: Any, worker: Any, process: str, result_of: Any
) -> None:
    task_id = ask(app, CALL)
    [running] = worker.claim()
    waiting = ask(app, CALL)
    assert ask(app, REMOVE) is True

    assert process_of(app) is None
    assert [row.outcome for row in worker.complete(running)] == ["lost"]
    assert result_of(task_id)["error"] == {"cause": "removed"} == result_of(waiting)["error"]
    app.execute("select pgprog.init('orders', 'p1')")
    assert [task.type for task in worker.claim()] == ["init"]


def test_removing_what_is_not_there_says_so(app: Any) -> None:
    assert ask(app, REMOVE) is False
    assert refusal(app, "select pgprog.remove('nowhere', 'p1')") == "UP007"


def test_race_21_a_repeated_remove_with_a_version_does_not_meet_the_next_incarnation(
    app: Any, worker: Any, process: str
) -> None:
    statement = f"select pgprog.remove('orders', 'p1', {process_of(app)['version']})"
    assert ask(app, statement) is True
    app.execute("select pgprog.init('orders', 'p1')")

    assert ask(app, statement) is False
    assert process_of(app)["status"] == "init"


def test_removing_waits_for_the_completion_of_a_step(
    app: Any, worker: Any, process: str, wait_for_lock: Any, result_of: Any
) -> None:
    task_id = ask(app, CALL)
    [task] = worker.claim()
    with ThreadPoolExecutor(1) as threads:
        with worker.connection.transaction():
            worker.complete(task)
            removing = threads.submit(ask, app, REMOVE)
            wait_for_lock(app)
        assert removing.result() is True

    assert result_of(task_id)["status"] == "finished"
    assert process_of(app) is None


def test_removing_with_a_version_looks_at_it_after_a_step_in_flight(
    app: Any, worker: Any, process: str, wait_for_lock: Any
) -> None:
    statement = f"select pgprog.remove('orders', 'p1', {process_of(app)['version']})"
    app.execute(CALL)
    [task] = worker.claim()
    with ThreadPoolExecutor(1) as threads:
        with worker.connection.transaction():
            worker.complete(task)
            removing = threads.submit(ask, app, statement)
            wait_for_lock(app)
        assert removing.result() is False

    assert process_of(app)["status"] == "running"
