"""How much more does `pgprog worker --processes 2` end than one process?

The namespace is paused until the workers live: what is measured begins with its resumption, of
which they are told, and ends when the newest task has ended and no other is left.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg

from bench.measure import Meter
from bench.question import NoAnswerError, Question
from bench.workload import NAMESPACE, counters, load
from pgprog.store.wakeups import DUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.question import Sample, Sizes
    from bench.server import Arena

counting: Final = counters()

_ROOT = Path(__file__).parents[1]
_CONFIG = """
dsn: "{dsn}"
worker: {{processes: {processes}, concurrency: 100}}
namespaces:
  {namespace}: {{handlers: "bench.processes:counting"}}
"""
_LIVING: Final = "select count(*) from pgprog_data.workers"
# The newest is found by the index and ends among the last: to count them all would take the cores
# that are measured.
_LEFT: Final = (
    "select count(*) from (select from pgprog_data.queue order by task_id desc limit 1) as q"
)
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 120.0


def _ask(arena: Arena, sizes: Sizes, *, processes: int) -> Sample:
    with arena.database() as dsn, psycopg.connect(dsn, autocommit=True) as sql:
        load(dsn, processes=sizes.many_processes, calls=sizes.tasks)
        sql.execute("select pgprog.pause(%s)", (NAMESPACE,))
        with _workers(dsn, processes):
            _wait(sql, _LIVING, processes)
            meter = Meter(dsn)
            with meter:
                sql.execute("select pgprog.resume(%s)", (NAMESPACE,))
                sql.execute("select pg_notify(%s, %s)", (DUE, NAMESPACE))
                _wait(sql, _LEFT, 0)
            return meter.sample(sizes.tasks)


@contextmanager
def _workers(dsn: str, processes: int) -> Iterator[None]:
    """Run a worker of so many processes while the block lasts."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(_CONFIG.format(dsn=dsn, processes=processes, namespace=NAMESPACE))
        file.flush()
        command = [sys.executable, "-m", "pgprog", "worker", "--config", file.name]
        program = subprocess.Popen([*command, "--log-level", "error"], cwd=_ROOT)
        try:
            yield
        finally:
            program.terminate()
            program.wait()


def _wait(sql: psycopg.Connection[Any], count: LiteralString, wanted: int) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while sql.execute(count).fetchone() != (wanted,):
        if time.monotonic() > until:
            msg = f"in {_PATIENCE_SECONDS:.0f} s it was never so that {wanted} = ({count})"
            raise NoAnswerError(msg)
        time.sleep(_LOOK_SECONDS)


QUESTIONS = tuple(
    Question(
        f"drain, --processes {processes}", "tasks", functools.partial(_ask, processes=processes)
    )
    for processes in (1, 2)
)
