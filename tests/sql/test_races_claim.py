"""The interleavings that broke drafts, stepped by hand (by number): claims and leases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"


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


def test_race_9_a_worker_without_a_lease_gets_no_task(
    app: Any, make_worker: Any, process: str
) -> None:
    late = make_worker(lease="0 s")
    app.execute(CALL, (process,))

    with pytest.raises(psycopg.Error) as caught:
        late.claim()
    assert caught.value.sqlstate == "UP002"


def test_race_11_a_claim_that_was_handed_back_commits_nothing_even_of_the_same_worker(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [first] = worker.claim()
    worker.connection.execute(
        "select pgprog_engine.hand_back(%s, %s)", ([first.task_id], [first.claim_id])
    )
    [second] = worker.claim()
    assert (first.task_id, first.attempt) == (second.task_id, second.attempt)

    assert [row.outcome for row in worker.complete(first)] == ["lost"]
    assert [row.outcome for row in worker.complete(second)] == ["done"]


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


def test_race_17_a_smaller_id_committed_later_runs_later(
    app: Any, worker: Any, session: Any, process: str
) -> None:
    other = session()
    with other.transaction():
        [early] = other.execute(CALL, (process,)).fetchone()
        [late] = app.execute(CALL, (process,)).fetchone()
        [first] = worker.claim()
    app.execute(CALL, (process,))
    worker.complete(first)
    [second] = worker.claim()

    assert (first.task_id, second.task_id) == (late, early)


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


def test_race_9_a_worker_in_the_middle_of_a_claim_is_not_collected(
    app: Any, make_worker: Any, worker: Any, process: str
) -> None:
    claiming = make_worker()
    app.execute(CALL, (process,))
    with claiming.connection.transaction():
        assert len(claiming.claim()) == 1
        assert worker.collect(claiming) == 0

    assert worker.collect(claiming) == 1


def test_race_9_a_claim_that_met_the_collector_gets_no_task(
    app: Any, make_worker: Any, process: str, wait_for_lock: Any
) -> None:
    late, collector = make_worker(), make_worker()
    app.execute(CALL, (process,))
    with ThreadPoolExecutor(1) as threads:
        with collector.connection.transaction():
            collector.collect(late)
            claiming = threads.submit(late.claim)
            wait_for_lock(late.connection)
        with pytest.raises(psycopg.Error) as caught:
            claiming.result()

    assert caught.value.sqlstate == "UP002"


def test_a_collector_leaves_a_worker_that_has_renewed(
    make_worker: Any, worker: Any, app: Any, process: str
) -> None:
    alive = make_worker()
    app.execute(CALL, (process,))
    alive.claim()
    alive.renew()

    assert worker.collect(alive, renewals=0) == 0
    assert len(alive.renew()) == 1


def test_race_26_nothing_is_claimed_in_a_process_that_a_claim_found_broken(
    app: Any, worker: Any, process: str, gate: Any, session: Any, wait_for_lock: Any
) -> None:
    first, second = session(), session()
    app.execute(CALL, (process,))
    [task] = worker.claim()
    for application in (first, second):
        application.execute("begin")
        application.execute(CALL, (process,))
    worker.complete(task, outcome=4)
    first.execute("commit")
    with ThreadPoolExecutor(1) as threads, gate("tasks"):
        claiming = threads.submit(worker.claim)
        wait_for_lock(worker.connection)
        second.execute("commit")  # the claim has looked for the tasks to end, and not seen this one

    assert claiming.result() == []


def test_race_31_due_timers_of_a_busy_process_hide_no_other_timer(
    app: Any, worker: Any, make_processes: Any
) -> None:
    busy, free = make_processes(2)
    app.execute(CALL, (busy,))
    worker.complete(*worker.claim(), timers={f"t{number}": 0 for number in range(9)})
    [task] = worker.start(("call", busy, None))
    worker.start(("call", free, None))
    app.execute("update pgprog_data.timers set due_at = due_at - interval '1 s'")
    [other] = [row for row in worker.renew() if row.task_id != task.task_id]
    incarnation = app.execute(
        "select incarnation from pgprog_data.processes where process_id = %s", (free,)
    ).fetchone()[0]
    worker.complete(SimpleNamespace(incarnation=incarnation, **other._asdict()), timers={"u": 0})

    assert [row.name for row in worker.claim(2)] == ["u"]


def test_race_31_timers_blocked_behind_a_step_fire_when_it_has_ended(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"t": 0})
    worker.start(("call", process, None))
    assert worker.claim() == []
    [held] = worker.renew()
    [incarnation] = app.execute("select incarnation from pgprog_data.processes").fetchone()
    worker.complete(SimpleNamespace(incarnation=incarnation, **held._asdict()))

    assert [task.name for task in worker.claim()] == ["t"]


def test_race_32_ready_tasks_of_a_process_locked_elsewhere_hide_no_other_process(
    app: Any, worker: Any, make_processes: Any
) -> None:
    locked, free = make_processes(2)
    for _ in range(2):
        app.execute(CALL, (locked,))
    [task_id] = app.execute(CALL, (free,)).fetchone()
    with app.transaction():
        app.execute("select 1 from pgprog_data.processes where process_id = 'q0' for update")

        assert [task.task_id for task in worker.claim(2)] == [task_id]


def test_race_36_two_claims_at_once_share_out_what_is_due(
    app: Any, make_worker: Any, worker: Any, make_processes: Any
) -> None:
    for name in make_processes(4):
        app.execute(CALL, (name,))
    other = make_worker()
    with other.connection.transaction():
        first = other.claim(2)
        second = worker.claim(2)

    assert len({task.task_id for task in [*first, *second]}) == 4


def test_a_renewal_does_not_wait_for_a_completion(
    app: Any, session: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    heartbeat = replace(worker, connection=session())
    heartbeat.connection.execute("set statement_timeout = '10s'")
    with worker.connection.transaction():
        worker.complete(task)
        held = [row.task_id for row in heartbeat.renew(task)]

    assert held == [task.task_id]


def test_a_task_behind_a_timer_that_was_given_back_goes_though_the_clock_was_set_back(
    app: Any, worker: Any, process: str, set_clock: Any
) -> None:
    noon, hour = datetime.now(UTC), timedelta(hours=1)
    set_clock(noon)
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 0})
    [timer] = worker.claim()
    app.execute(CALL, (process,))
    assert worker.claim() == []
    set_clock(noon - hour)
    worker.connection.execute(
        "select pgprog_engine.hand_back(%s, %s)", ([timer.task_id], [timer.claim_id])
    )

    assert len(worker.claim()) == 1


def test_a_claim_in_which_the_clock_is_set_back_by_an_hour_takes_what_is_due(
    app: Any, worker: Any, process: str, set_clock: Any
) -> None:
    set_clock(datetime.now(UTC))
    app.execute(CALL, (process,))
    app.execute(
        "create or replace function pgprog_engine._clock() returns timestamptz language sql"
        " volatile return pgprog_engine._now() - interval '1 hour'"
    )

    assert len(worker.claim()) == 1
