"""The interleavings that broke drafts, stepped by hand (by number): keys, ids and times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"
PUT = """select pgprog.put('{"namespace": "orders", "process_id": "p1", "status": "running"}')"""
SEVERAL = """
select outcome from pgprog.submit_many(
  array[%s, %s], array['orders', 'orders'], array['p1', 'p2'], array[null, null]::jsonb[],
  array[null, null]::text[], array[%s, null]::text[], array[null, null]::jsonb[], array[0, 0],
  array[null, null]::timestamptz[])
"""
# What uses an id again that was removed, and a key that was erased.
IDS = [
    ("select pgprog.init('orders', 'p1')", ()),
    (SEVERAL, ("init", "init", None)),
    (PUT, ()),
]
KEYS = [
    ("select pgprog.call('orders', 'p1', '2', idempotency_key => 'k')", ()),
    (SEVERAL, ("call", "init", "k")),
]


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


@pytest.mark.parametrize(("again", "values"), IDS, ids=["alone", "among others", "put"])
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_removed_id_is_used_again_by_no_snapshot_that_still_sees_its_process(
    app: Any, session: Any, process: str, again: Any, values: Any, isolation: str
) -> None:
    other = session()
    other.isolation_level = psycopg.IsolationLevel[isolation.upper().replace(" ", "_")]
    with other.transaction(force_rollback=True):
        other.execute("select 1")
        app.execute("select pgprog.remove('orders', 'p1')")
        with pytest.raises(psycopg.errors.SerializationFailure, match="process p1 in namespace"):
            other.execute(again, values)

    with other.transaction():
        other.execute(again, values)
        found = other.execute("select pgprog.get('orders', 'p1') ->> 'status'").fetchone()
    assert found == ("running" if again == PUT else "init",)


@pytest.mark.parametrize(("again", "values"), KEYS, ids=["alone", "among others"])
def test_an_erased_key_is_taken_by_no_snapshot_that_still_sees_it(
    app: Any, session: Any, process: str, again: Any, values: Any
) -> None:
    app.execute("select pgprog.call('orders', 'p1', '1', idempotency_key => 'k')")
    other = session()
    other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with other.transaction(force_rollback=True):
        other.execute("select 1")
        app.execute("delete from pgprog_data.keys")  # as maintenance does after key_ttl
        with pytest.raises(psycopg.errors.SerializationFailure, match="idempotency key k in"):
            other.execute(again, values)

    assert other.execute(again, values).rowcount == (2 if again == SEVERAL else 1)


def test_race_15_an_id_is_used_again_while_old_events_remain(app: Any, worker: Any) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim(), then=2)
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim())

    ids = app.execute("select event_id from pgprog.history('orders', 'p1')").fetchall()
    assert ids == [(1,)]
    app.execute("select pgprog_engine.maintain()")
    assert app.execute("select count(*) from pgprog_data.events").fetchone() == (1,)


def test_race_22_a_stored_time_is_later_than_the_wait_for_the_lock(
    app: Any, session: Any, process: str, wait_for_lock: Any
) -> None:
    [task_id] = app.execute(CALL, (process,)).fetchone()
    canceller = session()
    with ThreadPoolExecutor(1) as threads:
        with app.transaction():
            app.execute("select 1 from pgprog_data.processes for update")
            waiting = threads.submit(canceller.execute, "select pgprog.cancel(%s)", (task_id,))
            wait_for_lock(canceller)
            [released_at] = app.execute("select clock_timestamp()").fetchone()
        waiting.result()

    [ended_at] = app.execute(
        "select ended_at from pgprog.tasks where task_id = %s", (task_id,)
    ).fetchone()
    assert ended_at >= released_at


def test_a_call_older_than_the_init_of_its_process_is_refused(
    app: Any, session: Any, worker: Any, process: str, wait_for_lock: Any
) -> None:
    stranger, caller = session(), session()
    with ThreadPoolExecutor(1) as threads:
        with stranger.transaction(force_rollback=True):
            stranger.execute("select pgprog.call('orders', 'p1', idempotency_key => 'k')")
            calling = threads.submit(
                caller.execute, "select pgprog.call('orders', 'p2', idempotency_key => 'k')"
            )
            wait_for_lock(caller)  # the call has its number by now
            app.execute("select pgprog.init('orders', 'p2')")
        with pytest.raises(psycopg.Error) as caught:
            calling.result()

    assert caught.value.sqlstate == "UP001"
    assert [task.type for task in worker.claim()] == ["init"]
