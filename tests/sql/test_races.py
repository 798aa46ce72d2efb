"""The interleavings that broke drafts, stepped by hand; numbers are those of the list of races."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"


def make_processes(app: Any, worker: Any, count: int) -> list[str]:
    names = [f"q{number}" for number in range(count)]
    for name in names:
        app.execute("select pgprog.init('orders', %s)", (name,))
    worker.complete(*worker.claim(count))
    return names


def wait_for_lock(connection: Any, pid: int) -> None:
    """Return once the backend waits for a lock; the time-out of the test ends a wait in vain."""
    while not connection.execute("select cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone()[
        0
    ]:
        pass


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


def test_race_2_completions_pass_by_a_process_that_is_locked(app: Any, worker: Any) -> None:
    names = make_processes(app, worker, 3)
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


def test_race_5_a_claim_skips_processes_another_connection_is_claiming(
    app: Any, make_worker: Any, process: str
) -> None:
    first, second = make_worker(), make_worker()
    [one] = app.execute(CALL, (process,)).fetchone()
    app.execute(CALL, (process,))
    with first.connection.transaction():
        taken = first.claim()
        skipped = second.claim()

    assert [task.task_id for task in taken] == [one]
    assert skipped == []
    assert second.claim() == []


def test_race_6_a_timer_does_not_start_beside_a_call(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 0})
    app.execute(CALL, (process,))

    first = worker.claim()
    assert [task.type for task in first] == ["call"]
    assert worker.claim() == []
    worker.complete(*first)
    assert [task.type for task in worker.claim()] == ["timeout"]


def test_a_blocked_timer_is_let_go_though_the_clock_was_set_back(
    app: Any, worker: Any, process: str, set_clock: Any
) -> None:
    noon, minute = datetime.now(UTC), timedelta(minutes=1)
    set_clock(noon)
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 0})
    app.execute(CALL, (process,))
    called = worker.claim()
    set_clock(noon - minute)

    worker.complete(*called)

    assert worker.claim() == []
    set_clock(noon + minute)
    assert [task.type for task in worker.claim()] == ["timeout"]


def test_race_7_a_renewal_tells_what_the_worker_holds(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    held = worker.connection.execute(
        "select task_id, claim_id from pgprog_engine.renew_worker(%s, '1 hour', '{}')",
        (worker.worker_id,),
    ).fetchall()
    assert held == [(task.task_id, task.claim_id)]

    worker.connection.execute(
        "select pgprog_engine.hand_back(%s, %s)", ([held[0][0]], [held[0][1]])
    )

    [again] = worker.claim()
    assert (again.task_id, again.attempt) == (task.task_id, 1)


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


def test_race_9_a_worker_without_a_lease_gets_no_task(
    app: Any, make_worker: Any, process: str
) -> None:
    late = make_worker(lease="0 s")
    app.execute(CALL, (process,))

    with pytest.raises(psycopg.Error) as caught:
        late.claim()
    assert caught.value.sqlstate == "UP002"


def test_race_11_and_27_a_zombie_commits_nothing(app: Any, make_worker: Any, process: str) -> None:
    zombie, heir = make_worker(), make_worker()
    app.execute(CALL, (process,))
    [task] = zombie.claim()
    heir.connection.execute("select pgprog_engine.collect_zombies(%s, 0)", (zombie.worker_id,))
    [late] = zombie.complete(task)
    [again] = heir.claim()

    assert late.outcome == "lost"
    assert (again.task_id, again.attempt) == (task.task_id, 2)
    assert [row.outcome for row in heir.complete(again)] == ["done"]
    assert [row.outcome for row in zombie.complete(task)] == ["lost"]


def test_race_12_an_uncommitted_key_of_an_application_ends_a_start_at_once(
    app: Any, worker: Any, process: str
) -> None:
    with app.transaction():
        app.execute("select pgprog.call('orders', 'p1', idempotency_key => 'k')")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            worker.start(("call", process, "k"))

    [row] = worker.start(("call", process, "k"))
    assert row.outcome == "known"


def test_race_13_two_equal_keys_in_one_batch_get_one_task(worker: Any, process: str) -> None:
    first, second = worker.start(("call", process, "k"), ("call", process, "k"))

    assert {first.outcome, second.outcome} <= {"started", "known"}
    assert first.task_id == second.task_id


def test_race_14_a_repeatable_read_application_meets_a_new_key_as_40001(
    app: Any, session: Any, process: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', idempotency_key => 'k')"
    other = session()
    other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with other.transaction(force_rollback=True):
        other.execute("select 1")
        app.execute(statement)
        with pytest.raises(psycopg.errors.SerializationFailure):
            other.execute(statement)

    assert other.execute(statement).fetchone() == app.execute(statement).fetchone()


def test_race_15_an_id_is_used_again_while_old_events_remain(app: Any, worker: Any) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim(), then=2)
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim())

    ids = app.execute("select event_id from pgprog.history('orders', 'p1')").fetchall()
    assert ids == [(1,)]
    app.execute("select pgprog_engine.maintain()")
    assert app.execute("select count(*) from pgprog_data.events").fetchone() == (1,)


def test_race_17_a_smaller_id_committed_later_runs_later(
    app: Any, worker: Any, session: Any, process: str
) -> None:
    other = session()
    with other.transaction():
        [early] = other.execute(CALL, (process,)).fetchone()
        [late] = app.execute(CALL, (process,)).fetchone()
        [first] = worker.claim()
    worker.complete(first)
    [second] = worker.claim()

    assert (first.task_id, second.task_id) == (late, early)


def test_race_22_a_stored_time_is_later_than_the_wait_for_the_lock(
    app: Any, session: Any, process: str
) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()
    canceller = session()
    with ThreadPoolExecutor(1) as threads:
        with app.transaction():
            app.execute("select 1 from pgprog_data.processes for update")
            waiting = threads.submit(canceller.execute, "select pgprog.cancel(%s)", (task_id,))
            wait_for_lock(app, canceller.info.backend_pid)
            [released_at] = app.execute("select clock_timestamp()").fetchone()
        waiting.result()

    [ended_at] = app.execute(
        "select ended_at from pgprog.tasks where task_id = %s", (task_id,)
    ).fetchone()
    assert ended_at >= released_at


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


def test_race_33_a_claim_that_passed_a_process_by_says_ask_again(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    with app.transaction():
        app.execute("select 1 from pgprog_data.processes for update")
        rows = worker.connection.execute(
            "select task_id, wait_us from pgprog_engine.claim(%s, 10)", (worker.worker_id,)
        ).fetchall()

    assert rows == [(None, 0)]


def test_race_34_a_zombie_timer_that_was_set_again_fires_once(
    app: Any, make_worker: Any, process: str
) -> None:
    zombie, heir = make_worker(), make_worker()
    app.execute(CALL, (process,))
    zombie.complete(*zombie.claim(), timers={"t": 0})
    assert [task.name for task in zombie.claim()] == ["t"]
    heir.connection.execute("select pgprog_engine.collect_zombies(%s, 0)", (zombie.worker_id,))
    app.execute(CALL, (process,))
    heir.complete(*heir.claim(), timers={"t": 0})

    fired = heir.claim()
    assert [task.name for task in fired] == ["t"]
    heir.complete(*fired)
    assert heir.claim() == []


def test_race_35_a_task_in_retry_keeps_its_place(app: Any, worker: Any, process: str) -> None:
    [first] = app.execute("select pgprog.notify('orders', 'p1')").fetchone()
    [second] = app.execute("select pgprog.notify('orders', 'p1')").fetchone()
    worker.complete(*worker.claim(), outcome=3, retry_after=3_600_000_000)
    assert worker.claim() == []

    app.execute("update pgprog_data.queue set due_at = now() where task_id = %s", (first,))
    [again] = worker.claim()
    assert again.task_id == first
    [row, following] = sorted(worker.complete(again, chain=True), key=lambda row: row.outcome)
    assert (row.outcome, following.outcome, following.task_id) == ("done", "next", second)


def test_a_task_behind_a_running_one_waits_and_then_goes(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [first] = worker.claim()
    [second] = app.execute(CALL, (process,)).fetchone()
    assert worker.claim() == []

    worker.complete(first)

    assert [task.task_id for task in worker.claim()] == [second]


def test_nothing_overtakes_a_task_that_waits_for_its_retry(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.notify('orders', 'p1')")
    worker.complete(*worker.claim(), outcome=3, retry_after=3_600_000_000)
    app.execute(CALL, (process,))

    assert worker.claim() == []
