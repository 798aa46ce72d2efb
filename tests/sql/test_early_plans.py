"""Plans that were made while the tables were tiny, and analysed so, must do when these have grown.

A session keeps its plans until statistics change.  One that begins with the whole table, not with
the few ids that are asked for, costs nothing beside a row or two, and later the whole table each
time: that may have been a drain of 80 s where 2 are usual.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 3000
FEW = 30

READ = """
select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables
where schemaname = 'pgprog_data'
"""

GROW = """
with grown as (
  insert into pgprog_data.processes (
    namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at)
  select 'orders', 'g' || p, 1000000 + p, 'running', now(), p, now(), now()
  from generate_series(1, %(many)s) as p
  returning process_id, incarnation),
calls as (
  insert into pgprog_data.queue (
    task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
  select 2000000 + incarnation, 'orders', process_id, incarnation, 'call', 'w', now(), now(), now()
  from grown),
timers as (
  insert into pgprog_data.timers (
    incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
  select incarnation, 't', 4000000 + incarnation, 'orders', process_id, 'timeout',
    now() + interval '1 hour', now()
  from grown),
keys as (
  insert into pgprog_data.keys (namespace, key, task_id, created_at, fingerprint)
  select 'orders', 'g' || incarnation, incarnation, now(), '' from grown)
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at, ended_at)
select incarnation, 'orders', process_id, incarnation, 'init', 'finished', 1, now(), now(), now()
from grown
"""

OLD = 300
# What upkeep finds: processes that were removed, with ten events and two ended tasks each, finished
# ones whose retention is over, expired keys, and tasks that run in a worker that is no more.
AGED = """
insert into pgprog_data.removals
select 5000000 + p, 'orders', now() - interval '1 hour' from generate_series(1, %(old)s) as p;
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select 5000000 + p, e, 1, now(), '{}'
from generate_series(1, %(many)s) as p, generate_series(1, 10) as e;
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at, ended_at,
  args)
select 6000000 + 2 * p + n, 'orders', 'r' || p, 5000000 + p, 'call', 'finished', 1, now(), now(),
  now(), '{}'
from generate_series(1, %(many)s) as p, generate_series(0, 1) as n;
insert into pgprog_data.ended_processes (incarnation, namespace, status, at)
select 1000000 + p, 'orders', 'finished', now() - (p <= %(old)s)::integer * interval '31 days'
from generate_series(1, %(many)s) as p;
update pgprog_data.keys set created_at = now() - interval '8 days'
where task_id between 1000001 and 1000000 + %(old)s;
insert into pgprog_data.workers (worker_id, name, namespaces, lease_until, started_at)
select w, 'w', '{orders}', now(), now() from generate_series(1001, 1100) as w;
update pgprog_data.queue
set status = 'r', claim_id = task_id,
  worker_id = case when task_id <= 3000000 + %(old)s then 0 else 1001 end
where task_id > 3000000;
"""
# A second call of a process, which waits behind the first: both at the head of the queue.
BEHIND = """
with first as (
  update pgprog_data.queue set rank = now() - interval '1 hour' where process_id = %s returning *)
insert into pgprog_data.queue (
  task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
select task_id + 5000000, namespace, process_id, incarnation, 'call', 'w', due_at, rank, created_at
from first
"""
AGE = "update pgprog_data.{} set {} = now() - interval '99 days'"
COLLECT = "select pgprog_engine.collect_zombies(null, null)"
CRASH = "select pgprog_engine.report_crash(%s, %s, %s)"
END_WORKER = "select pgprog_engine.end_worker(%s)"
HAND_BACK = "select pgprog_engine.hand_back(%s, %s)"
MAINTAIN = "select pgprog_engine.maintain()"
PURGE = "select next from pgprog.purge('orders', 0, %s)"

RESTORE = "select pgprog_engine._restore_timers(%s, %s, now())"


@pytest.fixture
def db(fresh_db: str) -> str:
    """A database of our own: statistics and plans of others stay as they are."""
    return fresh_db


@pytest.fixture
def life(worker: Any) -> Callable[[str], None]:
    """One of each: an init, a call that is queued and chained, timers, a retry, a direct start."""

    def live(process_id: str) -> None:
        worker.complete(*worker.start(("init", process_id, f"{process_id} init")))
        worker.start(("call", process_id, f"{process_id} first"), limit=0)
        worker.start(("call", process_id, None), limit=0)
        [first] = worker.claim(1)
        worker.renew(first)
        [chained, _] = worker.complete(first, chain=True, timers={"t": 0, "u": 3600 * 10**6})
        chained = SimpleNamespace(**chained._asdict(), incarnation=first.incarnation)
        worker.complete(chained, timers={"u": 3600 * 10**6}, response='"yes"')
        [timer] = worker.claim(1)
        worker.complete(timer, outcome=3, retry_after=0)
        [timer] = worker.claim(1)
        worker.complete(timer)
        [failing] = worker.start(("call", process_id, None))
        worker.complete(failing, outcome=3, retry_after=0)
        worker.complete(*worker.claim(1))
        worker.complete(*worker.start(("notify", process_id, None)))

    return live


def test_plans_made_while_the_tables_were_tiny_do_when_they_have_grown(
    app: Any, worker: Any, life: Any
) -> None:
    life("p0")
    worker.start(("call", "p0", "left"), limit=0)
    app.execute("vacuum (analyze)")
    life("p1")

    app.execute(GROW, {"many": MANY})
    held: list[Any] = worker.claim(1)
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: worker.claim(1),
        "start": lambda: worker.start(("call", "g1", "a key"), ("init", "new", "another")),
        "renew_worker": lambda: worker.renew(*held),
        "complete": lambda: worker.complete(*held, chain=True, timers={"t": 3600 * 10**6}),
        "complete, for a retry": lambda: worker.complete(*held, outcome=3, retry_after=0),
        "complete, to break": lambda: worker.complete(*held, outcome=4),
        "hand_back": lambda: worker.connection.execute(
            "select pgprog_engine.hand_back(%s, %s)",
            ([task.task_id for task in held], [task.claim_id for task in held]),
        ),
        "results": lambda: worker.connection.execute("select * from pgprog.results('{1000001}')"),
    }
    read = {name: _rows_read(worker.connection, call) for name, call in calls.items()}

    assert [(name, rows) for name, rows in read.items() if rows > FEW] == []


def test_an_old_worker_sets_aside_by_early_plans_without_reading_all_for_each(
    app: Any, worker: Any, make_worker: Any, life: Any
) -> None:
    newer = make_worker(version=2)
    life("p0")
    upgrade = newer.start(("call", "p0", None))
    newer.complete(*upgrade, state="{}", state_version=2, timers={"due": 0})
    app.execute("select pgprog.call('orders', 'p0')")
    app.execute("vacuum (analyze)")
    worker.claim(1)

    app.execute(GROW, {"many": MANY})
    app.execute("update pgprog_data.processes set state_version = 2")
    app.execute("update pgprog_data.timers set due_at = now() where name = 't'")

    # Thousands at the head, each looked at a few times: not all of them for each.
    assert _rows_read(worker.connection, lambda: worker.claim(1)) < FEW * MANY


@pytest.fixture
def keep_house(app: Any, worker: Any, make_worker: Any, life: Any) -> Callable[[], None]:
    """All that is done beside the tasks, once, with next to nothing to do it to."""
    numbers = count()
    run = worker.connection.execute

    def age() -> None:
        app.execute(AGE.format("removals", "removed_at"))
        app.execute(AGE.format("keys", "created_at"))
        app.execute(AGE.format("ended_processes", "at"))

    def keep() -> None:
        broken, gone, finished = (f"{name}{next(numbers)}" for name in ("b", "g", "f"))
        for process_id in (broken, gone, finished):
            life(process_id)
        worker.start(("call", broken, None))
        app.execute("update pgprog_data.queue set worker_id = 0")
        run(COLLECT)
        [held] = worker.claim(1)
        run(CRASH, (worker.worker_id, held.task_id, held.claim_id))
        worker.end(make_worker())
        worker.complete(*worker.claim(1), outcome=4)
        run("select pgprog.simple_repair('orders', %s)", (broken,))
        worker.complete(*worker.start(("call", finished, None)), then=1)
        run("select pgprog.remove('orders', %s)", (gone,))
        age()
        run(MAINTAIN)
        run("select pgprog.remove('orders', %s)", (broken,))
        app.execute("analyze pgprog_data.processes")  # as of one row: plans like to begin with it
        age()
        run("select pgprog.pause('orders')")
        while run(PURGE, (1,)).fetchone() != (None,):
            age()
        run("select pgprog.resume('orders')")

    return keep


def test_upkeep_by_early_plans_reads_no_table_for_each_of_what_it_finds(
    app: Any, worker: Any, keep_house: Any
) -> None:
    keep_house()
    app.execute("vacuum (analyze)")
    for _ in range(7):  # a plan for any values is made after five runs
        keep_house()
    app.execute(GROW, {"many": MANY})
    for statement in AGED.split(";")[:-1]:
        app.execute(statement, {"old": OLD, "many": MANY})
    app.execute("select pgprog.pause('orders')")
    running = "select task_id, claim_id, incarnation from pgprog_data.queue where worker_id = 0"
    held = app.execute(running).fetchall()
    run = worker.connection.execute
    task_ids, claim_ids, incarnations = (list(column) for column in zip(*held, strict=True))
    read = {
        name: _rows_read(worker.connection, partial(run, *call))
        for name, call in {
            "hand_back": (HAND_BACK, (task_ids, claim_ids)),
            "collect_zombies": (COLLECT,),
            "end_worker": (END_WORKER, (0,)),
            "report_crash": (CRASH, (0, task_ids[0], claim_ids[0])),
            "maintain": (MAINTAIN,),
            "_restore_timers": (RESTORE, (incarnations, incarnations)),
            "purge of processes": (PURGE, (OLD,)),
        }.items()
    }
    app.execute("delete from pgprog_data.processes")
    read["purge of what was removed"] = _rows_read(worker.connection, lambda: run(PURGE, (OLD,)))
    app.execute("delete from pgprog_data.removals")
    read["purge of keys"] = _rows_read(worker.connection, lambda: run(PURGE, (OLD,)))

    # Measured: 2, 21, 12, 0, 46, 3, 18, 6 and 1 for each of OLD.
    most = {"collect_zombies": 30, "end_worker": 15, "report_crash": 1, "maintain": 60}
    most |= {"purge of processes": 22, "purge of what was removed": 10, "purge of keys": 1}
    assert [(name, rows) for name, rows in read.items() if rows > 5 + OLD * most.get(name, 5)] == []


def test_plans_made_in_a_queue_that_has_been_long_reach_its_tasks_by_their_ids(
    app: Any, worker: Any
) -> None:
    app.execute(GROW, {"many": MANY})
    app.execute("create table public.long as select * from pgprog_data.queue")
    app.execute("delete from pgprog_data.queue where process_id <> %s", (f"g{MANY}",))
    app.execute("vacuum (analyze) pgprog_data.queue")
    run = worker.connection.execute
    for _ in range(7):  # a plan for any values is made after five runs
        app.execute(BEHIND, (f"g{MANY}",))
        [held] = worker.claim(3)
        run(HAND_BACK, ([held.task_id], [held.claim_id]))
        app.execute("delete from pgprog_data.queue where task_id > 5000000")
    app.execute("insert into pgprog_data.queue select * from public.long on conflict do nothing")
    app.execute(BEHIND, ("g1",))
    [held] = worker.claim(1)
    app.execute(BEHIND, ("g2",))

    calls: dict[str, Callable[[], object]] = {
        "hand_back": lambda: run(HAND_BACK, ([held.task_id], [held.claim_id])),
        "collect_zombies": lambda: run(COLLECT),
        "claim": lambda: worker.claim(3),
    }
    read = {name: _rows_read(worker.connection, call) for name, call in calls.items()}

    assert [(name, rows) for name, rows in read.items() if rows > 3 * FEW] == []


def _rows_read(connection: Any, call: Callable[[], object]) -> int:
    """Return how many rows of our tables a call reads, which is taken back."""
    with connection.transaction(force_rollback=True):
        [[before]] = connection.execute(READ).fetchall()
        call()
        [[after]] = connection.execute(READ).fetchall()
    return int(after - before)
