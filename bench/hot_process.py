"""How late is a timer of a process for which a hundred thousand calls wait?

The calls came after the timer was due: once it is overdue by *timer_patience* it goes before them.
What counts is the lateness from then on.  A sample ends when the timer has run.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter
from bench.question import Question
from bench.serving import workers
from bench.workload import ARGS, NAMESPACE, load

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena

_PATIENCE = timedelta(seconds=5)
_LONGEST_SECONDS = 120
# A hundred thousand requests would take longer than the patience: these are the rows they leave.
_MAKE_HOT = """
update pgprog_data.namespaces set timer_patience = %(patience)s;
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select p.incarnation, '', nextval('pgprog_data.task_ids'), p.namespace, p.process_id, 'timeout',
  now(), now()
from pgprog_data.processes as p;
insert into pgprog_data.queue (
  task_id, namespace, process_id, incarnation, type, name, status, due_at, rank, created_at, args)
select nextval('pgprog_data.task_ids'), p.namespace, p.process_id, p.incarnation, 'call', 'count',
  'w', t.at, t.at, t.at, %(args)s
from generate_series(1, %(calls)s) as n, pgprog_data.processes as p,
  lateral (select now() + n * interval '1 us' as at) as t;
"""
_LATENESS = """
select extract(epoch from t.started_at - t.due_at)::float8,
  (select count(*) from pgprog_data.tasks as c where c.type = 'call'),
  (select count(*) from pgprog_data.queue)
from pgprog_data.tasks as t where t.type = 'timeout'
"""


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=1)
        with workers(dsn, count=1, namespaces=[NAMESPACE]):
            meter = Meter(dsn)
            with meter:
                _make_hot(dsn, calls=sizes.hot_calls)
                lateness, ended, left = _wait_for_timer(dsn)
    figures = {
        "ms past patience": 1000 * (lateness - _PATIENCE.total_seconds()),
        "calls left": left,
    }
    return meter.sample(max(ended, 1), figures=figures)


def _make_hot(dsn: str, *, calls: int) -> None:
    values = {"patience": _PATIENCE, "calls": calls, "args": ARGS.decode()}
    with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(_MAKE_HOT, values)


def _wait_for_timer(dsn: str) -> tuple[float, int, int]:
    until = time.monotonic() + _LONGEST_SECONDS
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < until:
            if (row := connection.execute(_LATENESS).fetchone()) is not None:
                return float(row[0]), int(row[1]), int(row[2])
            time.sleep(0.05)
    msg = f"the timer did not run within {_LONGEST_SECONDS} s"
    raise RuntimeError(msg)


QUESTIONS = (Question("timer of a hot process", "calls", _ask, is_long=True),)
