"""The interleavings that broke drafts, stepped by hand (by number): completions."""

from __future__ import annotations

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
    set_clock("2026-01-01 00:00Z")
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
