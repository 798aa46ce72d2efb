"""Workers, applications, zombies and lost connections at once; then what must hold whatever came.

The times at which things happen are not repeatable, what each session does is: the seed is printed.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.sql.conftest import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 3
PROCESSES = 8
pytestmark = pytest.mark.slow  # a storm of some seconds

VICTIM = "storm victim"
KILL = (
    "select pg_terminate_backend(pid) from pg_stat_activity where pid = ("
    "  select pid from pg_stat_activity where datname = current_database()"
    "    and application_name = %s order by random() limit 1)"
)
REQUESTS = {
    "init": "select pgprog.init('orders', %s, run_at => now() + {wait})",
    "call": "select pgprog.call('orders', %s, run_at => now() + {wait})",
    "notify": "select pgprog.notify('orders', %s, priority => 1)",
    "repair": "select pgprog.repair('orders', %s)",
    "simple_repair": "select pgprog.simple_repair('orders', %s)",
    "remove": "select pgprog.remove('orders', %s)",
    "cancel": "select pgprog.cancel(task_id) from pgprog.tasks where process_id = %s"
    " and status in ('waiting', 'blocked') limit 1",
    "pause": "select pgprog.pause('orders', %s)",
    "resume": "select pgprog.resume('orders') from (select %s) as x",
    "measure": "select pgprog_engine.measure_queues('0 s') from (select %s) as x",
}
TASKS = ("init", "call", "notify", "repair", "simple_repair")
WEIGHTS = [20, 50, 10, 10, 5, 2, 5, 2, 8, 5]

# Each finds what must not be.
BREACHES = {
    "a task is left": "select task_id, type, status from pgprog_data.queue",
    "a timer is left, or suspended without need": """
        select t.name, t.status, p.status from pgprog_data.timers as t
        left join pgprog_data.processes as p on p.incarnation = t.incarnation
        where t.status <> 's' or p.status <> 'error'""",
    "I1: two steps of a process overlap": """
        select * from (
          select task_id, started_at, lag(ended_at) over (
            partition by incarnation order by started_at, ended_at) as before
          from pgprog_data.tasks where status <> 'cancelled' and claim_id is not null) as s
        where started_at < before - interval '1 ms'""",
    "I2: something ran before its init": """
        select t.task_id from pgprog_data.tasks as t
        join pgprog_data.tasks as i on i.task_id = t.incarnation
        where t.started_at < i.ended_at and t.task_id <> i.task_id""",
    "I4: a task ended twice": """
        select task_id from pgprog_data.tasks group by task_id having count(*) > 1""",
    "I6: the events are not 1 to n": """
        select incarnation from pgprog_data.events group by incarnation
        having count(*) <> max(event_id)""",
    "I6: the last event is not the last": """
        select p.incarnation from pgprog_data.processes as p where p.last_event_id <> (
          select count(*) from pgprog_data.events as e where e.incarnation = p.incarnation)""",
    "an event is earlier than the one before": """
        select * from (
          select at, lag(at) over (partition by incarnation order by event_id) as before
          from pgprog_data.events) as e
        where at < before""",
    "I7: a key has lost its task": """
        select key from pgprog_data.keys as k where not exists (
          select 1 from pgprog_data.tasks as t where t.task_id = k.task_id)""",
    "the list of ended processes is wrong": """
        select p.process_id from pgprog_data.processes as p
        full join pgprog_data.ended_processes as e on e.incarnation = p.incarnation
        where (p.status in ('error', 'finished')) is distinct from (e.incarnation is not null)
          or e.status <> p.status""",
}


# A step was asked for when a task before it was known to be committed, and due, and began though
# that had not ended.  An init that is tried again by a simple repair goes before all.
OVERTAKEN = """
select b.task_id, b.type, b.started_at, a.task_id, a.type, a.due_at, a.ended_at
from unnest(%s::bigint[], %s::float8[]) as s(claim_id, asked_at)
join pgprog_data.tasks as b on b.claim_id = s.claim_id
join pgprog_data.tasks as a on a.incarnation = b.incarnation and a.task_id < b.task_id
join unnest(%s::bigint[], %s::float8[]) as c(task_id, committed_at) on c.task_id = a.task_id
where a.type not in ('timeout', 'remove') and b.type not in ('timeout', 'remove', 'init')
  and a.ended_at > b.started_at + interval '1 ms'
  and greatest(a.due_at, to_timestamp(c.committed_at)) < to_timestamp(s.asked_at)"""
# Of a namespace with a limit.  A completion that chains puts one task in the place of another.
CROWDED = """
select s.task_id from pgprog_data.tasks as s
join pgprog_data.tasks as o on o.started_at <= s.started_at and o.ended_at > s.started_at
where s.claim_id is not null and o.claim_id is not null
group by s.task_id having count(*) > %s"""


@dataclass(frozen=True)
class WatchedWorker(Worker):
    """Keeps when each claim was asked for."""

    asked_at: dict[int, float]

    def claim(self, limit: int = 10) -> list[Any]:
        return self._keep(super().claim, limit)

    def complete(self, *tasks: Any, **more: Any) -> list[Any]:
        return self._keep(super().complete, *tasks, **more)

    def start(self, *requests: tuple[str, str, str | None], limit: int = 10) -> list[Any]:
        return self._keep(super().start, *requests, limit=limit)

    def _keep(self, ask: Callable[..., list[Any]], *values: Any, **more: Any) -> list[Any]:
        now = time.time()
        rows = ask(*values, **more)
        self.asked_at.update((row.claim_id, now) for row in rows if row.claim_id)
        return rows


class Storm:
    """Sessions that lose their connections, each with a random of its own, until it is over."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.over = threading.Event()
        self.opened: list[psycopg.Connection[Any]] = []
        self.asked_at: dict[int, float] = {}  # by claim
        self.committed_at: dict[int, float] = {}  # by task

    def connect(self) -> psycopg.Connection[Any]:
        while True:
            with suppress(psycopg.OperationalError):
                connection = psycopg.connect(self.dsn, autocommit=True, application_name=VICTIM)
                self.opened.append(connection)
                connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                connection.execute("set statement_timeout = '10s'")
                return connection

    def make_worker(self) -> Any:
        while True:
            with suppress(psycopg.OperationalError):
                connection = self.connect()
                [worker_id] = connection.execute(
                    "select pgprog_engine.register_worker("
                    "  'w', array['orders'], array['{}'::jsonb], '1 hour')"
                ).fetchone() or [0]
                return WatchedWorker(connection, worker_id, self.asked_at)

    def run_application(self, chance: random.Random) -> None:
        connection = self.connect()
        while not self.over.is_set():
            answer = None
            connection = self.connect() if connection.closed else connection
            [kind] = chance.choices(list(REQUESTS), WEIGHTS)
            wait = f"interval '{chance.choice([0, 0, 5])} ms'"
            process_id = f"p{chance.randrange(PROCESSES)}"
            with (
                suppress(psycopg.Error),  # refused, or disconnected
                connection.transaction(force_rollback=chance.random() < 0.1),
            ):
                request = REQUESTS[kind].format(wait=wait).encode()
                answer = connection.execute(request, (process_id,)).fetchone()
                self.over.wait(chance.choice([0, 0, 0, 0.02]))
            if answer and kind in TASKS:
                self.committed_at[answer[0]] = time.time()

    def run_starter(self, chance: random.Random) -> None:
        worker = self.make_worker()
        while not self.over.is_set():
            kinds = chance.choices(["init", "call", "notify"], k=6)
            names = [f"p{chance.randrange(PROCESSES)}" for _ in kinds]
            keys = chance.choices([None, "k1", "k2"], k=6)
            try:
                rows = worker.start(*zip(kinds, names, keys, strict=True))
                now = time.time()
                self.committed_at |= {row.task_id: now for row in rows if row.task_id}
                started = [row for row in rows if row.outcome == "started"]
                while started:
                    rows = worker.complete(*started)
                    started = [started[row.pos - 1] for row in rows if row.outcome == "busy"]
            except psycopg.Error:  # a stranger's lock, or disconnected: another incarnation goes on
                worker = self.make_worker()

    def run_worker(self, chance: random.Random) -> None:
        worker = self.make_worker()
        held: dict[int, Any] = {}
        while not self.over.is_set():
            try:
                held |= {task.task_id: task for task in worker.claim(chance.choice([1, 3, 10]))}
                if chance.random() < 0.3:
                    worker.renew(*held.values())
                for task in list(held.values()):
                    end_step(worker, task, held, chance)
                if chance.random() < 0.05:  # forgets what it holds, and is heard of no more
                    worker, held = self.make_worker(), {}
            except psycopg.Error:
                worker, held = self.return_unknown(worker, held)

    def return_unknown(self, worker: Any, held: dict[int, Any]) -> tuple[Any, dict[int, Any]]:
        """Hand back the claims whose answers were lost."""
        try:
            again = WatchedWorker(self.connect(), worker.worker_id, self.asked_at)
            known = {task.claim_id for task in held.values()}
            unknown = [row for row in again.renew() if row.claim_id not in known]
            again.connection.execute(
                "select pgprog_engine.hand_back(%s, %s)",
                ([row.task_id for row in unknown], [row.claim_id for row in unknown]),
            )
        except psycopg.Error:
            return self.make_worker(), {}
        return again, held

    def run_chaos(self, chance: random.Random) -> None:
        """Disconnect sessions, and collect workers whether they are alive or not."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self.over.wait(0.05):
                connection.execute(KILL, (VICTIM,))
                if chance.random() < 0.2:
                    collect_all(connection)


def end_step(worker: Any, task: Any, held: dict[int, Any], chance: random.Random) -> None:
    """Complete a step in one of the ways there are; a busy one stays held, a next one joins it."""
    outcomes, weights = (
        ([1, 4], [2, 1]) if task.type == "repair" else ([1, 2, 3, 4, 6], [80, 6, 8, 4, 1])
    )
    [outcome] = chance.choices(outcomes, weights)
    timers = [(chance.choice("abc"), chance.choice([0, 1000, 30000, None])) for _ in range(2)]
    rows = worker.complete(
        task,
        chain=chance.random() < 0.7,
        outcome=outcome,
        then=chance.choices([0, 1, 2], [95, 2, 3])[0] if outcome == 1 else 0,
        retry_after=chance.choice([0, 2000, 20000]),
        error='{"detail": "storm"}' if outcome in {4, 6} else None,
        timer_list=timers if chance.random() < 0.3 else [],
        remove=chance.random() < 0.05,
    )
    for row in rows:
        if row.outcome == "next":
            following = row._asdict() | {"incarnation": task.incarnation}
            held[row.task_id] = SimpleNamespace(**following)
        elif row.outcome != "busy":
            del held[task.task_id]


def collect_all(connection: Any) -> None:
    connection.execute(
        "select pgprog_engine.collect_zombies(worker_id, renewals) from pgprog_data.workers"
    )
    connection.execute("select pgprog_engine.collect_zombies(null, null)")


def drain(worker: Any) -> None:
    """Run all that is due or planned within a minute; the time-out of the test ends it in vain."""
    while True:
        rows = worker._rows("select * from pgprog_engine.claim(%s, 50)", (worker.worker_id,))
        if tasks := [row for row in rows if row.task_id is not None]:
            worker.complete(*tasks)
        elif rows[-1].wait_us > 60_000_000:
            return


@pytest.mark.parametrize(("seed", "limit"), [(1, None), (2, None), (3, 3)])
def test_the_invariants_hold_after_a_storm(
    app: Any, db: str, make_worker: Any, seed: int, limit: int | None
) -> None:
    app.execute("update pgprog_data.namespaces set concurrency = %s", (limit,))
    storm = Storm(db)
    runs = [storm.run_worker] * 3 + [storm.run_application] * 3
    runs += [storm.run_starter, storm.run_chaos]
    with ThreadPoolExecutor(len(runs)) as threads:
        running = [threads.submit(run, random.Random(seed * 100 + i)) for i, run in enumerate(runs)]
        storm.over.wait(SECONDS)  # the storm itself
        storm.over.set()
    for run in running:
        run.result()
    for connection in storm.opened:
        connection.close()
    collect_all(app)
    app.execute("select pgprog.resume('orders')")
    drain(make_worker())

    found = {name: app.execute(query).fetchmany(5) for name, query in BREACHES.items()}
    times = (storm.asked_at, storm.committed_at)
    assert all(times)
    values = [list(part) for time in times for part in (time.keys(), time.values())]
    found["I2: a task was overtaken"] = app.execute(OVERTAKEN, values).fetchmany(5)
    if limit:
        found["more ran than may"] = app.execute(CROWDED, (limit,)).fetchmany(5)
    assert {name: rows for name, rows in found.items() if rows} == {}
    [count] = app.execute("select count(*) from pgprog_data.tasks").fetchone()
    assert count > 20
