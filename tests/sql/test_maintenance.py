"""Housekeeping: partitions ahead and old, expired keys, events of removed processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from tests.sql.blocks import blocks_of
from tests.sql.conftest import Worker

from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

MAINTAIN = "select pgprog_engine.maintain()"
ERASE = "select pgprog_engine.erase_old()"
REMOVALS = (
    "insert into pgprog_data.removals select n, 'orders', now() from generate_series(1, 1000) as n"
)
KEYS = """
insert into pgprog_data.keys
select 'orders', 'k' || n, n, now() - interval '8 d', '' from generate_series(1, 10000) as n
"""
TASKS = """
insert into pgprog_data.removals values (1, 'orders', now());
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at, ended_at,
  args)
select n, 'orders', 'p', 1, 'call', 'finished', 1, now(), now(), now(), '{}'
from generate_series(1, 10000) as n
"""
FINISHED = """
insert into pgprog_data.processes (
  namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at)
select 'orders', 'f' || n, n, 'finished', now(), n, now(), now() from generate_series(1, 1000) as n;
insert into pgprog_data.ended_processes (incarnation, namespace, status, at)
select n, 'orders', 'finished', now() - interval '31 d' from generate_series(1, 1000) as n
"""
REGISTER = (
    "select pgprog_engine.register_worker("
    "  'w', array['orders'], array['{}'::jsonb], interval '99 days', array[1])"
)
# Of a namespace with a process: a key, a note of an operator, and that the process has finished.
KEPT_FOR_A_WEEK = """
select pgprog.set_settings('orders', '{"retention": "7d"}');
insert into pgprog_data.keys select 'orders', 'k', 1, pgprog_engine._clock(), '';
update pgprog_data.audit set at = pgprog_engine._clock();
update pgprog_data.processes set status = 'finished';
insert into pgprog_data.ended_processes (incarnation, namespace, status, at)
select incarnation, namespace, status, pgprog_engine._clock() from pgprog_data.processes
"""
KEPT = (
    "select (select count(*) from pgprog_data.keys), (select count(*) from pgprog_data.audit),"
    " (select count(*) from pgprog_data.processes)"
)
ERASE_AFTER_A_WEEK = "select pgprog_engine.erase_old('7 days', '7 days')"
WAITS = "select cardinality(pg_blocking_pids({})) > 0"
DROP_OLD = "select pgprog_engine.drop_old(task_retention => '0 s')"
# What ended within an hour is kept: last week may have ended just now.
AN_HOUR_BEFORE = (
    "update pgprog_data.partitions set ends_at = ends_at - interval '1 hour' where ends_at <= now()"
)
END_LAST_WEEK = """
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at, ended_at)
select 1, 'n', 'p', 1, 'call', 'finished', 1, t, t, t
from (select clock_timestamp() - interval '7 days' as t) as x
"""
PARTITIONS = (
    "select count(*) from pg_inherits where inhparent in"
    " ('pgprog_data.tasks'::regclass, 'pgprog_data.attempts'::regclass)"
)


@pytest.fixture
def own(fresh_db: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        yield connection


@pytest.fixture
def other(fresh_db: str, own: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        yield connection


@dataclass
class Beside:
    """What goes on while housekeeping waits; all of it within a second."""

    worker: Worker
    observer: psycopg.Connection[Any]
    warnings: list[str]

    @contextmanager
    def waiting(self, connection: Any, statement: str) -> Iterator[Future[Any]]:
        """Run a statement beside the block, which begins when that waits for a lock."""
        connection.add_notice_handler(lambda n: self.warnings.append(n.message_primary or ""))
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(one, connection, statement)
            while not (
                future.done() or one(self.observer, WAITS.format(connection.info.backend_pid))
            ):
                pass
            yield future

    def step_and_trace(self) -> None:
        """Ask for a step, take it, end it, and read what became of it."""
        run = self.worker.connection
        run.execute("select pgprog.call('orders', 'p')")
        ended = self.worker.complete(*self.worker.claim())
        assert [row.outcome for row in ended] == ["done"]
        assert run.execute("select * from pgprog.trace('orders', 'p')").fetchall()


@pytest.fixture
def beside(fresh_db: str, own: Any) -> Iterator[Beside]:
    """A worker and a process in the database of *own*; its statements may take a second each."""
    with (
        psycopg.connect(fresh_db, autocommit=True, row_factory=namedtuple_row) as connection,
        psycopg.connect(fresh_db, autocommit=True) as observer,
    ):
        connection.execute("set lock_timeout = '1 s'; set statement_timeout = '1 s'")
        worker = Worker(connection, one(own, REGISTER))
        own.execute("select pgprog.init('orders', 'p')")
        worker.complete(*worker.claim())
        yield Beside(worker, observer, [])


def at(connection: Any, instant: str) -> None:
    """Let the database think that it is some other time."""
    connection.execute(
        "create or replace function pgprog_engine._clock() returns timestamptz"
        f" language sql volatile return {instant}"
    )


def one(connection: Any, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]


def test_partitions_are_made_ahead_beside_an_open_transaction_that_writes(
    own: Any, other: Any
) -> None:
    assert one(own, PARTITIONS) == 14
    at(own, "clock_timestamp() + interval '3 weeks'")
    with other.transaction(force_rollback=True):
        other.execute(
            "insert into pgprog_data.attempts (task_id, claim_id, attempt, outcome, ended_at)"
            " values (1, 1, 1, 'lost', clock_timestamp())"
        )
        other.execute("select * from pgprog_data.tasks")
        assert one(own, MAINTAIN)

    assert one(own, PARTITIONS) == 20


def test_weeks_follow_each_other_when_the_clocks_of_a_session_change(own: Any) -> None:
    own.execute("set timezone = 'Europe/Berlin'")  # of 2026: on 25 October, inside a later look
    for day in ("2026-09-28", "2026-10-12", "2026-10-26", "2026-11-09"):
        at(own, f"timestamptz '{day} 12:00 utc'")
        assert one(own, MAINTAIN)

    begins = (
        "select count(*) from pgprog_data.partitions"
        " where extract(epoch from starts_at) % 86400 > 0"
    )
    assert one(own, begins) == 0


def test_ended_tasks_are_forgotten_with_their_partition(own: Any) -> None:
    own.execute(END_LAST_WEEK)
    own.execute(AN_HOUR_BEFORE)
    assert one(own, DROP_OLD)
    assert not one(own, DROP_OLD)

    assert one(own, PARTITIONS) == 12
    assert one(own, "select count(*) from pgprog_data.tasks") == 0
    assert one(own, "select count(*) from pgprog_data.partitions") == 12


def test_ended_tasks_are_kept_for_24_hours_a_day_when_clocks_change(own: Any) -> None:
    own.execute("set timezone = 'Europe/Berlin'")
    drop = "select pgprog_engine.drop_old('7 days')"
    week = "select to_regclass('pgprog_data.tasks_20270315') is not null"
    at(own, "timestamptz '2027-03-22 00:00Z'")
    assert one(own, MAINTAIN)

    at(own, "timestamptz '2027-03-28 23:30Z'")
    while one(own, drop):
        pass
    assert one(own, week)
    at(own, "timestamptz '2027-03-29 00:00:01Z'")
    while one(own, drop):
        pass
    assert not one(own, week)


def test_a_call_drops_one_partition_and_says_whether_there_is_more(own: Any) -> None:
    at(own, "clock_timestamp() + interval '14 days 1 hour'")  # three weeks of two tables are over
    left = [(one(own, DROP_OLD), one(own, PARTITIONS)) for _ in range(7)]

    assert left == [(True, n) for n in (13, 12, 11, 10, 9)] + [(False, 8), (False, 8)]


def test_a_migration_erases_neither_ended_tasks_nor_keys(fresh_db: str, own: Any) -> None:
    own.execute(KEYS)
    own.execute("update pgprog_data.partitions set ends_at = starts_at - interval '99 days'")
    own.execute("update pgprog_data.schema_functions set sha256 = ''")
    assert migrate(fresh_db)

    assert one(own, "select count(*) from pgprog_data.keys") == 10000
    assert one(own, PARTITIONS) == 14


@pytest.mark.parametrize(
    "holds",
    [
        "select * from pgprog_data.tasks",
        "select * from only pgprog_data.{old}",
        "insert into pgprog_data.tasks select * from pgprog_data.tasks",
    ],
    ids=["a reader of the table", "a reader of the partition", "a long transaction that writes"],
)
def test_a_partition_in_use_is_dropped_later_and_nothing_waits_for_long_behind_the_drop(
    own: Any, other: Any, beside: Beside, holds: str
) -> None:
    own.execute(AN_HOUR_BEFORE)
    old = one(own, "select name from pgprog_data.partitions order by ends_at, name desc limit 1")
    own.execute("delete from pgprog_data.partitions where parent = 'attempts'")
    with other.transaction(force_rollback=True):
        other.execute(holds.format(old=old))
        with beside.waiting(own, DROP_OLD) as drop:
            beside.step_and_trace()
        assert drop.result() is False
        assert one(other, PARTITIONS) == 14

    assert beside.warnings == [
        f"somebody holds partition pgprog_data.{old} or its table: it will be dropped later"
    ]
    assert not one(own, DROP_OLD)
    assert one(own, PARTITIONS) == 13


def test_an_analyze_puts_off_new_partitions_of_its_table_and_nothing_else(
    own: Any, other: Any, beside: Beside
) -> None:
    own.execute(KEYS)
    own.execute("set statement_timeout = '5 s'")  # a wait in vain fails its test
    at(own, "clock_timestamp() + interval '3 weeks'")
    with other.transaction():
        other.execute("lock table pgprog_data.tasks in share update exclusive mode")
        with beside.waiting(own, MAINTAIN) as maintenance:
            beside.step_and_trace()
        assert maintenance.result() is True
        assert one(own, PARTITIONS) == 14 + 3
        assert one(own, "select count(*) from pgprog_data.keys") == 0

    assert len(beside.warnings) == 1
    assert one(own, MAINTAIN)
    assert one(own, PARTITIONS) == 20


def test_one_of_two_at_once_keeps_house(own: Any, other: Any) -> None:
    own.execute(AN_HOUR_BEFORE)
    with other.transaction():
        assert one(other, MAINTAIN)
        own.execute(REMOVALS)
        assert not one(own, MAINTAIN)
        assert not one(own, ERASE)
        assert not one(own, DROP_OLD)

    assert one(own, DROP_OLD)
    assert one(own, ERASE)
    assert one(own, MAINTAIN)


def test_a_key_is_free_again_after_its_time(app: Any, process: str) -> None:
    call = "select pgprog.call('orders', 'p1', idempotency_key => '{}')"
    old, young = one(app, call.format("old")), one(app, call.format("young"))
    app.execute("update pgprog_data.keys set created_at = now() - interval '8 d' where key = 'old'")
    assert one(app, MAINTAIN)

    assert one(app, call.format("young")) == young
    assert one(app, call.format("old")) != old


def test_what_is_kept_for_days_is_kept_for_24_hours_each_when_clocks_change(
    app: Any, process: str, set_clock: Any
) -> None:
    set_clock("2027-03-22 12:30Z")  # a week with one hour less in Berlin
    app.execute(KEPT_FOR_A_WEEK)
    app.execute("set timezone = 'Europe/Berlin'")

    set_clock("2027-03-29 12:00Z")
    assert app.execute(ERASE_AFTER_A_WEEK).fetchone() == (False,)
    assert app.execute(KEPT).fetchone() == (1, 1, 1)
    set_clock("2027-03-29 12:30:01Z")
    assert app.execute(ERASE_AFTER_A_WEEK).fetchone() == (False,)
    assert app.execute(KEPT).fetchone() == (0, 0, 0)


def test_a_look_for_expired_keys_reads_little_where_the_places_of_older_ones_were_used_again(
    own: Any,
) -> None:
    for _ in range(2):
        own.execute(KEYS)
        while one(own, ERASE):
            pass
        own.execute("vacuum pgprog_data.keys")
    own.execute(KEYS.replace("interval '8 d'", "interval '1 d'"))

    own.execute(ERASE)  # plans it
    assert blocks_of(own, ERASE) < 50


def test_the_events_of_a_removed_process_go_in_batches(app: Any, worker: Any, process: str) -> None:
    app.execute(
        "insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)"
        " select 0, n, 0, now(), '{}' from generate_series(1, 15000) as n"
    )
    app.execute("insert into pgprog_data.removals values (0, 'orders', now())")
    left = []
    for _ in range(2):
        more = one(app, ERASE)
        left.append(
            (more, one(app, "select count(*) from pgprog_data.events where incarnation = 0"))
        )

    assert left == [(True, 5000), (False, 0)]
    assert one(app, "select count(*) from pgprog_data.removals") == 0
    assert one(app, "select count(*) from pgprog.history('orders', 'p1')") == 1


@pytest.mark.parametrize(
    "full",
    [REMOVALS, KEYS, TASKS, FINISHED],
    ids=["removals", "keys", "tasks", "finished processes"],
)
def test_a_full_batch_says_that_there_may_be_more(app: Any, full: str) -> None:
    app.execute(full)

    assert one(app, ERASE)
    while one(app, ERASE):  # the last says that there is none
        pass
    assert one(app, "select count(*) from pgprog_data.removals") == 0


def test_a_finished_process_is_readable_until_its_retention_and_one_in_error_for_ever(
    app: Any, worker: Any, make_processes: Any
) -> None:
    old, young, broken = make_processes(3)
    for name, more in ((old, {"then": 1}), (young, {"then": 1}), (broken, {"outcome": 4})):
        app.execute("select pgprog.call('orders', %s)", (name,))
        worker.complete(*worker.claim(), **more)
    app.execute(
        "update pgprog_data.ended_processes set at = at - interval '31 days' where incarnation in ("
        " select incarnation from pgprog_data.processes where process_id in (%s, %s))",
        (old, broken),
    )
    assert one(app, MAINTAIN)

    left = app.execute("select process_id, status from pgprog.processes order by 1").fetchall()
    assert left == [(young, "finished"), (broken, "error")]
    assert app.execute("select count(*) from pgprog_data.ended_processes").fetchone() == (2,)


def test_ended_tasks_of_a_removed_process_keep_only_their_answer(
    app: Any, worker: Any, make_processes: Any
) -> None:
    gone, kept = make_processes(2)
    for name in (gone, kept):
        app.execute(
            "select pgprog.call('orders', %s, '{\"card\": 1}', context => '{\"who\": 1}')", (name,)
        )
    worker.complete(*worker.claim(), response='"paid"')
    app.execute("select pgprog.remove('orders', %s)", (gone,))
    for _ in range(2):
        app.execute(MAINTAIN)

    ended = "select process_id, args, context, response from pgprog_data.tasks where type = 'call'"
    assert sorted(app.execute(ended).fetchall(), key=str) == [
        (gone, None, None, "paid"),
        (kept, {"card": 1}, {"who": 1}, "paid"),
    ]
    assert one(app, "select count(*) from pgprog_data.removals") == 0


def test_a_task_that_was_asked_in_a_transaction_open_over_the_removal_keeps_only_its_answer(
    app: Any, session: Any, worker: Any, process: str
) -> None:
    late = session()
    with late.transaction():
        task = one(late, """select pgprog.call('orders', 'p1', '{"iban": 1}', context => '1')""")
        app.execute("select pgprog.remove('orders', 'p1')")
        app.execute(ERASE)
    worker.claim()
    app.execute(ERASE)

    kept = "select error ->> 'cause', args, context from pgprog_data.tasks where task_id = %s"
    assert app.execute(kept, (task,)).fetchone() == ("removed", None, None)
    assert one(app, "select count(*) from pgprog_data.removals") == 0


@pytest.fixture
def open_purge(own: Any, other: Any) -> Iterator[None]:
    """A transaction that erases what housekeeping would, and stays open."""
    own.execute("select pgprog_engine._create_namespace('orders', '{}')")
    own.execute(TASKS.encode())
    own.execute("select pgprog.pause('orders')")
    own.execute("update pgprog_data.removals set removed_at = now() - interval '1 h'")
    own.execute("set statement_timeout = '5s'")
    with other.transaction(force_rollback=True):
        other.execute("select pgprog.purge('orders', 0, 100)")
        yield


def test_an_open_purge_holds_up_no_housekeeping_and_with_it_no_collector(
    own: Any, other: Any, open_purge: None
) -> None:
    """Both are asked for by one connection of a worker."""
    with pytest.raises(psycopg.errors.LockNotAvailable):
        own.execute(ERASE)
    other.execute("rollback")
    own.execute(ERASE)


def test_partitions_are_made_though_somebody_holds_what_is_to_be_erased(
    own: Any, open_purge: None
) -> None:
    at(own, "clock_timestamp() + interval '3 weeks'")
    assert one(own, MAINTAIN) is True

    assert one(own, PARTITIONS) == 20
    assert one(own, "select count(*) from pgprog_data.tasks where args is null") == 0


def test_a_call_removes_no_more_processes_of_several_namespaces_than_of_one(app: Any) -> None:
    app.execute("select pgprog.set_settings('parcels', '{}', 0)")
    others = FINISHED.replace("'orders'", "'parcels'").replace("(1, 1000)", "(1001, 2000)")
    app.execute(FINISHED)
    app.execute(others)
    assert one(app, ERASE)

    assert one(app, "select count(*) from pgprog_data.processes") == 1000


def test_a_call_that_has_erased_for_a_second_leaves_the_rest_to_the_next(own: Any) -> None:
    own.execute(KEYS.replace("10000", "1").encode())
    own.execute(REMOVALS)
    own.execute("create sequence looks")
    at(own, "clock_timestamp() + nextval('public.looks') * interval '1.1 s'")
    keys, removals = (f"select count(*) from pgprog_data.{each}" for each in ("keys", "removals"))
    counts = [(one(own, ERASE), one(own, keys), one(own, removals)) for _ in range(2)]

    assert counts == [(True, 0, 1000), (True, 0, 0)]
