"""Timers: set, replaced, fired, in retry."""

from __future__ import annotations

from typing import Any

import pytest

CALL = "select pgprog.call('orders', %s)"
HOUR = 3_600_000_000


def set_timers(app: Any, worker: Any, **timers: int) -> None:
    app.execute(CALL, ("p1",))
    worker.complete(*worker.claim(), timers=timers)


def test_a_timer_set_again_replaces_the_one_of_its_name(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, t=0)
    set_timers(app, worker, t=HOUR, u=HOUR)

    assert worker.claim() == []
    assert app.execute("select name from pgprog.timers order by name").fetchall() == [
        ("t",),
        ("u",),
    ]
    assert app.execute(
        "select cause from pgprog.tasks where name = 't' and cause <> ''"
    ).fetchall() == [("replaced",)]


def test_of_two_actions_on_one_name_in_one_step_the_last_wins(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    rows = worker.complete(
        *worker.claim(), timer_list=[("t", HOUR), ("u", HOUR), ("t", 0), ("u", None)]
    )

    assert [row.outcome for row in rows] == ["done"]
    assert [task.name for task in worker.claim()] == ["t"]
    assert app.execute("select count(*) from pgprog.timers").fetchone() == (0,)


def test_a_timer_in_retry_holds_nobody_up_and_runs_again(
    app: Any, worker: Any, process: str, set_clock: Any
) -> None:
    set_timers(app, worker, t=0)
    [task] = worker.claim()
    assert [row.outcome for row in worker.complete(task, outcome=3, retry_after=HOUR)] == ["done"]
    app.execute(CALL, (process,))
    assert [other.type for other in worker.claim()] == ["call"]

    set_clock("2100-01-01 00:00Z")
    app.execute("update pgprog_data.workers set lease_until = 'infinity'")
    app.execute("delete from pgprog_data.queue")
    [again] = worker.claim()
    assert (again.task_id, again.attempt) == (task.task_id, 2)


def test_a_timer_in_retry_keeps_its_number_for_the_repeated_completion(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, t=0)
    [task] = worker.claim()
    worker.complete(task, outcome=3, retry_after=HOUR)

    assert [row.outcome for row in worker.complete(task, outcome=3, retry_after=HOUR)] == [
        "already"
    ]


def test_timers_of_one_process_run_in_the_order_of_their_times(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, b=1, a=2, c=0)

    fired = []
    for _ in range(3):
        [task] = worker.claim()
        fired.append(task.name)
        worker.complete(task)
    assert fired == ["c", "b", "a"]


def test_a_timer_overdue_past_patience_goes_before_a_call_that_came_later(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, t=0)
    app.execute("update pgprog_data.timers set due_at = now() - interval '61 s'")
    app.execute(CALL, (process,))

    assert [task.type for task in worker.claim()] == ["timeout"]


def test_a_direct_start_does_not_go_before_a_timer_overdue_past_patience(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, t=0)
    app.execute("update pgprog_data.timers set due_at = now() - interval '61 s'")

    assert [row.outcome for row in worker.start(("call", process, None))] == ["queued"]
    assert [task.type for task in worker.claim()] == ["timeout"]


def test_a_direct_start_goes_before_a_timer_that_is_only_just_due(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, t=0)

    assert [row.outcome for row in worker.start(("call", process, None))] == ["started"]


@pytest.mark.parametrize("calls", [0, 1])
def test_what_is_blocked_behind_a_timer_that_its_worker_let_go_is_not_found_stuck(
    app: Any, worker: Any, process: str, calls: int
) -> None:
    stuck = "select task_id from pgprog.inspect_queue() union all select task_id"
    stuck += " from pgprog.inspect_timers()"
    set_timers(app, worker, first=0, second=0)
    [timer] = worker.claim()
    for _ in range(calls):
        app.execute(CALL, ("p1",))
    assert worker.claim() == []
    app.execute("select pgprog_engine.hand_back(%s, %s)", ([timer.task_id], [timer.claim_id]))
    blocked = "select count(*) from pgprog.tasks where status = 'blocked'"
    assert app.execute(blocked).fetchone() == (1 + calls,)

    assert app.execute(stuck).fetchall() == []
    app.execute("delete from pgprog_data.timers where task_id = %s", (timer.task_id,))
    assert len(app.execute(stuck).fetchall()) == 1
