"""How soon does a task start that plain SQL inserted, and what do its writers pay for that?

pgbench inserts by `select pgprog.init(…)`, each in a transaction of its own, at a rate; nobody
notifies.  A worker in a process of its own polls once a second, and hears as the question says.
Both times are those of the database: a task is due when it is inserted, before its commit.

What writers lose is the rate that they reach of 1 000 a second, beside a worker of another
namespace that only polls and beside one that follows the stream, for some seconds each in turn.
"""

from __future__ import annotations

import functools
import statistics
import time
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter
from bench.pgbench import run_script
from bench.question import NoAnswerError, Question
from bench.serving import workers
from bench.workload import NAMESPACE, load

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena
    from pgprog.config import Wakeups

_WAITED = """
select count(*), percentile_disc(array[0.5, 0.99]) within group (order by started_at - due_at)
from pgprog_data.tasks where process_id like 'arrives-%'
"""

_ARRIVE = (
    "\\set number random(1, 1000000000000000)\n"
    f"select pgprog.init('{NAMESPACE}', 'arrives-' || :client_id || '-' || :number,"
    """ '{"note": ""}');\n"""
)
_RATE = 200
_FULL_RATE = 1000
_CLIENTS = 8
_DRAIN_SECONDS = 10.0
_MOST_TURNS = 3


def _ask_start(arena: Arena, sizes: Sizes, *, wakeups: Wakeups) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=1)
        with workers(dsn, count=1, wakeups=wakeups):
            meter = Meter(dsn)
            with meter:
                inserted = _write(dsn, rate=_RATE, seconds=sizes.seconds).count
                _wait_ended(dsn, count=inserted)
        with psycopg.connect(dsn) as connection:
            [(count, (p50, p99))] = connection.execute(_WAITED).fetchall()
        figures = {"start p50 ms": 1000 * p50.total_seconds(), "p99 ms": 1000 * p99.total_seconds()}
        return meter.sample(count, figures=figures)


def _ask_writers(arena: Arena, sizes: Sizes) -> Sample:
    """Let the same be written beside workers of another namespace, who have nothing to do."""
    turns = _MOST_TURNS if sizes.seconds >= 1 else 1
    rates: dict[Wakeups, list[float]] = {"poll": [], "stream": []}
    with arena.database() as dsn:
        load(dsn, processes=1)
        meter = Meter(dsn)
        with meter:
            for _ in range(turns):
                for wakeups, found in rates.items():
                    with workers(dsn, count=1, namespaces=["other"], wakeups=wakeups):
                        written = _write(dsn, rate=_FULL_RATE, seconds=sizes.seconds)
                        found.append(written.rate)
    poll, stream = statistics.median(rates["poll"]), statistics.median(rates["stream"])
    figures = {
        "beside polling/s": poll,
        "beside a stream/s": stream,
        "lost %": 100 - 100 * stream / poll,
    }
    seconds = 2 * turns * max(1, round(sizes.seconds))
    return meter.sample(
        round(seconds * (sum(rates["poll"]) + sum(rates["stream"])) / (2 * turns)),
        seconds=seconds,
        figures=figures,
    )


def _write(dsn: str, *, rate: int, seconds: float) -> Sample:
    return run_script(dsn, _ARRIVE, clients=_CLIENTS, seconds=seconds, rate=rate)


def _wait_ended(dsn: str, *, count: int) -> None:
    until = time.monotonic() + _DRAIN_SECONDS
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute("select from pgprog_data.queue limit 1").fetchone():
            if time.monotonic() > until:
                msg = f"{count} tasks did not end within {_DRAIN_SECONDS:.0f} s of the last"
                raise NoAnswerError(msg)
            time.sleep(0.1)


QUESTIONS = (
    *(
        Question(
            f"from an insert by plain SQL to the start, {wakeups}",
            "tasks",
            functools.partial(_ask_start, wakeups=wakeups),
        )
        for wakeups in ("poll", "stream")
    ),
    Question("1 000 inserts a second beside the stream", "inserts", _ask_writers),
)
