"""Pausing: no task starts after its commit; running steps end; inserts are accepted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL = "select pgprog.call('orders', %s)"
PAUSE = "select pgprog.pause('orders', 'stock-taking')"
RESUME = "select pgprog.resume('orders')"
PAUSED = "select pause_reason from pgprog.namespaces where paused_at is not null"
PAUSED_BY = "select paused_by from pgprog.namespaces"
DOOR = """
alter function pgprog_engine._open_namespaces rename to _open_namespaces_behind;
create function pgprog_engine._open_namespaces(namespaces text[]) returns text[]
language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(4711);
  return pgprog_engine._open_namespaces_behind(namespaces);
end
$$;
"""
NO_DOOR = """
drop function pgprog_engine._open_namespaces;
alter function pgprog_engine._open_namespaces_behind rename to _open_namespaces;
"""
BROKEN = '{"detail": "books do not balance"}'
SETTINGS = {
    "changed": "select pgprog.set_settings('orders', '{\"max_crashes\": 5}')",
    "as they were": "select pgprog.set_settings('orders', '{}')",
    "rolled back": "select pgprog.rollback_settings('orders', 1)",
}


def test_in_a_paused_namespace_no_task_starts_until_it_is_resumed(
    app: Any, worker: Any, process: str
) -> None:
    assert app.execute(PAUSE).fetchone() == (True,)
    app.execute(CALL, (process,))
    assert worker.claim() == []
    assert [row.outcome for row in worker.start(("call", process, None))] == ["queued"]

    assert app.execute(RESUME).fetchone() == (True,)
    assert [task.type for task in worker.claim()] == ["call"]


def test_running_steps_of_a_paused_namespace_end_and_nothing_follows_them(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    app.execute(PAUSE)
    app.execute(CALL, (process,))

    assert [row.outcome for row in worker.complete(task, chain=True)] == ["done"]
    assert worker.claim() == []


def test_no_timer_of_a_paused_namespace_runs_or_removes(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"t": 0}, remove=True)
    app.execute(PAUSE)

    assert worker.claim() == []
    assert app.execute("select status from pgprog.processes").fetchall() == [("running",)]


def test_pausing_again_gives_another_reason_and_resuming_takes_it_away(app: Any) -> None:
    app.execute(PAUSE)
    since = "select paused_at from pgprog.namespaces"
    before = app.execute(since).fetchone()
    assert app.execute("select pgprog.pause('orders', 'fire')").fetchone() == (False,)

    assert app.execute(PAUSED).fetchall() == [("fire",)]
    assert app.execute(since).fetchone() == before
    app.execute(RESUME)
    assert app.execute(PAUSED).fetchall() == []
    assert app.execute(RESUME).fetchone() == (False,)


def test_a_paused_namespace_names_who_gave_the_reason(app: Any) -> None:
    app.execute(PAUSE)
    app.execute("update pgprog_data.audit set login = 'somebody'")
    assert app.execute(PAUSED_BY).fetchone() == ("somebody",)

    app.execute("select pgprog.pause('orders', 'fire')")

    assert app.execute(PAUSED_BY).fetchone() == app.execute("select session_user").fetchone()
    app.execute(RESUME)
    assert app.execute(PAUSED_BY).fetchone() == (None,)


def test_who_paused_a_namespace_before_is_not_named_for_an_error_that_pauses_it(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(PAUSE)
    app.execute(RESUME)
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=6, error=BROKEN)

    assert app.execute(PAUSED).fetchall() == [("books do not balance",)]
    assert app.execute(PAUSED_BY).fetchone() == (None,)


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_pausing_and_resuming_need_a_namespace(app: Any, name: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(sql.SQL("select pgprog.{}('nowhere')").format(sql.Identifier(name)))

    assert caught.value.sqlstate == "UP007"


def test_pause_waits_for_a_claim_in_flight(
    app: Any, worker: Any, process: str, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    with ThreadPoolExecutor(1) as threads:
        with worker.connection.transaction():
            assert len(worker.claim()) == 1
            pausing = threads.submit(app.execute, PAUSE)
            wait_for_lock(app)
        pausing.result()

    assert app.execute(PAUSED).fetchall() == [("stock-taking",)]


def test_pause_waits_for_a_direct_start_in_flight(
    app: Any, worker: Any, process: str, wait_for_lock: Any
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with worker.connection.transaction():
            [started] = worker.start(("call", process, None))
            assert started.outcome == "started"
            pausing = threads.submit(app.execute, PAUSE)
            wait_for_lock(app)
        pausing.result()


def test_pause_waits_for_a_chain_in_flight(
    app: Any, worker: Any, process: str, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    app.execute(CALL, (process,))
    with ThreadPoolExecutor(1) as threads:
        with worker.connection.transaction():
            rows = worker.complete(task, chain=True)
            assert sorted(row.outcome for row in rows) == ["done", "next"]
            pausing = threads.submit(app.execute, PAUSE)
            wait_for_lock(app)
        pausing.result()


def test_while_a_pause_is_not_committed_nothing_starts_and_nobody_waits(
    app: Any, session: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    app.execute(CALL, (process,))
    with session().transaction() as held:
        held.connection.execute(PAUSE)
        [ended] = worker.complete(task, chain=True)
        assert ended.outcome == "done"
        rows = worker.connection.execute(
            "select task_id, wait_us from pgprog_engine.claim(%s, 10)", (worker.worker_id,)
        ).fetchall()
        assert [row[0] for row in rows] == [None]
        assert 0 < rows[0][1] <= 20_000

    assert worker.claim() == []


def test_a_direct_start_does_not_wait_for_a_pause_that_is_not_committed(
    session: Any, worker: Any, process: str
) -> None:
    with session().transaction() as held:
        held.connection.execute(PAUSE)
        assert [row.outcome for row in worker.start(("call", process, None))] == ["queued"]


@pytest.fixture
def looked(session: Any) -> Iterator[Any]:
    """A door between a look at the namespaces and the lock of starts; what comes to it waits."""
    keeper = session()
    keeper.execute(DOOR)

    @contextmanager
    def closed() -> Iterator[None]:
        keeper.execute("select pg_advisory_lock(4711)")
        try:
            yield
        finally:
            keeper.execute("select pg_advisory_unlock(4711)")

    yield closed
    keeper.execute(NO_DOOR)


def test_a_claim_that_looked_before_a_pause_was_committed_starts_nothing(
    app: Any, worker: Any, process: str, looked: Any, wait_for_lock: Any
) -> None:
    app.execute(CALL, (process,))
    with ThreadPoolExecutor(1) as threads, looked():
        claiming = threads.submit(worker.claim)
        wait_for_lock(worker.connection)
        app.execute(PAUSE)

    assert claiming.result() == []


def test_a_start_that_looked_before_a_pause_was_committed_starts_nothing(
    app: Any, worker: Any, process: str, looked: Any, wait_for_lock: Any
) -> None:
    with ThreadPoolExecutor(1) as threads, looked():
        worker.connection.execute("alter function pgprog_engine.start reset lock_timeout")
        starting = threads.submit(worker.start, ("call", process, None))
        wait_for_lock(worker.connection)
        app.execute(PAUSE)

    assert [row.outcome for row in starting.result()] == ["queued"]
    app.execute("alter function pgprog_engine.start set lock_timeout = '50ms'")


def test_a_critical_error_pauses_its_namespace_in_the_commit_that_breaks_its_process(
    app: Any, worker: Any, make_processes: Any
) -> None:
    broken, other = make_processes(2)
    app.execute(CALL, (broken,))
    [task] = worker.claim()
    app.execute(CALL, (other,))

    [row] = worker.complete(task, outcome=6, error=BROKEN, chain=True)
    assert row.outcome == "done"
    assert app.execute(PAUSED).fetchall() == [("books do not balance",)]
    assert worker.claim() == []
    [process] = app.execute("select pgprog.get('orders', %s)", (broken,)).fetchone()
    assert (process["status"], process["detail"]) == ("error", "books do not balance")
    assert process["corrupted_by"] == task.task_id


def test_a_critical_error_leaves_the_reason_of_a_paused_namespace(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    app.execute(PAUSE)
    worker.complete(task, outcome=6, error=BROKEN)

    assert app.execute(PAUSED).fetchall() == [("stock-taking",)]


def test_a_critical_error_of_a_lost_claim_pauses_nothing(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [task] = worker.claim()
    worker.connection.execute(
        "select pgprog_engine.hand_back(%s, %s)", ([task.task_id], [task.claim_id])
    )

    assert [row.outcome for row in worker.complete(task, outcome=6)] == ["lost"]
    assert app.execute(PAUSED).fetchall() == []


def test_a_critical_error_is_busy_while_a_start_is_in_flight(
    app: Any, worker: Any, make_worker: Any, make_processes: Any
) -> None:
    first, second = make_processes(2)
    app.execute(CALL, (first,))
    [task] = worker.claim()
    app.execute(CALL, (second,))
    other = make_worker()
    with other.connection.transaction():
        assert len(other.claim()) == 1
        [row] = worker.complete(task, outcome=6, error=BROKEN)
        assert row.outcome == "busy"

    assert [row.outcome for row in worker.complete(task, outcome=6, error=BROKEN)] == ["done"]


@pytest.mark.parametrize("change", SETTINGS.values(), ids=SETTINGS)
def test_a_critical_error_is_busy_beside_an_open_change_of_settings_and_holds_up_nobody(
    app: Any, session: Any, worker: Any, make_processes: Any, change: LiteralString
) -> None:
    for name in make_processes(3):
        app.execute(CALL, (name,))
    first, second, third = worker.claim()
    worker.connection.execute("set statement_timeout = '2s'")
    with session().transaction() as held:
        held.connection.execute(change)
        rows = worker.complete(first, second, outcome=[6, 1], error=BROKEN)
        assert [row.outcome for row in rows] == ["busy", "done"]
        app.execute(CALL, ("q1",))
        assert len(worker.claim()) == 1
        assert [row.outcome for row in worker.complete(third)] == ["done"]
        assert held.connection.execute(PAUSE).fetchone() == (True,)

    assert [row.outcome for row in worker.complete(first, outcome=6, error=BROKEN)] == ["done"]
    assert app.execute(PAUSED).fetchall() == [("stock-taking",)]


def test_two_critical_errors_at_once_pause_once(
    app: Any, worker: Any, make_worker: Any, make_processes: Any
) -> None:
    for name in make_processes(2):
        app.execute(CALL, (name,))
    [first] = worker.claim(1)
    other = make_worker()
    [second] = other.claim(1)
    with worker.connection.transaction():
        assert [row.outcome for row in worker.complete(first, outcome=6, error=BROKEN)] == ["done"]
        assert [row.outcome for row in other.complete(second, outcome=6)] == ["busy"]

    assert [row.outcome for row in other.complete(second, outcome=6)] == ["done"]
    assert app.execute(PAUSED).fetchall() == [("books do not balance",)]
