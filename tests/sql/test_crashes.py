"""Steps that are lost with their workers."""

from __future__ import annotations

from typing import Any

CALL = "select pgprog.call('orders', %s)"
HOUR = 3_600_000_000


def crash(make_worker: Any, heir: Any, *, times: int) -> None:
    """Claim what is due and begin it, and be collected with it, again and again."""
    for _ in range(times):
        zombie = make_worker()
        zombie.renew(*zombie.claim())
        heir.collect(zombie, renewals=1)


def test_a_task_that_crashed_its_workers_three_times_breaks_its_process(
    app: Any, worker: Any, make_worker: Any, process: str, result_of: Any
) -> None:
    [poison] = app.execute(CALL, (process,)).fetchone()
    [waiting] = app.execute(CALL, (process,)).fetchone()
    crash(make_worker, worker, times=3)

    assert worker.claim() == []
    assert result_of(poison)["error"] == {
        "error_type": "Crashed",
        "detail": "zombie detected",
        "attempt": 3,
    }
    assert result_of(waiting)["error"] == {"cause": "process broken: zombie detected"}
    [found] = app.execute("select pgprog.get('orders', 'p1')").fetchone()
    assert (found["status"], found["corrupted_by"]) == ("error", poison)
    assert (found["detail"], found["previous_status"]) == ("zombie detected", "running")


def test_a_task_that_crashed_twice_runs_again(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    crash(make_worker, worker, times=2)

    assert [task.attempt for task in worker.claim()] == [3]


def test_a_step_lost_before_it_began_is_no_crash(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    for _ in range(4):
        zombie = make_worker()
        zombie.claim()
        worker.collect(zombie)

    assert [task.attempt for task in worker.claim()] == [5]


def test_a_timer_that_crashed_its_workers_three_times_breaks_its_process(
    app: Any, worker: Any, make_worker: Any, process: str, result_of: Any
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"poison": 0, "other": HOUR})
    [poison] = app.execute("select task_id from pgprog.timers where name = 'poison'").fetchone()
    crash(make_worker, worker, times=3)

    assert worker.claim() == []
    assert result_of(poison)["status"] == "error"
    [found] = app.execute("select pgprog.get('orders', 'p1')").fetchone()
    assert (found["status"], found["corrupted_by"]) == ("error", poison)
    assert app.execute("select name, suspended from pgprog.timers").fetchall() == [("other", True)]


def test_a_repair_that_crashed_its_workers_lets_the_next_repair_go(
    app: Any, worker: Any, make_worker: Any, process: str, result_of: Any
) -> None:
    repair = (
        "select pgprog_engine._submit('repair', 'orders', 'p1', null, null, null, null, 0, null)"
    )
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=4, error='{"detail": "no"}')
    [poison] = app.execute(repair).fetchone()
    crash(make_worker, worker, times=2)
    zombie = make_worker()
    zombie.renew(*zombie.claim())
    [second] = app.execute(repair).fetchone()
    assert worker.claim() == []
    worker.collect(zombie, renewals=1)

    assert worker.claim() + worker.claim() != []
    assert result_of(poison)["status"] == "error"
    assert result_of(second)["status"] == "running"
    [found] = app.execute("select pgprog.get('orders', 'p1')").fetchone()
    assert found["detail"] == "no"


def test_a_task_that_crashed_is_not_chained(
    app: Any, session: Any, worker: Any, make_worker: Any, process: str
) -> None:
    other = session()
    with other.transaction():
        [early] = other.execute(CALL, (process,)).fetchone()
        app.execute(CALL, (process,))
        crash(make_worker, worker, times=1)
    [task] = worker.claim()
    assert task.task_id == early

    rows = worker.complete(task, chain=True)
    assert [row.outcome for row in rows] == ["done"]
    assert len(worker.claim()) == 1


def test_the_trace_shows_a_lost_attempt(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    zombie = make_worker()
    zombie.claim()
    worker.collect(zombie)
    worker.complete(*worker.claim())

    rows = app.execute(
        "select status, attempt, worker, error ->> 'error_type' from pgprog.trace('orders', 'p1')"
        " where type = 'call'"
    ).fetchall()
    assert rows == [
        ("error", 1, str(zombie.worker_id), "Lost"),
        ("finished", 2, "w", None),
    ]


def test_a_clean_stop_hands_back_with_no_attempt_burned(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    stopping = make_worker()
    stopping.renew(*stopping.claim())
    freed = stopping.connection.execute(
        "select pgprog_engine.deregister_worker(%s)", (stopping.worker_id,)
    ).fetchone()

    assert freed == (1,)
    assert [task.attempt for task in worker.claim()] == [1]
