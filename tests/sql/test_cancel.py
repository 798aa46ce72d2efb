"""Cancelling a task of each kind."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"
CANCEL = "select pgprog.cancel(%s)"
HOUR = 3_600_000_000


def was_cancelled(app: Any, task_id: int) -> bool:
    return bool(app.execute(CANCEL, (task_id,)).fetchone()[0])


def test_a_waiting_task_is_cancelled_and_never_runs(
    app: Any, worker: Any, process: str, result_of: Any
) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()

    assert was_cancelled(app, task_id)
    assert not was_cancelled(app, task_id)
    assert worker.claim() == []
    assert result_of(task_id)["error"] == {"cause": "cancelled"}


def test_a_task_for_later_is_cancelled(app: Any, process: str, result_of: Any) -> None:
    [task_id] = app.execute(
        "select pgprog.call('orders', 'p1', run_at => now() + interval '1 hour')"
    ).fetchone()

    assert was_cancelled(app, task_id)
    assert result_of(task_id)["status"] == "cancelled"


def test_a_blocked_task_is_cancelled_and_the_one_behind_it_goes(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [running] = worker.claim()
    [blocked] = app.execute(CALL, (process,)).fetchone()
    [last] = app.execute(CALL, (process,)).fetchone()
    assert worker.claim() == []

    assert was_cancelled(app, blocked)
    worker.complete(running)
    assert [task.task_id for task in worker.claim()] == [last]


def test_a_running_task_is_not_cancelled(app: Any, worker: Any, process: str) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()
    [task] = worker.claim()

    assert not was_cancelled(app, task_id)
    assert [row.outcome for row in worker.complete(task)] == ["done"]


def test_a_cancelled_retry_leaves_the_process_as_it_is_and_lets_the_next_task_go(
    app: Any, worker: Any, process: str
) -> None:
    [held] = app.execute("select pgprog.notify('orders', 'p1')").fetchone()
    worker.complete(*worker.claim(), outcome=3, retry_after=HOUR)
    [behind] = app.execute(CALL, (process,)).fetchone()
    assert worker.claim() == []

    assert was_cancelled(app, held)
    assert [task.task_id for task in worker.claim()] == [behind]
    [found] = app.execute("select pgprog.get('orders', 'p1')").fetchone()
    assert found["status"] == "running"


def test_a_cancelled_timer_never_fires(app: Any, worker: Any, process: str, result_of: Any) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 0})
    [timer] = app.execute("select task_id from pgprog.timers").fetchone()

    assert was_cancelled(app, timer)
    assert worker.claim() == []
    assert result_of(timer)["error"] == {"cause": "cancelled"}


def test_a_cancelled_timer_that_was_let_go_leaves_nothing_blocked_behind_it(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 0})
    [running] = worker.claim()
    [behind] = app.execute(CALL, (process,)).fetchone()
    assert worker.claim() == []
    app.execute("select pgprog_engine.hand_back(%s, %s)", ([running.task_id], [running.claim_id]))

    assert was_cancelled(app, running.task_id)
    assert [task.task_id for task in worker.claim()] == [behind]


def test_a_suspended_timer_is_cancelled(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"expiry": HOUR})
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=4, error='{"detail": "no"}')
    [timer] = app.execute("select task_id from pgprog.timers where suspended").fetchone()

    assert was_cancelled(app, timer)
    assert app.execute("select count(*) from pgprog.timers").fetchone() == (0,)


@pytest.mark.parametrize("outcome", [1, 2])
def test_a_task_that_has_ended_is_not_cancelled(
    app: Any, worker: Any, process: str, outcome: int
) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()
    worker.complete(*worker.claim(), outcome=outcome)

    assert not was_cancelled(app, task_id)


def test_cancelling_in_another_isolation_is_refused_since_it_could_leave_tasks_blocked(
    app: Any, session: Any, worker: Any, process: str
) -> None:
    [held] = app.execute("select pgprog.notify('orders', 'p1')").fetchone()
    worker.complete(*worker.claim(), outcome=3, retry_after=HOUR)
    [behind] = app.execute(CALL, (process,)).fetchone()
    other = session()
    other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with other.transaction(force_rollback=True):
        other.execute("select 1 from pgprog.namespaces")  # its snapshot, for all that follows
        assert worker.claim() == []
        with pytest.raises(psycopg.Error) as caught:
            other.execute(CANCEL, (held,))

    assert caught.value.sqlstate == "UP010"
    assert was_cancelled(app, held)
    assert [task.task_id for task in worker.claim()] == [behind]
