"""Who waited for a worker's program tells that it ended: its tasks are free, and only they."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"


def test_the_tasks_of_an_ended_worker_run_again_though_its_lease_is_fresh(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    dead = make_worker()
    [lost] = dead.claim()

    assert worker.end(dead) == 1
    [again] = worker.claim()
    assert (again.task_id, again.attempt) == (lost.task_id, 2)
    assert again.claim_id != lost.claim_id


def test_a_live_worker_keeps_its_lease_and_its_tasks_when_another_is_ended(
    app: Any, worker: Any, make_worker: Any, make_processes: Any
) -> None:
    dead, live = make_worker(), make_worker()
    for name in make_processes(2):
        app.execute(CALL, (name,))
    [_] = dead.claim(1)
    [mine] = live.claim(1)
    worker.end(dead)

    assert [row.task_id for row in live.renew(mine)] == [mine.task_id]
    assert [row.outcome for row in live.complete(mine)] == ["done"]


def test_an_unknown_worker_is_nobody(app: Any, worker: Any, make_worker: Any) -> None:
    dead = make_worker()

    assert [worker.end(dead), worker.end(dead)] == [0, 0]
    assert app.execute("select count(*) from pgprog.workers").fetchone() == (1,)


def test_ending_a_worker_twice_takes_nothing_from_who_claimed_its_tasks(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    dead = make_worker()
    dead.claim()
    worker.end(dead)
    [task] = worker.claim()

    assert worker.end(dead) == 0
    assert [row.outcome for row in worker.complete(task)] == ["done"]


def test_an_ended_worker_crashed_only_the_steps_that_had_begun(
    app: Any, worker: Any, make_worker: Any, make_processes: Any
) -> None:
    for name in make_processes(2):
        app.execute(CALL, (name,))
    dead = make_worker()
    begun, _ = dead.claim()
    dead.renew(begun)
    worker.end(dead)

    crashes = "select crashes, attempt, begun from pgprog_data.queue order by task_id = %s"
    assert app.execute(crashes, (begun.task_id,)).fetchall() == [(0, 1, False), (1, 1, False)]


def test_a_task_whose_workers_ended_three_times_breaks_its_process(
    app: Any, worker: Any, make_worker: Any, process: str, result_of: Any
) -> None:
    [poison] = app.execute(CALL, (process,)).fetchone()
    for _ in range(3):
        dead = make_worker()
        dead.renew(*dead.claim())
        worker.end(dead)

    assert worker.claim() == []
    assert result_of(poison)["error"]["detail"] == "zombie detected"


def test_a_timer_of_an_ended_worker_is_a_timer_again(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"bell": 0})
    dead = make_worker()
    [timer] = dead.claim()
    worker.end(dead)

    assert app.execute("select name from pgprog.timers").fetchall() == [("bell",)]
    assert [(task.task_id, task.attempt) for task in worker.claim()] == [(timer.task_id, 2)]


def test_what_an_ended_worker_had_sent_commits_nothing_when_it_comes_later(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    app.execute(CALL, (process,))
    dead = make_worker()
    [task] = dead.claim()
    worker.end(dead)

    assert [row.outcome for row in dead.complete(task, chain=True)] == ["lost"]
    for late in (dead.claim, dead.renew):
        with pytest.raises(psycopg.Error) as caught:
            late()
        assert caught.value.sqlstate == "UP002"


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_completion_in_flight_ends_before_its_worker_is_ended(
    app: Any, worker: Any, make_worker: Any, process: str, wait_for_lock: Any, ends: str
) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()
    dead = make_worker()
    [task] = dead.claim()
    with ThreadPoolExecutor() as threads:
        dead.connection.execute("begin")
        dead.complete(task)
        ending = threads.submit(worker.end, dead)
        wait_for_lock(worker.connection)
        dead.connection.execute(ends)
        freed = ending.result()

    assert freed == (0 if ends == "commit" else 1)
    again = [(task.task_id, task.attempt) for task in worker.claim()]
    assert again == ([] if ends == "commit" else [(task_id, 2)])


def test_a_claim_in_flight_is_seen_by_the_end_of_its_worker(
    app: Any, worker: Any, make_worker: Any, process: str, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    dead = make_worker()
    with ThreadPoolExecutor() as threads:
        with dead.connection.transaction():
            [task] = dead.claim()
            ending = threads.submit(worker.end, dead)
            wait_for_lock(worker.connection)
        freed = ending.result()

    assert freed == 1
    assert [again.task_id for again in worker.claim()] == [task.task_id]


def test_a_chain_in_flight_is_seen_by_the_end_of_its_worker(
    app: Any, worker: Any, make_worker: Any, process: str, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    [second] = app.execute(CALL, (process,)).fetchone()
    dead = make_worker()
    [task] = dead.claim()
    with ThreadPoolExecutor() as threads:
        with dead.connection.transaction():
            rows = dead.complete(task, chain=True)
            ending = threads.submit(worker.end, dead)
            wait_for_lock(worker.connection)
        freed = ending.result()

    assert {row.outcome for row in rows} == {"done", "next"}
    assert freed == 1
    assert [(again.task_id, again.attempt) for again in worker.claim()] == [(second, 2)]


def test_a_renewal_in_flight_tells_the_end_of_its_worker_what_had_begun(
    app: Any, worker: Any, make_worker: Any, process: str, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    dead = make_worker()
    [task] = dead.claim()
    with ThreadPoolExecutor() as threads:
        with dead.connection.transaction():
            dead.renew(task)
            ending = threads.submit(worker.end, dead)
            wait_for_lock(worker.connection)
        freed = ending.result()

    assert freed == 1
    assert app.execute("select attempt, crashes from pgprog_data.queue").fetchall() == [(1, 1)]


@pytest.mark.slow  # the time-out of the lock
def test_the_end_of_a_worker_does_not_wait_long_for_what_it_had_sent(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    dead = make_worker()
    with dead.connection.transaction():
        dead.claim()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            worker.end(dead)

    assert worker.end(dead) == 1


def test_a_task_that_a_stranger_holds_is_freed_when_the_end_is_repeated(
    app: Any, session: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    dead, stranger = make_worker(), session()
    dead.claim()
    with stranger.transaction():
        stranger.execute("select from pgprog_data.queue for update")
        first = worker.end(dead)

    assert (first, worker.end(dead)) == (0, 1)


def test_the_end_of_a_worker_needs_read_committed(worker: Any, make_worker: Any) -> None:
    dead = make_worker()
    worker.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(psycopg.Error) as caught, worker.connection.transaction():
        worker.end(dead)

    assert caught.value.sqlstate == "UP010"
