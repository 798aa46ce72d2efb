"""How late are timers: five thousand a second beside a million later ones, and all at one moment?

They are due whether those before them have run or not.  Each belongs to a process of its own; its
step reads the state, writes it and an event.  The lateness is counted to the start of the step and
to its commit, both by the clock of the database.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter
from bench.question import NoAnswerError, Question
from bench.serving import workers
from bench.workload import NAMESPACE, load

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena

_A_SECOND = 5_000
_GRACE_SECONDS = 60.0
# Steps that set so many timers would take minutes: these are the rows that they leave.
_SET_LATER = """
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select p.incarnation, 'later ' || n, nextval('pgprog_data.task_ids'), p.namespace, p.process_id,
  'timeout', now() + interval '1 day' + random() * interval '30 days', now()
from generate_series(1, %(each)s) as n, pgprog_data.processes as p;
analyze pgprog_data.timers;
"""
# In the order of their ids, which says nothing of where their rows lie.
_SET_DUE = """
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select p.incarnation, '', nextval('pgprog_data.task_ids'), p.namespace, p.process_id, 'timeout',
  now() + %(lead)s * interval '1 s'
  + (row_number() over (order by hashtext(p.process_id)) - 1) * %(gap)s * interval '1 s', now()
from pgprog_data.processes as p;
"""
_LATENESS = """
select count(*),
  percentile_disc(array[0.5, 0.99, 1]) within group (order by started_at - due_at),
  percentile_disc(array[0.5, 0.99, 1]) within group (order by ended_at - due_at),
  max(ended_at) - min(due_at)
from pgprog_data.tasks where type = 'timeout'
"""


def _ask(arena: Arena, sizes: Sizes, *, is_burst: bool) -> Sample:
    count = sizes.timers if is_burst else max(20, int(_A_SECOND * sizes.seconds))
    with arena.database() as dsn:
        load(dsn, processes=count)
        if not is_burst:
            _execute(dsn, _SET_LATER, each=-(-sizes.later // count))
        with workers(dsn, count=1, namespaces=[NAMESPACE]):
            _execute(
                dsn, _SET_DUE, lead=2 * sizes.settle_seconds, gap=0 if is_burst else 1 / _A_SECOND
            )
            meter = Meter(dsn)
            with meter:
                _wait_ended(dsn, count=count)
        return _sample(meter, dsn, count=count)


def _wait_ended(dsn: str, *, count: int) -> None:
    until = time.monotonic() + count / _A_SECOND + _GRACE_SECONDS
    with psycopg.connect(dsn, autocommit=True) as connection:
        # By the least that can be asked: a count of rows would take from what is measured.
        due = (
            "select 1 from pgprog_data.timers where namespace = %s and status = 'w'"
            " and needs_version is null and due_at < now() + interval '1 h'"
            " order by due_at limit 1"
        )
        running = "select 1 from pgprog_data.queue limit 1"
        while (
            connection.execute(due, (NAMESPACE,)).fetchone()
            or connection.execute(running).fetchone()
        ):
            if time.monotonic() > until:
                msg = f"{count} timers did not run within {_GRACE_SECONDS:.0f} s of the last"
                raise NoAnswerError(msg)
            time.sleep(0.1)


def _sample(meter: Meter, dsn: str, *, count: int) -> Sample:
    with psycopg.connect(dsn) as connection:
        [[ran, starts, ends, seconds]] = connection.execute(_LATENESS).fetchall()
    if ran != count:
        msg = f"{ran} of {count} timers ran"
        raise NoAnswerError(msg)
    figures = {
        f"{what} {name} ms": 1000 * value.total_seconds()
        for what, values in (("start", starts), ("end", ends))
        for name, value in zip(("p50", "p99", "worst"), values, strict=True)
    }
    return meter.sample(count, seconds=seconds.total_seconds(), figures=figures)


def _execute(dsn: str, statement: str, **values: float) -> None:
    with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(statement.encode(), values)


QUESTIONS = (
    Question(
        "5 000 timers a second beside later ones", "timers", functools.partial(_ask, is_burst=False)
    ),
    Question("timers due at one moment", "timers", functools.partial(_ask, is_burst=True)),
)
