"""What a claim takes, in which order, and when it says to ask again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

CALL = "select pgprog.call('orders', %s)"
LATER = "select pgprog.call('orders', 'p1', run_at => now() + interval '1 hour')"
DAY = 86_400_000_000


def wait_of(worker: Any) -> int:
    """Claim nothing and return in how many µs to ask again."""
    [row] = worker.connection.execute(
        "select task_id, wait_us from pgprog_engine.claim(%s, 10)", (worker.worker_id,)
    ).fetchall()
    assert row[0] is None
    return int(row[1])


def test_calls_wait_behind_an_init_for_later(app: Any, worker: Any) -> None:
    [init] = app.execute(
        "select pgprog.init('orders', 'p1', run_at => now() + interval '1 hour')"
    ).fetchone()
    [call] = app.execute(CALL, ("p1",)).fetchone()
    assert worker.claim() == []
    assert wait_of(worker) > 0

    app.execute("update pgprog_data.queue set due_at = now() where task_id = %s", (init,))
    [task] = worker.claim()
    assert task.task_id == init
    worker.complete(task)
    assert [task.task_id for task in worker.claim()] == [call]


@pytest.fixture
def wide_worker(session: Any, worker: Any) -> Any:
    """A worker that serves the namespaces a, b and c."""
    connection = session()
    [worker_id] = connection.execute(
        "select pgprog_engine.register_worker('v', %s, %s::jsonb[], '1 hour')",
        (["a", "b", "c"], ["{}"] * 3),
    ).fetchone()
    return replace(worker, connection=connection, worker_id=worker_id)


def init_in(app: Any, namespace: str) -> None:
    app.execute("select pgprog.init(%s, gen_random_uuid()::text)", (namespace,))


def test_a_claim_takes_no_more_than_it_is_asked_for_over_all_namespaces(
    app: Any, wide_worker: Any
) -> None:
    for namespace in "abccba":
        init_in(app, namespace)

    claimed = [[task.namespace for task in wide_worker.claim(2)] for _ in range(3)]
    assert [len(names) for names in claimed] == [2, 2, 2]
    assert sorted(name for names in claimed for name in names) == list("aabbcc")


def test_a_claim_smaller_than_the_namespaces_takes_what_waits_longest(
    app: Any, wide_worker: Any
) -> None:
    for namespace in "cab":
        init_in(app, namespace)

    assert [wide_worker.claim(1)[0].namespace for _ in range(3)] == ["c", "a", "b"]


def namespaces_claimed(worker: Any, limit: int, held: dict[str, int], **more: Any) -> list[str]:
    """Claim for a worker that holds so many of these; return where the tasks are from."""
    values = (worker.worker_id, limit, [*held], [*held.values()], more.get("most"))
    rows = worker.connection.execute(
        "select namespace from pgprog_engine.claim(%s, %s, %s, %s, %s) where task_id is not null",
        values,
    ).fetchall()
    return sorted(name for [name] in rows)


def test_a_free_place_goes_to_the_namespace_of_which_the_worker_holds_fewest(
    app: Any, wide_worker: Any
) -> None:
    for namespace in "aaabbbc":
        init_in(app, namespace)

    assert namespaces_claimed(wide_worker, 1, {"a": 3, "b": 1}) == ["c"]
    assert namespaces_claimed(wide_worker, 1, {"a": 3, "b": 1, "c": 1}) == ["b"]
    assert namespaces_claimed(wide_worker, 2, {"a": 3, "b": 9}) == ["a", "b"]


def test_a_claim_for_those_of_whom_few_are_held_leaves_the_others(
    app: Any, wide_worker: Any
) -> None:
    for namespace in "aabbcc":
        init_in(app, namespace)

    assert namespaces_claimed(wide_worker, 10, {"a": 8, "b": 7}, most=8) == list("bbcc")
    assert namespaces_claimed(wide_worker, 10, {"a": 8, "b": 9}, most=8) == []
    assert namespaces_claimed(wide_worker, 10, {"a": 8}) == ["a", "a"]


def test_a_worker_asks_again_when_its_next_timer_is_due(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"t": 3_600_000_000})

    assert 0 < wait_of(worker) <= DAY / 24


def test_the_tasks_of_other_namespaces_wake_no_worker(app: Any, worker: Any) -> None:
    app.execute("select pgprog_engine._create_namespace('others', '{}')")
    app.execute("select pgprog.init('others', 'p1', run_at => now() + interval '1 minute')")

    assert wait_of(worker) == DAY


def test_a_worker_asks_again_when_its_next_task_is_due(app: Any, worker: Any, process: str) -> None:
    app.execute(LATER)

    assert 0 < wait_of(worker) <= DAY / 24


def test_due_timers_of_a_paused_namespace_do_not_make_the_claim_ask_at_once(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"t": 0})
    app.execute("update pgprog_data.namespaces set paused_at = now()")

    assert wait_of(worker) == DAY


def test_a_call_that_came_due_is_not_overtaken_by_a_chain(
    app: Any, worker: Any, process: str
) -> None:
    [due] = app.execute(LATER).fetchone()
    app.execute(CALL, (process,))
    [running] = worker.claim()
    app.execute(CALL, (process,))
    app.execute("update pgprog_data.queue set due_at = now() where task_id = %s", (due,))
    rows = worker.complete(running, chain=True)

    assert [row.outcome for row in rows] == ["done"]
    assert [task.task_id for task in worker.claim()] == [due]


def test_a_call_that_came_due_is_not_overtaken_by_a_direct_start(
    app: Any, worker: Any, process: str
) -> None:
    [due] = app.execute(LATER).fetchone()
    app.execute("update pgprog_data.queue set due_at = now() where task_id = %s", (due,))

    assert [row.outcome for row in worker.start(("call", process, None))] == ["queued"]
    assert [task.task_id for task in worker.claim()] == [due]


def test_a_task_of_higher_priority_goes_first(app: Any, worker: Any, make_processes: Any) -> None:
    make_processes(2)
    app.execute("select pgprog.call('orders', 'q0')")
    app.execute("select pgprog.call('orders', 'q1', priority => 1)")

    assert [task.process_id for task in worker.claim(1)] == ["q1"]


def test_a_call_that_came_due_and_is_locked_is_not_overtaken_by_a_claim(
    app: Any, worker: Any, process: str
) -> None:
    [due] = app.execute(LATER).fetchone()
    app.execute(CALL, (process,))
    app.execute("update pgprog_data.queue set due_at = now() where task_id = %s", (due,))
    with app.transaction():
        app.execute("select 1 from pgprog_data.queue where status = 'f' for update")
        assert worker.claim() == []

    assert [task.task_id for task in worker.claim()] == [due]


def test_no_task_starts_in_a_paused_namespace(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    [running] = worker.claim()
    app.execute(CALL, (process,))
    app.execute("update pgprog_data.namespaces set paused_at = now()")

    assert [row.outcome for row in worker.complete(running, chain=True)] == ["done"]
    assert worker.claim() == []
    assert [row.outcome for row in worker.start(("call", process, None))] == ["queued"]


def test_a_claim_in_another_isolation_is_refused(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with worker.connection.transaction(), pytest.raises(psycopg.Error) as caught:
        worker.claim()

    assert caught.value.sqlstate == "UP010"


def test_a_time_in_the_past_is_no_priority(app: Any, worker: Any, make_processes: Any) -> None:
    make_processes(3)
    for name in ("q0", "q1"):
        app.execute("select pgprog.call('orders', %s)", (name,))
    app.execute("select pgprog.call('orders', 'q2', run_at => '2001-01-01 00:00Z')")

    assert [task.process_id for task in worker.claim(2)] == ["q0", "q1"]


def test_a_step_reads_none_of_the_events_of_its_process(app: Any, worker: Any) -> None:
    history = [
        {"event_id": n, "at": "2026-01-01T00:00:00Z", "task_id": 1, "payload": n}
        for n in range(1, 101)
    ]
    imported = {"namespace": "orders", "process_id": "p1", "status": "running", "history": history}
    app.execute("select pgprog.put(%s)", (Jsonb(imported),))
    app.execute("select pgprog.call('orders', 'p1')")
    with worker.connection.transaction():
        worker.complete(*worker.claim())
        [read] = worker.connection.execute(
            "select sum(seq_tup_read + idx_tup_fetch)::integer from pg_stat_xact_user_tables"
            " where schemaname = 'pgprog_data' and relname like 'events%'"
        ).fetchone()

    assert read == 0
    assert app.execute("select last_event_id from pgprog.processes").fetchone() == (101,)


def test_a_session_may_read_null_in_arrays_as_text(worker: Any, app: Any) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    worker.connection.execute("set array_nulls = off")

    assert [task.process_id for task in worker.claim()] == ["p1"]
