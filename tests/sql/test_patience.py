"""A due timer behind a task in retry: it goes before that one when it is overdue past patience."""

from __future__ import annotations

from typing import Any

import pytest

CALL = "select pgprog.call('orders', %s)"
HOUR = 3_600_000_000
PATIENCE = 60_000_000
# What another claim has done while it is open.
ENDED_ELSEWHERE = "update pgprog_data.timers set status = 'w' where name = %s"
WAIT = "select wait_us from pgprog_engine.claim(%s, 10) where task_id is null"


def hold(app: Any, worker: Any, process: str) -> Any:
    """Let a call be in retry for an hour that was made after its timer was due; return it."""
    [task] = worker.start(("call", process, None))
    worker.complete(task, outcome=3, retry_after=HOUR)
    return task


def set_timers(app: Any, worker: Any, process: str, **timers: int) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers=timers or {"t": 0})


def pass_patience(app: Any) -> None:
    """Let a minute and a second pass for the timers."""
    app.execute("update pgprog_data.timers set due_at = due_at - interval '61 s'")


def wait_us(app: Any, worker: Any) -> int:
    [wait] = app.execute(WAIT, (worker.worker_id,)).fetchone()
    return int(wait)


def explained(app: Any, process: str) -> str:
    [reason] = app.execute("select reason from pgprog.explain('orders', %s)", (process,)).fetchone()
    return str(reason)


def test_a_timer_that_a_claim_met_behind_a_retry_goes_first_once_it_is_overdue(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    hold(app, worker, process)
    assert worker.claim() == []
    assert explained(app, process) == "retry"

    pass_patience(app)

    assert explained(app, process) == "ready"
    assert [task.type for task in worker.claim()] == ["timeout"]


def test_a_timer_that_a_claim_met_behind_a_step_goes_first_when_that_is_in_retry(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    [task] = worker.start(("call", process, None))
    assert worker.claim() == []
    pass_patience(app)
    assert worker.claim() == []

    worker.complete(task, outcome=3, retry_after=HOUR)

    assert explained(app, process) == "ready"
    assert [task.type for task in worker.claim()] == ["timeout"]


@pytest.mark.parametrize("is_met_before", [True, False])
def test_a_worker_asks_again_when_the_patience_of_a_timer_ends(
    app: Any, worker: Any, process: str, is_met_before: bool
) -> None:
    set_timers(app, worker, process)
    if is_met_before:
        [task] = worker.start(("call", process, None))
        assert worker.claim() == []
        worker.complete(task, outcome=3, retry_after=HOUR)
    else:
        hold(app, worker, process)
        assert worker.claim() == []

    assert 0 < wait_us(app, worker) <= PATIENCE


def test_at_the_end_of_its_patience_a_timer_goes(
    app: Any, worker: Any, process: str, set_clock: Any
) -> None:
    set_timers(app, worker, process)
    hold(app, worker, process)
    [due_at] = app.execute("select due_at + interval '60 s' from pgprog.timers").fetchone()
    assert worker.claim() == []

    set_clock(due_at)

    assert [task.type for task in worker.claim()] == ["timeout"]


def test_a_timer_that_came_due_after_the_task_in_retry_was_made_waits_for_it(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    hold(app, worker, process)
    app.execute("update pgprog_data.queue set created_at = created_at - interval '1 hour'")
    pass_patience(app)

    assert [wait_us(app, worker) > PATIENCE for _ in range(3)] == [True] * 3
    assert explained(app, process) == "retry"


def test_behind_a_timer_that_went_first_the_next_one_has_the_same_patience(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process, t=0, u=1)
    hold(app, worker, process)
    assert worker.claim() == []
    pass_patience(app)
    [first] = worker.claim()
    assert worker.claim() == []
    worker.complete(first)

    assert [task.name for task in [first, *worker.claim()]] == ["t", "u"]


def test_a_patient_timer_goes_when_the_task_in_retry_has_ended(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    hold(app, worker, process)
    assert worker.claim() == []
    app.execute("update pgprog_data.queue set due_at = now()")
    [again] = worker.claim()

    rows = worker.complete(again, chain=True)

    assert [(row.outcome, row.name) for row in rows] == [("next", "t"), ("done", None)]


def test_a_patient_timer_goes_when_the_task_in_retry_is_cancelled(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    held = hold(app, worker, process)
    assert worker.claim() == []
    app.execute("select pgprog.cancel(%s)", (held.task_id,))

    assert [task.type for task in worker.claim()] == ["timeout"]


def test_a_task_that_came_due_behind_a_step_goes_when_that_is_in_retry(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.call('orders', %s, run_at => now() + interval '1 hour')", (process,))
    [task] = worker.start(("call", process, None))
    app.execute("update pgprog_data.queue set due_at = now() where status = 'f'")
    assert worker.claim() == []

    worker.complete(task, outcome=3, retry_after=HOUR)

    assert explained(app, process) == "ready"
    assert [row.task_id < task.task_id for row in worker.claim()] == [True]


def test_a_timer_whose_patience_another_claim_ends_is_neither_overtaken_nor_waited_for(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    hold(app, worker, process)
    assert worker.claim() == []
    pass_patience(app)
    app.execute("update pgprog_data.queue set due_at = now()")
    with app.transaction():
        app.execute(ENDED_ELSEWHERE, ("t",))
        assert worker.claim() == []
        assert worker.connection.execute(WAIT, (worker.worker_id,)).fetchone() == (0,)

    assert [task.name for task in worker.claim()] == ["t"]


def test_a_process_is_not_removed_while_another_claim_ends_the_patience_of_its_timer(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process, t=0, u=1)
    app.execute("update pgprog_data.timers set type = 'remove' where name = 't'")
    hold(app, worker, process)
    assert worker.claim() == []
    pass_patience(app)
    with app.transaction():
        app.execute(ENDED_ELSEWHERE, ("u",))
        assert worker.claim() == []
        assert app.execute("select count(*) from pgprog.processes").fetchone() == (1,)

    assert worker.claim() == []
    assert app.execute("select count(*) from pgprog.processes").fetchone() == (0,)


def test_a_timer_whose_patience_has_ended_is_claimed_whatever_a_claim_passes_by(
    app: Any, worker: Any, process: str
) -> None:
    set_timers(app, worker, process)
    hold(app, worker, process)
    assert worker.claim() == []  # and the timer is patient now

    pass_patience(app)

    [timer, _] = worker.connection.execute(
        "select type from pgprog_engine.claim(%s, 10, since => 'infinity')", (worker.worker_id,)
    ).fetchall()
    assert timer == ("timeout",)
