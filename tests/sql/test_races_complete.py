"""The interleavings that broke drafts, stepped by hand (by number): completions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

CALL = "select pgprog.call('orders', %s)"


def test_race_1_an_open_transaction_that_enqueued_holds_up_no_completion(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    with app.transaction():
        app.execute(CALL, (process,))
        [done] = worker.complete(task)

    assert done.outcome == "done"
    assert len(worker.claim()) == 1


def test_race_2_completions_pass_by_a_process_that_is_locked(
    app: Any, worker: Any, make_processes: Any
) -> None:
    names = make_processes(3)
    for name in names:
        app.execute(CALL, (name,))
    tasks = worker.claim()
    with app.transaction():
        app.execute("select 1 from pgprog_data.processes where process_id = 'q1' for update")
        outcomes = [row.outcome for row in worker.complete(*tasks)]

    assert outcomes == ["done", "busy", "done"]
    assert [row.outcome for row in worker.complete(tasks[1])] == ["done"]


def test_race_4_a_repeatable_read_application_leaves_no_task_blocked(
    app: Any, worker: Any, process: str, session: Any
) -> None:
    other = session()
    other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    app.execute(CALL, (process,))
    [task] = worker.claim()
    with other.transaction():
        other.execute(CALL, (process,))
        worker.complete(task, outcome=2)

    assert len(worker.claim()) == 1


def test_race_8_a_completion_repeated_after_a_lost_answer_is_already_done(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    [done] = worker.complete(task)
    [again] = worker.complete(task)

    assert (done.outcome, again.outcome) == ("done", "already")
    assert again.version == done.version
    [process_row] = app.execute("select pgprog.get('orders', 'p1')").fetchone()
    assert process_row["last_event_id"] == 2


def test_race_37_a_clock_that_goes_back_makes_no_event_earlier_than_the_last(
    app: Any, worker: Any, process: str, set_clock: Any
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    set_clock(datetime.now(UTC) - timedelta(hours=1))
    worker.complete(task)

    times = app.execute(
        "select at from pgprog.history('orders', 'p1') order by event_id"
    ).fetchall()
    assert len(times) == 2
    assert times == sorted(times)


def test_race_26_nothing_starts_in_a_process_that_broke_meanwhile(
    app: Any, worker: Any, process: str, session: Any
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    other = session()
    with other.transaction():
        [late] = other.execute(CALL, (process,)).fetchone()
        rows = worker.complete(task, outcome=4, chain=True, error='{"detail": "broken"}')

    assert [row.outcome for row in rows] == ["done"]
    assert worker.claim() == []
    [result] = app.execute("select pgprog.result(%s)", (late,)).fetchone()
    assert result["status"] == "cancelled"


def test_race_3_a_task_that_arrives_while_a_completion_waits_is_its_next(
    app: Any, worker: Any, process: str, gate: Any, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    with ThreadPoolExecutor(1) as threads, gate("events"):
        completing = threads.submit(worker.complete, task, chain=True)
        wait_for_lock(worker.connection)
        [late] = app.execute(CALL, (process,)).fetchone()
    rows = completing.result()

    assert [(row.outcome, row.task_id) for row in rows] == [("next", late), ("done", None)]


def test_race_3_a_task_that_a_claim_blocks_while_its_process_is_completed_goes_afterwards(
    app: Any, make_worker: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    [blocked] = app.execute(CALL, (process,)).fetchone()
    other = make_worker()
    with other.connection.transaction():
        assert other.claim() == []
        [first] = worker.complete(task)
    [second] = worker.complete(task)

    assert (first.outcome, second.outcome) == ("busy", "done")
    assert [task.task_id for task in worker.claim()] == [blocked]


def test_race_28_a_busy_completion_has_changed_nothing(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    with app.transaction():
        app.execute("select 1 from pgprog_data.processes for update")
        [busy] = worker.complete(task)
        held = [(row.task_id, row.claim_id) for row in worker.renew()]

    assert busy.outcome == "busy"
    assert held == [(task.task_id, task.claim_id)]
    assert app.execute("select count(*) from pgprog.history('orders', 'p1')").fetchone() == (1,)


def test_race_36_completions_that_met_a_claim_are_busy_once_and_then_done(
    app: Any, make_worker: Any, worker: Any, make_processes: Any
) -> None:
    names = make_processes(3)
    for name in names:
        app.execute(CALL, (name,))
    tasks = worker.claim()
    for name in names:
        app.execute(CALL, (name,))
    other = make_worker()
    with other.connection.transaction():
        assert other.claim() == []
        first = [row.outcome for row in worker.complete(*tasks)]
    second = [row.outcome for row in worker.complete(*tasks)]

    assert (first, second) == (["busy"] * 3, ["done"] * 3)
    assert len(other.claim()) == 3


def test_race_26_nothing_is_chained_in_a_process_that_breaks(
    app: Any, worker: Any, process: str, gate: Any, session: Any, wait_for_lock: Any
) -> None:
    other = session()
    app.execute(CALL, (process,))
    [task] = worker.claim()
    app.execute(CALL, (process,))
    with ThreadPoolExecutor(1) as threads:
        # The completion has ended what waited when the other call is committed.
        with gate("tasks", "row when (new.status = 'cancelled')"), other.transaction():
            other.execute(CALL, (process,))
            breaking = threads.submit(
                worker.complete, task, outcome=4, chain=True, error='{"detail": "no"}'
            )
            wait_for_lock(worker.connection)
        rows = breaking.result()

    assert [row.outcome for row in rows] == ["done"]
    assert worker.claim() == []


def test_race_9_a_completion_of_an_expired_worker_counts_and_gets_no_next_task(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    app.execute(CALL, (process,))
    app.execute("update pgprog_data.workers set lease_until = now()")

    assert [row.outcome for row in worker.complete(task, chain=True)] == ["done"]
