"""Claims that begin where the last one has come to, and what is found before that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.sql.blocks import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERYTHING = "-infinity"
CLAIM = "select * from pgprog_engine.claim(%s, %s, since => %s, since_task => %s)"

BATCH = """
select s.task_id
from pgprog.submit_many(
  array_fill('init'::text, array[4]), array_fill('orders'::text, array[4]), '{a,b,c,d}',
  array_fill(null::jsonb, array[4]), array_fill(null::text, array[4]),
  array_fill(null::text, array[4]), array_fill(null::jsonb, array[4]), array_fill(0, array[4]),
  array_fill(null::timestamptz, array[4])) as s
"""
LATER = ", run_at => now() + interval '1 hour'"
# A row that fills a fifth of a page, whatever compresses.
ENDED_SOON = """
select pgprog.init(
  'orders', %s || '-' || i,
  (select to_jsonb(string_agg(md5(random()::text || i || n), '')) from generate_series(1, 45) as n))
from generate_series(1, 100) as i
"""


class Since:
    """Claims of a worker that go on where the last one came to."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.place: tuple[Any, int] = (EVERYTHING, 0)

    def claim(self, limit: int = 10) -> list[int]:
        *rows, last = self.worker._rows(CLAIM, (self.worker.worker_id, limit, *self.place))
        if last.created_at is not None:
            self.place = last.created_at, last.claim_id
        return [row.task_id for row in rows]

    def first_rank(self, *namespaces: str) -> Any:
        [[rank]] = self.worker.connection.execute(
            "select rank from pgprog_engine.first_rank(%s, %s, %s)",
            ([*namespaces] or ["orders"], *self.place),
        ).fetchall()
        return rank


@pytest.fixture
def since(worker: Any) -> Since:
    return Since(worker)


def init(app: Any, process_id: str, *, namespace: str = "orders", more: str = "") -> int:
    [task_id] = app.execute(
        f"select pgprog.init(%s, %s {more})", (namespace, process_id)
    ).fetchone()
    return int(task_id)


def come_due(app: Any, tasks: list[int]) -> None:
    app.execute(
        "update pgprog_data.queue set due_at = now(), rank = now() - interval '1 hour'"
        " where task_id = any (%s)",
        (tasks,),
    )


def rank_of(app: Any, task_id: int) -> Any:
    [rank] = app.execute(
        "select rank from pgprog_data.queue where task_id = %s", (task_id,)
    ).fetchone()
    return rank


def test_a_claim_says_where_the_next_may_begin_and_that_goes_on_there(
    app: Any, since: Since
) -> None:
    tasks = [init(app, f"p{n}") for n in range(5)]
    ranks = {task: rank_of(app, task) for task in tasks}

    assert since.claim(2) == tasks[:2]
    assert since.place == (ranks[tasks[1]], tasks[1])
    assert since.claim(2) == tasks[2:4]
    assert since.claim(2) == tasks[4:]
    assert since.claim(2) == []
    assert since.place == (ranks[tasks[4]], tasks[4])


def test_tasks_of_one_batch_have_one_rank_and_are_told_apart(app: Any, since: Since) -> None:
    tasks = sorted(row[0] for row in app.execute(BATCH).fetchall())
    assert len({rank_of(app, task) for task in tasks}) == 1

    assert since.claim(2) == tasks[:2]
    before, since.place = since.place, (since.place[0], tasks[3])
    assert since.first_rank() == before[0]  # of the third
    assert since.claim(2) == tasks[3:]
    since.place = before
    assert since.claim(2) == tasks[2:3]
    assert since.first_rank() is None


def test_what_comes_to_wait_before_the_place_is_left_and_found_by_the_first_rank(
    app: Any, since: Since
) -> None:
    init(app, "first")
    since.claim()
    urgent = init(app, "urgent", more=", priority => 5")

    assert since.claim() == []
    assert since.first_rank() == rank_of(app, urgent)
    since.place = since.first_rank(), 0
    assert since.claim() == [urgent]
    assert since.first_rank() is None


def test_what_comes_due_is_claimed_wherever_it_ranks(app: Any, since: Since) -> None:
    later = init(app, "later", more=LATER)
    first = init(app, "first")
    assert since.claim() == [first]
    come_due(app, [later])

    assert since.claim() == [later]


def test_a_task_whose_process_was_locked_is_claimed_by_the_next(
    app: Any, session: Any, since: Since
) -> None:
    locked, free = init(app, "locked"), init(app, "free")
    other = session()
    with other.transaction(force_rollback=True):
        other.execute("select from pgprog_data.processes where process_id = 'locked' for update")
        assert since.claim() == [free]
        assert since.place == (rank_of(app, locked), locked)

    assert since.claim() == [locked]


@pytest.fixture
def wide(session: Any, worker: Any) -> Since:
    """A worker that serves the namespaces a and b."""
    connection = session()
    [worker_id] = connection.execute(
        "select pgprog_engine.register_worker('v', %s, %s::jsonb[], '1 hour')",
        (["a", "b"], ["{}"] * 2),
    ).fetchone()
    return Since(replace(worker, connection=connection, worker_id=worker_id))


def test_of_several_namespaces_the_one_that_is_behind_says_where_the_next_claim_begins(
    app: Any, wide: Since
) -> None:
    old = [init(app, f"p{n}", namespace="a") for n in range(4)]
    new = [init(app, f"p{n}", namespace="b") for n in range(4)]

    assert sorted(wide.claim(4)) == sorted(old[:2] + new[:2])
    assert wide.place == (rank_of(app, old[1]), old[1])
    assert sorted(wide.claim(4)) == sorted(old[2:] + new[2:])
    assert wide.first_rank("a", "b") is None


def test_where_a_namespace_has_no_task_in_the_claim_the_next_begins_as_this_one(
    app: Any, wide: Since
) -> None:
    init(app, "p1", namespace="a")
    left = init(app, "p1", namespace="b")

    assert len(wide.claim(1)) == 1
    assert wide.place == (EVERYTHING, 0)
    assert wide.claim(1) == [left]


def test_where_a_limited_namespace_may_start_nothing_the_next_claim_begins_as_this_one(
    app: Any, wide: Since
) -> None:
    app.execute("select pgprog.set_settings('a', '{\"concurrency\": 1}'::jsonb)")
    limited = [init(app, f"p{n}", namespace="a") for n in range(2)]
    free = init(app, "p1", namespace="b")

    assert sorted(wide.claim()) == [limited[0], free]
    later = init(app, "p2", namespace="b")
    assert wide.claim() == [later]
    assert wide.place == (EVERYTHING, 0)


def test_of_many_that_come_due_the_next_claim_takes_what_this_one_had_no_room_for(
    app: Any, wide: Since
) -> None:
    due = [init(app, f"p{n}", namespace="a", more=LATER) for n in range(3)]
    free = init(app, "p1", namespace="b")
    come_due(app, due)
    wide.place = "infinity", 0

    assert len(wide.claim(1)) == 1
    assert sorted(wide.claim()) == sorted([*due, free])[1:]


def test_what_comes_due_while_its_namespace_is_full_is_claimed_once_there_is_room(
    app: Any, worker: Any, since: Since
) -> None:
    app.execute("select pgprog.set_settings('orders', '{\"concurrency\": 1}'::jsonb)")
    due = init(app, "due", more=LATER)
    init(app, "first")
    [running] = worker.claim()
    since.place = "infinity", 0
    come_due(app, [due])
    assert since.claim() == []
    worker.complete(running)

    assert since.claim() == [due]


def test_what_waits_in_a_paused_namespace_has_no_first_rank(app: Any, since: Since) -> None:
    init(app, "p1")
    since.place = "infinity", 0
    assert since.first_rank() is not None

    app.execute("select pgprog.pause('orders', 'for the test')")
    assert since.first_rank() is None


def test_a_timer_that_is_due_has_a_first_rank(app: Any, worker: Any, process: str) -> None:
    app.execute("select pgprog.call('orders', %s)", (process,))
    [call] = worker.claim()
    worker.complete(call, timers={"tick": 0, "tock": 3_600_000_000})
    since = Since(worker)
    since.place = "infinity", 0
    due = since.first_rank()
    assert due is not None

    since.place = due, 0
    assert since.first_rank() is None
    assert len(since.claim()) == 1


@pytest.fixture
def pinning(session: Any) -> Iterator[None]:
    """An old snapshot."""
    connection = session()
    connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("select pg_current_snapshot()")
    yield
    connection.rollback()


@pytest.mark.usefixtures("pinning")
def test_a_claim_that_begins_at_a_place_reads_little_of_what_has_ended_before_it(
    app: Any, worker: Any, since: Since
) -> None:
    for batch in range(10):
        app.execute(ENDED_SOON, (batch,))
        worker.complete(*worker.claim(100))
    init(app, "before")
    since.claim()
    init(app, "after")

    blocks = {}
    for place in ((EVERYTHING, 0), since.place):
        with worker.connection.transaction(force_rollback=True):
            values = (worker.worker_id, 10, *place)
            blocks[place] = blocks_of(worker.connection, CLAIM, values)

    everything, behind = blocks.values()
    assert everything > behind + 200  # pages of five rows


@pytest.mark.usefixtures("pinning")
def test_a_claim_that_begins_at_a_place_reads_little_of_the_timers_before_it(
    app: Any, worker: Any, since: Since, process: str
) -> None:
    app.execute("select pgprog.call('orders', %s)", (process,))
    [call] = worker.claim()
    shuffled = {f"t{n}": n * 7919 % 900 for n in range(900)}  # one page after another
    worker.complete(call, timers=shuffled)
    app.execute("delete from pgprog_data.timers")  # as their steps do
    init(app, "before")
    since.claim()

    blocks = {}
    for place in ((EVERYTHING, 0), since.place):
        with worker.connection.transaction(force_rollback=True):
            values = (worker.worker_id, 10, *place)
            blocks[place] = blocks_of(worker.connection, CLAIM, values)

    everything, behind = blocks.values()
    assert behind < 100 < everything - 300
