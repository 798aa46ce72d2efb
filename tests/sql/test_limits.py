"""Limits of a namespace: running tasks of the whole cluster, and tasks in its queue."""

from __future__ import annotations

import random
import string
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

SET = "select pgprog.set_settings('orders', jsonb_build_object('limits', %s))"
CALL = "select pgprog.call('orders', %s)"
MEASURE = "select pgprog_engine.measure_queues('0 s')"
# Calls of q0.
MANY = """
array_fill('call'::text, array[%(count)s]), array_fill('orders'::text, array[%(count)s]),
array_fill('q0'::text, array[%(count)s]), array_fill(null::jsonb, array[%(count)s]),
array_fill(null::text, array[%(count)s]), array_fill(null::text, array[%(count)s]),
array_fill(null::jsonb, array[%(count)s]), array_fill(0, array[%(count)s]),
array_fill(null::timestamptz, array[%(count)s])
"""
CAUSES = "select task_id, cause from pgprog.tasks where status = 'cancelled' order by task_id"


def ask(connection: Any, statement: str, values: Any = ()) -> Any:
    return connection.execute(statement, values).fetchone()[0]


def wait_of(worker: Any, limit: int = 10) -> int:
    """Claim; return after how many microseconds the worker shall ask again."""
    rows = worker.connection.execute(
        "select wait_us from pgprog_engine.claim(%s, %s) where task_id is null",
        (worker.worker_id, limit),
    ).fetchall()
    return int(rows[0][0])


@pytest.fixture
def limited(app: Any, make_processes: Any) -> list[str]:
    """Six processes with a call each, in a namespace of which two tasks may run."""
    names: list[str] = make_processes(6)
    app.execute("update pgprog_data.namespaces set concurrency = 2")
    for name in names:
        app.execute(CALL, (name,))
    return names


@pytest.fixture
def full(app: Any, make_processes: Any) -> list[int]:
    """Three calls, of three processes, in a namespace where three may wait."""
    app.execute("update pgprog_data.namespaces set max_queue = 3")
    tasks = [ask(app, CALL, (name,)) for name in make_processes(3)]
    app.execute(MEASURE)
    return tasks


def test_no_more_tasks_of_a_namespace_run_than_its_concurrency_allows(
    worker: Any, make_worker: Any, limited: Any
) -> None:
    first = worker.claim()
    assert len(first) == 2
    assert make_worker().claim() == []

    worker.complete(first[0])
    assert len(worker.claim()) == 1
    assert worker.claim() == []


def test_race_25_two_claims_at_once_keep_to_the_limit(
    app: Any, worker: Any, make_worker: Any, limited: Any
) -> None:
    other = make_worker()
    app.execute("update pgprog_data.namespaces set concurrency = 1")
    app.execute("select pgprog.cancel(task_id) from pgprog.tasks where process_id = 'q5'")
    with worker.connection.transaction():
        assert len(worker.claim(1)) == 1
        app.execute("select pgprog.call('orders', 'q5', priority => 5)")
        assert other.claim() == []

    assert other.claim() == []
    assert ask(app, "select count(*) from pgprog_data.queue where status = 'r'") == 1


def test_a_limit_of_one_namespace_does_not_hold_up_another(
    app: Any, session: Any, worker: Any, limited: Any
) -> None:
    app.execute("select pgprog_engine._create_namespace('parcels', '{}')")
    app.execute("select pgprog.init('parcels', 'x' || i) from generate_series(1, 3) as i")
    app.execute("update pgprog_data.workers set namespaces = array['orders', 'parcels']")

    claimed = [task.namespace for task in worker.claim()]
    assert sorted(claimed) == ["orders"] * 2 + ["parcels"] * 3


def test_a_worker_asks_again_soon_where_a_limit_is_reached(
    app: Any, worker: Any, limited: Any
) -> None:
    assert len(worker.claim()) == 2

    assert 0 < wait_of(worker) <= 20_000


def test_a_due_timer_at_a_full_limit_does_not_have_a_worker_ask_at_once(
    app: Any, worker: Any, process: str, make_processes: Any
) -> None:
    [busy] = make_processes(1)
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"due": 3_600_000_000})
    app.execute("update pgprog_data.namespaces set concurrency = 1")
    app.execute(CALL, (busy,))
    assert len(worker.claim()) == 1
    app.execute("update pgprog_data.timers set due_at = now()")

    assert 0 < wait_of(worker) <= 20_000


def test_a_chain_ends_at_a_full_limit(app: Any, worker: Any, limited: Any) -> None:
    first, second = worker.claim()
    app.execute(CALL, (first.process_id,))
    assert [row.outcome for row in worker.complete(first, chain=True)] == ["done"]

    app.execute(CALL, (second.process_id,))
    outcomes = [row.outcome for row in worker.complete(second, chain=True)]
    assert sorted(outcomes) == ["done", "next"]  # one of two ran


def test_nothing_is_started_directly_in_a_namespace_with_a_limit(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("update pgprog_data.namespaces set concurrency = 2")

    assert [row.outcome for row in worker.start(("call", process, None))] == ["queued"]


def test_a_full_queue_refuses_with_both_numbers(app: Any, full: Any) -> None:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(CALL, ("q0",))

    assert caught.value.sqlstate == "UP009"
    assert "3 tasks wait, at most 3 are allowed" in str(caught.value)
    with pytest.raises(psycopg.Error) as caught:
        app.execute("select pgprog.init('orders', 'new')")
    assert caught.value.sqlstate == "UP009"


def test_a_full_queue_refuses_the_items_of_a_batch(app: Any, worker: Any, full: Any) -> None:
    rows = worker.start(("init", "new", "a"), ("call", "q0", "b"))

    assert [row.outcome for row in rows] == ["UP009", "UP009"]
    assert "3 tasks wait, at most 3 are allowed" in rows[0].message
    assert ask(app, "select count(*) from pgprog_data.keys") == 0
    assert ask(app, "select pgprog.get('orders', 'new')") is None


def test_a_full_queue_knows_what_came_before_under_the_same_key(
    app: Any, worker: Any, process: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', idempotency_key => 'key')"
    task_id = ask(app, statement)
    app.execute("update pgprog_data.namespaces set max_queue = 1")
    app.execute(MEASURE)

    assert ask(app, statement) == task_id
    assert [row.outcome for row in worker.start(("call", process, "key"))] == ["known"]


def test_a_full_queue_takes_repairs(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=4)
    app.execute("update pgprog_data.namespaces set max_queue = 1")
    app.execute("select pgprog.init('orders', 'other')")
    app.execute(MEASURE)

    app.execute("select pgprog.repair('orders', 'p1')")
    assert [row.outcome for row in worker.start(("repair", process, None))] == ["queued"]


def test_a_queue_that_has_room_again_takes_tasks(app: Any, worker: Any, full: Any) -> None:
    worker.claim()
    app.execute(MEASURE)

    app.execute(CALL, ("q0",))


@pytest.mark.parametrize("count", [1, 2])
def test_a_queue_that_nobody_measures_any_more_refuses_nothing(
    app: Any, worker: Any, full: Any, count: int
) -> None:
    """Its tasks may have ended since; nobody keeps house who would say so."""
    ago = "update pgprog_data.measurements set measured_at = now() - %s::interval"
    ask_many = f"select array_agg(outcome) from pgprog.submit_many({MANY})"

    outcomes = []
    for age in ("4 min 50 s", "5 min 1 s"):
        app.execute(ago, (age,))
        outcomes.append(ask(app, ask_many, {"count": count}))
    app.execute(MEASURE)
    outcomes.append(ask(app, ask_many, {"count": count}))

    assert outcomes == [["UP009"] * count, ["queued"] * count, ["UP009"] * count]


def test_queues_are_measured_by_one_worker_each_second(app: Any, session: Any, full: Any) -> None:
    assert ask(app, "select pgprog_engine.measure_queues()") is False
    app.execute("update pgprog_data.measurements set measured_at = now() - interval '1 min'")
    with session().transaction() as other:
        assert ask(other.connection, "select pgprog_engine.measure_queues()") is True
        assert ask(app, MEASURE) is False


def test_who_waits_in_a_statement_sees_the_turn_that_ended_meanwhile(
    app: Any, session: Any, wait_for_lock: Any
) -> None:
    turn = "select pgprog_engine._take_turn('queues', '1 h', now())"
    behind = f"{turn} from (select pg_advisory_xact_lock(7) offset 0) as waited"
    other = session()
    with ThreadPoolExecutor(1) as threads, app.transaction():
        app.execute("select pg_advisory_xact_lock(7)")
        assert ask(app, turn) is True
        late = threads.submit(ask, other, behind)
        wait_for_lock(other)
        app.execute("select pgprog_engine._end_turn('queues', now())")
    assert late.result() is False


def test_a_count_that_takes_long_is_made_less_often(app: Any, full: Any) -> None:
    app.execute(
        "update pgprog_data.measurements set took = '1 s', measured_at = now() - interval '19 s'"
    )
    assert ask(app, "select pgprog_engine.measure_queues()") is False
    app.execute("update pgprog_data.measurements set measured_at = now() - interval '21 s'")

    assert ask(app, "select pgprog_engine.measure_queues()") is True


def test_a_clock_that_was_ahead_stops_no_count(app: Any, full: Any) -> None:
    app.execute("update pgprog_data.measurements set measured_at = now() + interval '1 day'")

    assert ask(app, "select pgprog_engine.measure_queues()") is True


def test_a_full_queue_ends_the_lowest_as_cancelled_queue_full(
    app: Any, worker: Any, full: Any
) -> None:
    app.execute("update pgprog_data.namespaces set on_full = 'drop_lowest'")
    high = ask(app, "select pgprog.call('orders', 'q0', priority => 5)")
    app.execute(MEASURE)

    assert app.execute(CAUSES).fetchall() == [(full[2], "queue full")]
    open_tasks = "select task_id from pgprog_data.queue order by task_id"
    assert [row[0] for row in app.execute(open_tasks)] == [full[0], full[1], high]


def test_a_full_queue_never_ends_an_init_a_timer_or_a_task_in_retry(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), timers={"t": 3_600_000_000})
    app.execute("select pgprog.notify('orders', 'p1')")
    worker.complete(*worker.claim(), outcome=3, retry_after=3_600_000_000)
    app.execute("select pgprog.init('orders', 'x' || i) from generate_series(1, 3) as i")
    app.execute("update pgprog_data.namespaces set max_queue = 1, on_full = 'drop_lowest'")
    app.execute(MEASURE)

    assert app.execute(CAUSES).fetchall() == []
    with pytest.raises(psycopg.Error) as caught:
        app.execute(CALL, (process,))
    assert caught.value.sqlstate == "UP009"


def test_what_is_dropped_lets_the_next_task_of_its_process_go(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("update pgprog_data.namespaces set max_queue = 1, on_full = 'drop_lowest'")
    app.execute("select pgprog.call('orders', 'p1', priority => -5)")
    app.execute(CALL, (process,))
    app.execute("update pgprog_data.queue set status = 'b' where priority = 0")
    app.execute(MEASURE)

    assert len(worker.claim()) == 1


def test_a_process_that_is_locked_elsewhere_drops_nothing_and_nobody_waits(
    app: Any, session: Any, full: Any
) -> None:
    app.execute("update pgprog_data.namespaces set max_queue = 1, on_full = 'drop_lowest'")
    with session().transaction() as held:
        held.connection.execute(
            "select 1 from pgprog_data.processes where process_id = 'q2' for update"
        )
        app.execute(MEASURE)

        assert app.execute(CAUSES).fetchall() == [(full[1], "queue full")]


def test_ids_and_keys_have_as_many_bytes_as_their_namespace_says(app: Any) -> None:
    ask(app, SET, (Jsonb({"id_bytes": 300, "key_bytes": 5}),))
    init = "select pgprog.init('orders', %s, idempotency_key => %s)"

    assert ask(app, init, ("é" * 150, "12345")) > 0
    with pytest.raises(psycopg.Error, match="process_id has 301 bytes, and the limit is 300"):
        app.execute(init, ("p" * 301, None))
    with pytest.raises(psycopg.Error, match="idempotency_key has 6 bytes, and the limit is 5"):
        app.execute(init, ("p", "123456"))
    with pytest.raises(psycopg.Error, match="process_id has 301 bytes, and the limit is 300"):
        app.execute("select pgprog.remove('orders', %s)", ("p" * 301,))


def test_the_longest_ids_and_keys_that_can_be_allowed_fit_into_every_index(
    app: Any, worker: Any
) -> None:
    """They are of what does not compress."""
    id_, key = ("".join(random.Random(seed).choices(string.printable, k=1024)) for seed in (1, 2))
    ask(app, SET, (Jsonb({"id_bytes": 1024, "key_bytes": 1024}),))
    app.execute("select pgprog.init('orders', %s, idempotency_key => %s)", (id_, key))
    [init] = worker.claim()
    worker.complete(init, timers={"t": 0})

    assert [claimed.type for claimed in worker.claim()] == ["timeout"]
    with pytest.raises(psycopg.Error, match=r"limits\.id_bytes: 1025 is not a whole number"):
        ask(app, SET, (Jsonb({"id_bytes": 1025}),))
