"""What the hot functions read in a database of 570 000 rows, with statistics and without any.

A plan that flips reads thousands of blocks more or scans a table: blocks are bounded at about one
and a half times what was measured, and no large table is scanned.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.sql.blocks import blocks_of as blocks_once

from pgprog.store.changes import WRITTEN_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # makes 570 000 rows

# As in a new database whose tables were never analysed.
FORGET = """
set allow_system_table_mods = on;
delete from pg_statistic where starelid in (
  select oid from pg_class where relnamespace = 'pgprog_data'::regnamespace);
update pg_class set reltuples = -1, relpages = 0
where relnamespace = 'pgprog_data'::regnamespace and relkind in ('r', 'i', 'p');
"""
# 100 000 processes of version 2 with a due task each, before all else in n0.
NEWER = """
with newer as (
  insert into pgprog_data.processes (
    namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at,
    state_version)
  select 'n0', 'v' || p, p, 'running', now(), p, now(), now(), 2
  from generate_series(5000001, 5100000) as p
  returning process_id, incarnation)
insert into pgprog_data.queue (
  task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at,
  needs_version)
select incarnation + 1000000, 'n0', process_id, incarnation, 'call', 'w', now(),
  now() - interval '1 hour', now(), %s::integer
from newer;
"""
NEW_WORKER = """
insert into pgprog_data.workers (
  worker_id, name, namespaces, state_versions, lease_until, started_at)
select 3, name, namespaces, array_fill(2, array[cardinality(namespaces)]), lease_until, started_at
from pgprog_data.workers where worker_id = 1
"""
# 20 000 due timers of one namespace behind tasks that run, or as if those were in retry.
BEHIND = """
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, status, due_at, created_at)
select p, 'b' || i, 4000000 + p * 10 + i, 'n0', 'p' || p, 'timeout', %s::"char",
  now() - %s::interval, now()
from generate_series(1, 2000) as p, generate_series(0, 9) as i
"""
COMPLETE_200 = (
    "select c.* from (select array_agg(task_id) as t, array_agg(claim_id) as c,"
    " array_agg(incarnation) as i, array_agg(null::jsonb) as n from ("
    "   select * from pgprog_data.queue where status = 'r' and worker_id = 1 limit 200"
    "  ) as q) as h"
    " cross join lateral pgprog_engine.complete(1, h.t, h.c, h.i, array_fill(1, array[200]),"
    " h.n, array_fill(1, array[200]), h.n, h.n, h.n, array_fill(0::bigint, array[200]),"
    " array_fill(0, array[200]), array_fill(true, array[200]), array_fill(1, array[200]),"
    " array(select generate_series(1, 200)), array_fill(1, array[200]),"
    " array_fill('{}'::jsonb, array[200]), h.n, array(select generate_series(1, 200)),"
    " array_fill('t'::text, array[200]), array_fill(null::timestamptz, array[200]),"
    " array_fill(1000000::bigint, array[200]), array_fill(false, array[200])) as c"
)
SUBMIT_200 = """
select * from pgprog.submit_many(
  array_fill('call'::text, array[200]),
  array(select 'n' || mod(p, 50) from generate_series(30001, 30200) as p),
  array(select 'p' || p from generate_series(30001, 30200) as p),
  array_fill(null::jsonb, array[200]), array_fill(null::text, array[200]),
  array(select 'k' || p from generate_series(30001, 30200) as p),
  array_fill(null::jsonb, array[200]), array_fill(0, array[200]),
  array_fill(null::timestamptz, array[200]))
"""
NOTIFY = "select pgprog.notify('n1', 'p30001', idempotency_key => 'k')"
NOTIFY_LATER = "select pgprog.notify('n1', 'p30001', run_at => now() + interval '1 day')"
# With what reads its incarnation.
HISTORY_OF_STEP = """
select h.* from pgprog_data.processes as p
cross join lateral pgprog_engine.history(
  p.namespace, p.process_id, p.incarnation, 500, 100, 'backward') as h
where p.namespace = 'n1' and p.process_id = 'p30001'
"""
# With 50 timers and 100 events.
PUT = """
select pgprog.put(jsonb_build_object(
  'namespace', 'n0', 'process_id', 'new', 'status', 'running', 'state', 1,
  'timers', (
    select jsonb_object_agg('t' || n, now() + n * interval '1 day')
    from generate_series(1, 50) as n),
  'history', (
    select jsonb_agg(jsonb_build_object('event_id', n, 'task_id', 1, 'at', now(), 'payload', 1))
    from generate_series(1, 100) as n)), idempotency_key => 'k')
"""
# Settings of one namespace that were changed after 100 000 tasks ended; then 200 of 1200 failed.
CHANGED = """
update pgprog_data.namespaces set settings_version = 2, rollback_above = 0.1
where namespace = 'n0';
insert into pgprog_data.namespace_settings (namespace, settings_version, settings, changed_at)
select 'n0', v, '{}', now() from generate_series(1, 2) as v;
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at,
  started_at, ended_at)
select 5000000 + n, 'n0', 'p', 1, 'call', case when n <= 200 then 'error' else 'finished' end, 1,
  now(), now(), now(), now()
from generate_series(1, 1200) as n;
"""
# What autovacuum does as a table grows.
SUMMARIZE = """
select brin_summarize_new_values(c.oid) from pg_class as c join pg_am as a on a.oid = c.relam
where a.amname = 'brin' and c.relkind = 'i' and c.relname ~ '^tasks'
"""
SCANNED = """
select relname from pg_stat_xact_user_tables
where schemaname = 'pgprog_data' and seq_scan > 0
  and relname ~ '^(queue$|timers|processes|tasks|attempts|events|keys)'
"""


@pytest.fixture(scope="module")
def crowd(module_db: str) -> str:
    with psycopg.connect(module_db, autocommit=True) as connection:
        connection.execute(Path(__file__).with_name("crowd.sql").read_bytes())
    return module_db


@pytest.fixture
def vacuumed(crowd: str) -> None:
    """Clear away 100 000 dead rows at the head of a namespace: what a test rolled back."""
    tables = "pgprog_data.queue, pgprog_data.timers, pgprog_data.processes"
    with psycopg.connect(crowd, autocommit=True) as connection:
        connection.execute(f"vacuum (index_cleanup on) {tables}".encode())


@pytest.fixture(scope="module", params=["no statistics", "fresh statistics"])
def statistics(crowd: str, request: pytest.FixtureRequest) -> str:
    """Forget statistics, or gather them: once, for pytest runs all tests of a parameter in turn."""
    with psycopg.connect(crowd, autocommit=True) as connection:
        connection.execute(FORGET.encode())
        if request.param == "fresh statistics":
            connection.execute("analyze")
    return str(request.param)


@pytest.fixture
def planned(crowd: str, statistics: str) -> Iterator[psycopg.Connection[Any]]:
    """A session in a transaction that is rolled back."""
    with psycopg.connect(crowd, autocommit=True) as connection:
        if statistics == "no statistics":
            connection.execute(FORGET.encode())  # a vacuum has counted rows
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with connection.transaction(force_rollback=True):
            yield connection


def blocks_of(connection: Any, statement: str, values: Any = ()) -> int:
    """Run a statement once for its plans; return the blocks that it reads the second time."""
    with connection.transaction(force_rollback=True):
        connection.execute(statement, values)
    return blocks_once(connection, statement, values)


def scanned(connection: Any) -> list[str]:
    return [row[0] for row in connection.execute(SCANNED).fetchall()]


def test_a_claim_of_200_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(planned, "select * from pgprog_engine.claim(1, 200)")

    assert scanned(planned) == []
    assert blocks < 12_000


def test_a_claim_of_one_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(planned, "select * from pgprog_engine.claim(1, 1)")

    assert scanned(planned) == []
    assert blocks < 1_300


# Of 20 000 tasks that wait half rank before this place.
SINCE = "select rank, task_id from pgprog_data.queue where task_id = 412001"


def test_a_claim_that_begins_behind_half_of_what_waits_reads_a_bounded_number_of_blocks(
    planned: Any,
) -> None:
    [place] = planned.execute(SINCE).fetchall()
    for limit, most in ((1, 1_300), (200, 12_000)):
        blocks = blocks_of(
            planned,
            "select * from pgprog_engine.claim(1, %s, since => %s, since_task => %s)",
            (limit, *place),
        )
        assert blocks < most

    assert scanned(planned) == []


@pytest.mark.usefixtures("vacuumed")
def test_the_first_rank_before_a_place_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    [place] = planned.execute(SINCE).fetchall()
    served = [f"n{n}" for n in range(50)]
    for before in (place, (place[0] - timedelta(hours=1), 0)):  # half of them, and none
        blocks = blocks_of(
            planned, "select * from pgprog_engine.first_rank(%s, %s, %s)", (served, *before)
        )
        assert blocks < 400

    assert scanned(planned) == []


@pytest.mark.usefixtures("vacuumed")
def test_an_old_worker_that_meets_100_000_newer_tasks_reads_a_bounded_number_of_blocks(
    planned: Any,
) -> None:
    planned.execute(NEWER, (None,))
    blocks = blocks_of(planned, "select * from pgprog_engine.claim(1, 200)")

    assert scanned(planned) == []
    assert blocks < 130_000  # of three thousand tasks, which it never meets again


@pytest.mark.usefixtures("vacuumed")
def test_100_000_tasks_set_aside_cost_neither_old_nor_new_workers_much(planned: Any) -> None:
    planned.execute(NEWER, (2,))
    planned.execute(NEW_WORKER)
    blocks = {
        (worker_id, limit): blocks_of(
            planned, "select * from pgprog_engine.claim(%s, %s)", (worker_id, limit)
        )
        for worker_id in (1, 3)
        for limit in (1, 200)
    }

    assert scanned(planned) == []
    assert max(blocks[1, 200], blocks[3, 200]) < 12_500
    assert max(blocks[1, 1], blocks[3, 1]) < 1_800


@pytest.mark.usefixtures("vacuumed")
def test_20_000_timers_behind_other_tasks_cost_a_claim_of_one_little(planned: Any) -> None:
    blocks = {}
    for status, due_since in (("b", "70 s"), ("p", "50 s"), ("p", "70 s")):
        with planned.transaction(force_rollback=True):
            planned.execute(BEHIND, (status, due_since))
            blocks[status, due_since] = blocks_of(
                planned, "select * from pgprog_engine.claim(1, 1)"
            )

    assert scanned(planned) == []
    assert blocks["b", "70 s"] < 1_300
    assert blocks["p", "50 s"] < 1_600
    assert blocks["p", "70 s"] < 40_000  # of a thousand whose patience has ended


def test_a_completion_of_200_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(planned, COMPLETE_200)

    assert scanned(planned) == []
    assert blocks < 26_000


def test_a_completion_is_planned_as_ever_in_a_transaction_whose_handler_set_the_planner(
    planned: Any,
) -> None:
    planned.execute("set local enable_nestloop = off; set local enable_indexscan = off")
    blocks = blocks_of(planned, COMPLETE_200)

    assert scanned(planned) == []
    assert blocks < 26_000


def test_a_start_of_200_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(
        planned,
        "select * from pgprog_engine.start(1, 200, array_fill('call'::text, array[200]),"
        " array(select 'n' || mod(p, 50) from generate_series(30001, 30200) as p),"
        " array(select 'p' || p from generate_series(30001, 30200) as p),"
        " array_fill(null::jsonb, array[200]), array_fill(null::text, array[200]),"
        " array(select 'k' || p from generate_series(30001, 30200) as p),"
        " array_fill(null::jsonb, array[200]), array_fill(0, array[200]),"
        " array_fill(null::timestamptz, array[200]))",
    )

    assert scanned(planned) == []
    assert blocks < 15_000


def test_a_renewal_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(
        planned,
        "select * from pgprog_engine.renew_worker("
        "  1, '10 s', array(select 100000 + 2 * p from generate_series(1, 200) as p))",
    )

    assert scanned(planned) == []
    assert blocks < 4_600


def test_collecting_zombies_reads_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(planned, "select * from pgprog_engine.collect_zombies(null, null)")

    assert scanned(planned) == []
    assert blocks < 300


def test_judging_settings_reads_what_ended_since_their_change(planned: Any, crowd: str) -> None:
    with psycopg.connect(crowd, autocommit=True) as connection:
        connection.execute(SUMMARIZE)
    planned.execute(CHANGED)
    blocks = blocks_of(planned, "select * from pgprog_engine.judge_settings()")

    assert scanned(planned) == []
    assert blocks < 700


def test_judging_settings_that_nobody_wants_judged_reads_nothing(planned: Any) -> None:
    assert blocks_of(planned, "select * from pgprog_engine.judge_settings()") < 10


def test_the_results_of_200_tasks_read_a_bounded_number_of_blocks(planned: Any) -> None:
    blocks = blocks_of(
        planned,
        "select * from pgprog.results("
        "  array(select 2000000 + 100 * n from generate_series(1, 200) as n))",
    )

    assert scanned(planned) == []
    assert blocks < 4_500


@pytest.mark.usefixtures("vacuumed")
@pytest.mark.parametrize(
    ("statement", "most"),
    [
        (SUBMIT_200, 6_500),
        (NOTIFY, 40),
        (NOTIFY_LATER, 40),
        (PUT, 1_000),
        ("select * from pgprog.history('n1', 'p30001')", 17),
        ("select * from pgprog.history('n1', 'p30001', 500, 100, 'backward')", 17),
        ("select * from pgprog.history('n1', 'p30001', 999, 1)", 17),
        (HISTORY_OF_STEP, 17),
    ],
    ids=[
        "submit_many of 200", "notify", "notify for later", "put", "history", "history backward",
        "history of one event", "history for a step",
    ],
)  # fmt: skip
def test_what_applications_ask_reads_a_bounded_number_of_blocks(
    planned: Any, statement: str, most: int
) -> None:
    blocks = blocks_of(planned, statement)

    assert scanned(planned) == []
    assert blocks < most


def test_gauges_scan_the_queue_and_read_neither_the_timers_nor_what_is_finished(
    planned: Any,
) -> None:
    blocks = blocks_of(planned, "select * from pgprog_engine.gauges()")

    assert [table for table in scanned(planned) if table != "queue"] == []
    assert blocks < 7_500  # the queue keeps the size of its greatest day


@pytest.mark.parametrize(
    ("function", "blocks"),
    [
        ("inspect_namespaces()", 8_000),
        ("inspect_held()", 20_000),
        ("inspect_zombies('0 s')", 300),
        ("inspect_workers()", 300),
    ],
)
def test_what_the_doctor_asks_of_a_long_queue_reads_a_bounded_number_of_blocks(
    vacuumed: None, planned: Any, crowd: str, function: str, blocks: int
) -> None:
    # Two transactions that may hold something.
    planned.execute("select pg_current_xact_id()")
    with psycopg.connect(crowd) as other:
        other.execute("select pg_current_xact_id()")
        found = blocks_of(planned, f"select * from pgprog.{function}")

    assert found < blocks
    assert not {"queue", "timers", "processes"} & set(scanned(planned))


@pytest.mark.parametrize(
    ("function", "blocks"), [("inspect_queue('0 s')", 700_000), ("inspect_timers()", 300_000)]
)
def test_a_look_of_the_doctor_at_all_tasks_reads_each_a_few_times_only(
    planned: Any, function: str, blocks: int
) -> None:
    planned.execute(BEHIND, ("b", "1 hour"))

    assert blocks_of(planned, f"select * from pgprog.{function}") < blocks


def test_a_page_of_who_follows_a_namespace_is_read_by_the_primary_key(planned: Any) -> None:
    values = {"namespace": "n0", "since": 1 << 60, "status": None, "after": "p5", "size": 1000}
    blocks = blocks_of(planned, WRITTEN_PAGE, values)

    assert scanned(planned) == []
    assert blocks < 1_500
