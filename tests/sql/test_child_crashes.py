"""Steps whose child process died: their worker reports the crash."""

from __future__ import annotations

from typing import Any

CALL = "select pgprog.call('orders', %s)"


def report(worker: Any, task: Any, **other: int) -> bool:
    """Report that the child process of a step died, and return whether it was let go."""
    values = {
        "worker": worker.worker_id,
        "task": task.task_id,
        "claim": task.claim_id,
    } | other
    [done] = worker.connection.execute(
        "select pgprog_engine.report_crash(%(worker)s, %(task)s, %(claim)s)", values
    ).fetchone()
    return bool(done)


def crashes_of(app: Any) -> list[tuple[str, int]]:
    """Return the status and the crashes of each open task."""
    rows: list[tuple[str, int]] = app.execute(
        "select status::text, crashes from pgprog_data.queue"
    ).fetchall()
    return rows


def test_a_reported_crash_counts_and_the_next_attempt_may_start_at_once(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()

    assert report(worker, task)
    assert crashes_of(app) == [("w", 1)]
    assert [(again.attempt, again.alone) for again in worker.claim()] == [(2, True)]


def test_a_crash_reported_twice_counts_once(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()

    assert [report(worker, task), report(worker, task)] == [True, False]
    assert crashes_of(app) == [("w", 1)]


def test_the_crash_of_a_claim_that_was_taken_away_is_none(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    assert report(worker, task)
    [again] = worker.claim()

    assert not report(worker, task)
    assert not report(make_worker(), again)
    assert crashes_of(app) == [("r", 1)]


def test_the_report_of_a_crash_waits_for_nobody(
    app: Any, session: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    stranger = session()
    worker.connection.execute("set lock_timeout = '2s'")

    with stranger.transaction():
        stranger.execute("select from pgprog_data.queue for update")
        assert not report(worker, task)
    assert report(worker, task)


def test_the_last_crash_of_children_breaks_the_process(
    app: Any, worker: Any, process: str, result_of: Any
) -> None:
    [poison] = app.execute(CALL, (process,)).fetchone()
    for _ in range(3):
        [task] = worker.claim()
        assert report(worker, task)

    assert worker.claim() == []
    assert result_of(poison)["error"]["detail"] == "zombie detected"


def test_a_timer_whose_child_died_is_a_timer_again(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"poison": 0})
    [task] = worker.claim()

    assert report(worker, task)
    assert app.execute("select name, crashes from pgprog_data.timers").fetchall() == [("poison", 1)]
    assert [again.alone for again in worker.claim()] == [True]


def test_what_was_lost_with_a_worker_before_anybody_knew_that_it_began_runs_alone(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    zombie = make_worker()
    assert [task.alone for task in zombie.claim()] == [False]
    worker.collect(zombie)

    assert [task.alone for task in worker.claim()] == [True]


def test_a_chain_does_not_go_on_with_what_was_lost_before_anybody_knew_that_it_began(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"poison": 0})
    zombie = make_worker()
    assert [task.name for task in zombie.claim()] == ["poison"]
    worker.collect(zombie)
    app.execute(CALL, (process,))
    [call] = worker.claim()

    assert [row.outcome for row in worker.complete(call, chain=True)] == ["done"]
    assert [(task.name, task.alone) for task in worker.claim()] == [("poison", True)]


def test_the_next_attempt_of_what_only_failed_runs_with_others(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=3, retry_after=0)

    assert [(task.attempt, task.alone) for task in worker.claim()] == [(2, False)]
