"""Many requests or steps in one statement: order, strangers' locks, faults of one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"
SUBMIT_MANY = (
    "select * from pgprog.submit_many(%s, %s, %s, %s::jsonb[], %s::text[], %s::text[],"
    " %s::jsonb[], %s, %s::timestamptz[])"
)
SHAPED = (
    "select * from pgprog.submit_many(%s::text[], %s::text[], %s::text[], %s::jsonb[], %s::text[],"
    " %s::text[], %s::jsonb[], %s::integer[], %s::timestamptz[])"
)
# The same without its lock time-out.
START = (
    "select outcome from pgprog_engine._start(null, 0, %s, %s, %s, %s::jsonb[], %s::text[],"
    " %s::text[], %s::jsonb[], %s, %s::timestamptz[])"
)


def send(connection: Any, statement: str, *requests: tuple[str, str, str | None]) -> Any:
    """Send requests of (type, process_id, idempotency key) and return the rows."""
    count, nulls = len(requests), [None] * len(requests)
    types, process_ids, keys = ([request[i] for request in requests] for i in range(3))
    return connection.execute(
        statement,
        (types, ["orders"] * count, process_ids, nulls, nulls, keys, nulls, [0] * count, nulls),
    ).fetchall()


def test_a_batch_tells_the_outcome_of_each_request(app: Any, worker: Any, process: str) -> None:
    requests: list[tuple[str, str, str | None]] = [
        ("call", "p1", "k"), ("call", "p1", "k"), ("notify", "p1", "k"), ("init", "p2", None),
        ("call", "p2", None), ("init", "p2", None), ("call", "", None), ("call", "p3", "z"),
    ]  # fmt: skip
    rows = send(app, SUBMIT_MANY, *requests)

    assert [row[1] for row in rows] == [
        "queued", "known", "UP008", "queued", "queued", "UP005", "UP010", "UP001",
    ]  # fmt: skip
    assert [row[0] for row in rows] == list(range(1, 9))
    assert rows[0][3] == rows[1][3]
    assert [row[3] is None for row in rows[2:]] == [True, False, False, True, True, True]


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        (("call", "p1", None), "queued"),
        (("call", "p1", "new"), "queued"),
        (("call", "p1", "held"), "known"),
        (("notify", "p1", "held"), "UP008"),
        (("init", "p2", "new"), "queued"),
        (("init", "p1", "new"), "UP005"),
        (("call", "p3", "new"), "UP001"),
        (("repair", "p1", "new"), "UP003"),
        (("call", "", "new"), "UP010"),
        (("call", "p" * 257, None), "UP010"),
    ],
)
def test_a_lone_request_has_the_outcome_that_it_has_in_a_batch(
    app: Any, process: str, request_: tuple[str, str, str | None], outcome: str
) -> None:
    [[_, _, _, held]] = send(app, SUBMIT_MANY, ("call", "p1", "held"))
    with app.transaction(force_rollback=True):
        among = send(app, SUBMIT_MANY, request_, ("call", "p9", None))[0]

    [lone] = send(app, SUBMIT_MANY, request_)

    assert lone[:3] == among[:3] == (1, outcome, among[2])
    is_taken = outcome in ("queued", "known")
    assert (lone[2] is None, lone[3] is not None) == (is_taken, is_taken)
    assert (lone[3] == held) == (outcome == "known")
    keys = app.execute("select key from pgprog_data.keys order by key").fetchall()
    assert keys == [("held",)] + [("new",)] * (outcome == "queued" and request_[2] == "new")


def test_a_lone_request_for_an_unknown_namespace_or_a_full_queue_is_refused(
    app: Any, process: str, worker: Any
) -> None:
    lone = "select outcome, message from pgprog.submit_many(array['call'], array[%s],"
    lone += " array['p1'], array[null]::jsonb[], array[null], array['k'], array[null]::jsonb[],"
    lone += " array[0], array[null]::timestamptz[])"
    send(app, SUBMIT_MANY, ("call", "p1", None))
    app.execute("update pgprog_data.namespaces set max_queue = 1")
    app.execute("select pgprog_engine.measure_queues()")

    [absent] = app.execute(lone, ("absent",)).fetchall()
    [full] = app.execute(lone, ("orders",)).fetchall()

    assert absent == ("UP007", "no namespace absent")
    assert full[0] == "UP009"
    assert full[1].startswith("the queue of namespace orders is full: ")
    assert app.execute("select key from pgprog_data.keys").fetchall() == []


def test_a_refused_request_of_a_batch_keeps_no_key(app: Any, worker: Any, process: str) -> None:
    first = send(app, SUBMIT_MANY, ("call", "p2", "k"), ("call", "p2", "k"))
    app.execute("select pgprog.init('orders', 'p2')")
    second = send(app, SUBMIT_MANY, ("call", "p2", "k"))

    assert [row[1] for row in [*first, *second]] == ["UP001", "UP001", "queued"]


def test_a_call_before_the_init_of_its_process_in_a_batch_is_refused(app: Any, worker: Any) -> None:
    rows = send(app, SUBMIT_MANY, ("call", "p2", None), ("init", "p2", None))

    assert [row[1] for row in rows] == ["UP001", "queued"]
    assert [task.type for task in worker.claim()] == ["init"]


def test_an_empty_batch_has_no_rows(app: Any) -> None:
    rows = app.execute(
        "select * from pgprog.submit_many('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')"
    )

    assert rows.fetchall() == []


@pytest.mark.parametrize("types", [["timeout"], [None], ["call", "call"], None])
def test_a_batch_of_another_shape_is_refused_as_a_whole(
    app: Any, process: str, types: list[str] | None
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(
            SUBMIT_MANY,
            (types, ["orders"], ["p1"], [None], [None], [None], [None], [0], [None]),
        )

    assert caught.value.sqlstate == "UP010"


@pytest.mark.parametrize("place", range(1, 9))
@pytest.mark.parametrize("elements", [0, 1, 3])
def test_a_batch_of_which_one_array_is_shorter_or_longer_is_refused_as_a_whole(
    app: Any, process: str, place: int, elements: int
) -> None:
    two: list[list[Any]] = [
        ["call"],
        ["orders"],
        ["p1"],
        [None],
        [None],
        [None],
        [None],
        [0],
        [None],
    ]
    arrays = [values * (elements if place == at else 2) for at, values in enumerate(two)]

    with pytest.raises(psycopg.Error, match="differ in length") as caught:
        app.execute(SHAPED, arrays)

    assert caught.value.sqlstate == "UP010"
    assert app.execute("select count(*) from pgprog_data.queue").fetchone() == (0,)


@pytest.mark.parametrize("place", range(9))
def test_a_batch_of_arrays_that_do_not_begin_at_1_is_refused_as_a_whole(
    app: Any, process: str, place: int
) -> None:
    arrays = ["{call,call}", "{orders,orders}", "{p1,p2}", "{1,2}", "{a,b}", "{k,l}", "{1,2}"]
    arrays += ["{0,0}", "{NULL,NULL}"]
    arrays[place] = "[0:1]=" + arrays[place]

    with pytest.raises(psycopg.Error, match="do not begin at 1") as caught:
        app.execute(SHAPED, arrays)

    assert caught.value.sqlstate == "UP010"
    assert app.execute("select count(*) from pgprog_data.queue").fetchone() == (0,)


def test_a_worker_starts_nothing_that_nobody_can_ask_for(worker: Any, process: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        worker.start(("timeout", "p1", None))

    assert caught.value.sqlstate == "UP010"


def test_what_shares_the_key_of_a_refused_request_is_refused_wherever_it_stands(
    app: Any, worker: Any, process: str
) -> None:
    send(app, SUBMIT_MANY, ("call", "p1", "held"))
    rows = send(
        app, SUBMIT_MANY, ("call", "p1", "held"), ("call", "", "k"), ("call", "p2", "k"),
        ("call", "p1", "l"), ("call", "p2", "k"), ("call", "p1", "k"), ("call", "p1", "l"),
    )  # fmt: skip
    [kept] = app.execute("select array_agg(key order by key) from pgprog_data.keys").fetchone()

    assert [row[1] for row in rows] == [
        "known", "UP010", "UP001", "queued", "UP001", "UP008", "known",
    ]  # fmt: skip
    assert kept == ["held", "l"]


@pytest.mark.parametrize(
    ("held", "request_"),
    [
        ("select pgprog.call('orders', 'p1', idempotency_key => 'k')", ("call", "p1", "k")),
        ("select pgprog.init('orders', 'p2')", ("init", "p2", None)),
    ],
)
def test_a_strangers_open_transaction_ends_a_batch_with_nothing_done(
    app: Any, session: Any, process: str, held: str, request_: tuple[str, str, str | None]
) -> None:
    stranger = session()
    app.execute("set statement_timeout = '10s'")
    with stranger.transaction(force_rollback=True):
        stranger.execute(held)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            send(app, SUBMIT_MANY, ("call", "p1", "other"), request_)

    assert app.execute("select count(*) from pgprog_data.queue").fetchone() == (0,)
    rows = send(app, SUBMIT_MANY, ("call", "p1", "other"), request_)
    assert [row[1] for row in rows] == ["queued", "queued"]


@pytest.mark.parametrize("kind", ["init", "call"])
def test_batches_in_opposite_orders_do_not_deadlock(
    app: Any, session: Any, process: str, wait_for_lock: Any, kind: str
) -> None:
    # By new processes, or by keys: a stranger holds m, so that the first batch has a but not z.
    def items(*names: str) -> list[tuple[str, str, str | None]]:
        return [("init", x, None) if kind == "init" else ("call", "p1", x) for x in names]

    first, second = session(), session()
    with ThreadPoolExecutor(2) as threads:
        with app.transaction(force_rollback=True):
            send(app, START, *items("m"))
            one = threads.submit(send, first, START, *items("a", "m", "z"))
            wait_for_lock(first)
            other = threads.submit(send, second, START, *items("z", "a"))
            wait_for_lock(second)
        assert [row[0] for row in one.result()] == ["queued"] * 3

    taken = "UP005" if kind == "init" else "known"
    assert [row[0] for row in other.result()] == [taken] * 2


@pytest.mark.parametrize(
    ("fault", "sqlstate"),
    [
        ({"timers": {"t": 2**63 - 1}}, "22008"),
        ({"event_no": [1, 0]}, "23505"),
        ({"event_no": [1, -1]}, "23514"),
    ],
)
def test_a_fault_in_the_data_of_a_batch_raises_and_changes_nothing(
    app: Any, worker: Any, make_processes: Any, fault: dict[str, Any], sqlstate: str
) -> None:
    for name in make_processes(2):
        app.execute(CALL, (name,))
    tasks = worker.claim()
    with pytest.raises(psycopg.Error) as caught:
        worker.complete(*tasks, **fault)

    assert caught.value.sqlstate == sqlstate
    assert len(worker.renew()) == 2
    assert app.execute("select count(*) from pgprog_data.events").fetchone() == (2,)
    assert [row.outcome for row in worker.complete(*tasks)] == ["done", "done"]
