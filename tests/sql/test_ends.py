"""How processes end, break, heal and go away, and what their waiters are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

CALL = "select pgprog.call('orders', %s)"
REPAIR = "select pgprog.repair('orders', 'p1')"
BROKEN = '{"detail": "out of stock"}'
ENDED = "select status from pgprog_data.ended_processes"


def process_of(app: Any, process_id: str = "p1") -> Any:
    return app.execute("select pgprog.get('orders', %s)", (process_id,)).fetchone()[0]


def process_with_events(app: Any) -> Any:
    return app.execute("select pgprog.get('orders', 'p1', 10)").fetchone()[0]


@pytest.fixture
def broken(app: Any, worker: Any, process: str) -> str:
    """A process that a call broke; its timer is suspended."""
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"expiry": 3_600_000_000})
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=4, error=BROKEN)
    return process


def test_the_waiters_of_a_broken_process_are_told_what_broke_it(
    app: Any, worker: Any, process: str, result_of: Any
) -> None:
    app.execute(CALL, (process,))
    [waiting] = app.execute(CALL, (process,)).fetchone()
    worker.complete(*worker.claim(), outcome=4, error=BROKEN)

    assert result_of(waiting)["error"] == {"cause": "process broken: out of stock"}


def test_a_task_that_the_claim_ends_is_told_what_broke_its_process(
    app: Any, session: Any, worker: Any, process: str, result_of: Any
) -> None:
    other = session()
    app.execute(CALL, (process,))
    [task] = worker.claim()
    with other.transaction():
        [late] = other.execute(CALL, (process,)).fetchone()
        worker.complete(task, outcome=4, error=BROKEN)
    worker.claim()

    assert result_of(late)["error"] == {"cause": "process broken: out of stock"}


def test_a_task_that_the_claim_ends_is_told_that_its_process_finished(
    app: Any, session: Any, worker: Any, process: str, result_of: Any
) -> None:
    other = session()
    app.execute(CALL, (process,))
    [task] = worker.claim()
    with other.transaction():
        [late] = other.execute(CALL, (process,)).fetchone()
        worker.complete(task, then=1)
    worker.claim()

    assert result_of(late)["error"] == {"cause": "process finished"}


def test_a_repair_makes_a_process_running_and_clears_what_broke_it(
    app: Any, worker: Any, broken: str
) -> None:
    assert app.execute(ENDED).fetchall() == [("error",)]
    app.execute(REPAIR)
    worker.complete(*worker.claim())

    found = process_of(app)
    assert (found["status"], found["detail"], found["corrupted_by"]) == ("running", None, None)
    assert found["previous_status"] == "error"
    assert app.execute(ENDED).fetchall() == []


def test_a_repair_gives_back_suspended_timers(app: Any, worker: Any, broken: str) -> None:
    suspended = "select name, suspended from pgprog.timers"
    assert app.execute(suspended).fetchall() == [("expiry", True)]
    app.execute(REPAIR)
    worker.complete(*worker.claim())

    assert app.execute(suspended).fetchall() == [("expiry", False)]


def test_a_repair_without_action_on_timers_runs_the_timer_that_broke_the_process_again(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.call('orders', 'p1', context => '{\"trace\": 1}')")
    worker.complete(*worker.claim(), timers={"expiry": 0})
    worker.complete(*worker.claim(), outcome=4, error=BROKEN)
    app.execute(REPAIR)
    worker.complete(*worker.claim())

    [again] = worker.claim()
    assert (again.type, again.name, again.attempt) == ("timeout", "expiry", 1)
    assert again.context == {"trace": 1}


def test_a_repair_that_acts_on_timers_runs_no_timer_again(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"expiry": 0})
    worker.complete(*worker.claim(), outcome=4, error=BROKEN)
    app.execute(REPAIR)
    worker.complete(*worker.claim(), timers={"later": 3_600_000_000})

    assert app.execute("select name from pgprog.timers").fetchall() == [("later",)]


def test_a_failing_repair_changes_nothing(
    app: Any, worker: Any, broken: str, result_of: Any
) -> None:
    before = process_of(app)
    [task_id] = app.execute(REPAIR).fetchone()
    worker.complete(*worker.claim(), outcome=4, error='{"detail": "no spare part"}')

    assert process_of(app) == before
    assert result_of(task_id)["status"] == "error"


def test_of_two_repairs_the_second_ends_with_not_in_error(
    app: Any, worker: Any, broken: str, result_of: Any
) -> None:
    [first] = app.execute(REPAIR).fetchone()
    [second] = app.execute(REPAIR).fetchone()
    [task] = worker.claim()
    assert task.task_id == first
    rows = worker.complete(task, chain=True)
    assert [row.outcome for row in rows] == ["done"]
    app.execute(CALL, (broken,))

    assert [row.type for row in worker.claim()] == ["call"]
    assert result_of(second)["error"] == {"cause": "process not in error"}


def test_a_repair_that_comes_after_the_process_was_repaired_is_not_chained(
    app: Any, session: Any, worker: Any, broken: str, result_of: Any
) -> None:
    other = session()
    with other.transaction():
        [late] = other.execute(REPAIR).fetchone()
        app.execute(REPAIR)
        worker.complete(*worker.claim())
        app.execute(CALL, (broken,))
        [task] = worker.claim()
    rows = worker.complete(task, chain=True)

    assert [row.outcome for row in rows] == ["done"]
    assert worker.claim() == []
    assert result_of(late)["error"] == {"cause": "process not in error"}


def test_a_repair_may_finish_the_process(app: Any, worker: Any, broken: str) -> None:
    app.execute(REPAIR)
    worker.complete(*worker.claim(), then=1)

    assert process_of(app)["status"] == "finished"
    assert app.execute(ENDED).fetchall() == [("finished",)]
    assert app.execute("select count(*) from pgprog_data.timers").fetchone() == (0,)


def test_a_finished_process_stands_among_the_ended_ones_until_it_is_removed(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), then=1)
    assert app.execute(ENDED).fetchall() == [("finished",)]

    remove(app)
    assert app.execute(ENDED).fetchall() == []


def test_a_step_that_finishes_leaves_none_of_the_timers_it_sets(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [done] = worker.complete(*worker.claim(), then=1, timers={"never": 0})

    assert done.outcome == "done"
    assert worker.claim() == []
    assert app.execute(
        "select name, cause from pgprog.tasks where type = 'timeout'"
    ).fetchall() == [("never", "process finished")]


def test_a_rejected_step_sets_no_timer(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=2, timers={"never": 0})

    assert worker.claim() == []


def test_the_calls_of_a_rejected_init_are_cancelled_and_told_so(
    app: Any, worker: Any, result_of: Any
) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    [call] = app.execute(CALL, ("p1",)).fetchone()
    rows = worker.complete(*worker.claim(), outcome=2, chain=True, error='{"rejected": 1}')

    assert [row.outcome for row in rows] == ["done"]
    assert result_of(call)["error"] == {"cause": "init rejected"}
    assert worker.claim() == []


def test_an_init_that_ends_in_error_and_breaks_nothing_leaves_no_process(
    app: Any, worker: Any
) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim(), outcome=5, error=BROKEN)

    assert process_of(app) is None


def remove(app: Any, process_id: str = "p1") -> None:
    app.execute(
        "select pgprog_engine._remove_processes(array[incarnation], 'removed', clock_timestamp())"
        " from pgprog_data.processes where process_id = %s for update",
        (process_id,),
    )


def test_the_waiter_of_a_running_task_is_told_that_its_process_was_removed(
    app: Any, worker: Any, process: str, result_of: Any
) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()
    [task] = worker.claim()
    remove(app)

    assert result_of(task_id)["status"] == "cancelled"
    assert result_of(task_id)["error"] == {"cause": "removed"}
    assert [row.outcome for row in worker.complete(task)] == ["lost"]
    assert process_of(app) is None


def test_a_timer_let_go_while_its_process_is_removed_ends_too(
    app: Any, session: Any, worker: Any, process: str, gate: Any, result_of: Any
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 0})
    [task] = worker.claim()
    with session().transaction() as held:
        held.connection.execute(
            "select pgprog_engine.hand_back(%s, %s)", ([task.task_id], [task.claim_id])
        )
        app.execute("delete from pgprog_data.processes")

    assert worker.claim() == []
    assert result_of(task.task_id)["error"] == {"cause": "removed"}


def test_a_timer_of_type_remove_removes_without_a_step(
    app: Any, worker: Any, process: str, result_of: Any
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"expiry": 0}, remove=True)
    [timer] = app.execute("select task_id, type from pgprog.timers").fetchall()
    assert timer[1] == "remove"

    assert worker.claim() == []
    assert process_of(app) is None
    assert result_of(timer[0])["status"] == "finished"


def test_a_call_behind_a_due_remove_timer_runs_first(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"expiry": 0}, remove=True)
    app.execute(CALL, (process,))

    assert [task.type for task in worker.claim()] == ["call"]


def test_a_process_made_while_the_clock_was_ahead_goes_on_when_it_was_set_back(
    app: Any, worker: Any, set_clock: Any
) -> None:
    now = datetime.now(UTC)
    set_clock(now + timedelta(days=100))
    app.execute("select pgprog.init('orders', 'p1', context => '1')")
    set_clock(now)

    [done] = worker.complete(*worker.claim(), timers={"soon": 0})
    [timer] = worker.claim()
    [broken] = worker.complete(timer, outcome=4, error=BROKEN)

    assert (done.outcome, timer.context, broken.outcome) == ("done", 1, "done")
    [history] = app.execute("select array_agg(at) from pgprog.history('orders', 'p1')").fetchone()
    assert history == [now + timedelta(days=100)]
    assert app.execute("select type, at from pgprog_data.ended_processes").fetchall() == [
        ("timeout", now)
    ]


def test_a_process_that_was_put_with_a_time_ahead_of_the_clock_goes_on(
    app: Any, worker: Any
) -> None:
    event = {"event_id": 1, "at": "2199-01-01T00:00:00+00:00", "task_id": 5, "payload": 1}
    process = {"namespace": "orders", "process_id": "p1", "status": "running", "history": [event]}
    app.execute("select pgprog.put(%s)", (Jsonb(process),))
    app.execute(CALL, ("p1",))

    [done] = worker.complete(*worker.claim())

    assert done.outcome == "done"
    assert [e["at"] for e in process_with_events(app)["history"]] == [event["at"]] * 2
