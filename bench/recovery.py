"""How soon does a step run again whose worker was killed, or told to stop?"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from bench.measure import Meter, percentile
from bench.question import Question
from bench.stall import stall
from pgprog import Intent, Namespace, Step
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.question import Sample, Sizes
    from bench.server import Arena

    Connection = psycopg.Connection[tuple[Any, ...]]
    Program = subprocess.Popen[bytes]

_ROOT = Path(__file__).parents[1]
_VICTIM: Final = "PGPROG_BENCH_VICTIM"
_LOOK_SECONDS = 0.05
_CONFIG = """
dsn: "{dsn}"
worker:
  {{processes: {processes}, concurrency: 1, lease: {lease}ms, heartbeat_every: {beat}ms,
    stop_timeout: 0s}}
namespaces:
  recovery: {{handlers: "bench.recovery:recovering"}}
"""

recovering = Namespace("recovery", step_timeout="1h")


@recovering.init
async def begin(step: Step[Any]) -> None:
    """Begin."""


@recovering.call
async def work(step: Step[Any]) -> Intent[Any, int]:
    """Hang in a victim, answer elsewhere."""
    if _VICTIM in os.environ:
        await asyncio.Event().wait()
    return Intent(response=step.attempt)


class _Task(NamedTuple):
    pid: int
    started_at: float
    attempt: int


async def _ask(
    dsn: str, sizes: Sizes, *, programs: int, number: signal.Signals
) -> tuple[list[float], int]:
    """Return how long each step stood still, in seconds, and how many attempts were burned.

    The victims are in so many programs; by the clock of this machine, which is the database's.
    """
    lease = timedelta(seconds=sizes.lease_seconds)
    worker = WorkerConfig(lease=lease, heartbeat_every=lease / 5)
    heir = partial(Worker, Config(dsn=dsn, worker=worker), [recovering])
    lease_ms = int(sizes.lease_seconds * 1000)
    config = _CONFIG.format(
        dsn=dsn, processes=sizes.victims // programs, lease=lease_ms, beat=lease_ms // 5
    )
    waits: list[float] = []
    burned = 0
    with psycopg.connect(dsn, autocommit=True) as sql:
        async with heir():
            await _submit("init", sql, sizes.victims)
        for _ in range(sizes.batches):
            with _victims(config, programs):
                running = await _submit("call", sql, sizes.victims)
                async with heir():
                    fell_at = {task_id: _end(task, number) for task_id, task in running.items()}
                    ended = await _tasks(sql, [*running], status="finished")
            waits += [ended[task_id].started_at - fell_at[task_id] for task_id in running]
            burned += sum(task.attempt - 1 for task in ended.values())
    return waits, burned


async def _submit(type_: str, sql: Connection, count: int) -> dict[int, _Task]:
    """Queue one for each process; return inits that have ended, calls that run."""
    names = [f"p{number}" for number in range(count)]
    statement = (
        "select pgprog.init('recovery', x) from unnest(%s::text[]) as x"
        if type_ == "init"
        else "select pgprog.call('recovery', x, name => 'work') from unnest(%s::text[]) as x"
    )
    task_ids = [row[0] for row in sql.execute(statement, (names,))]
    return await _tasks(sql, task_ids, status="finished" if type_ == "init" else "running")


async def _tasks(sql: Connection, task_ids: list[int], *, status: str) -> dict[int, _Task]:
    """Return the tasks, with the programs that run them, once all have this status."""
    while True:
        rows = sql.execute(
            "select t.task_id, coalesce(split_part(w.name, ':', 2)::integer, 0),"
            " extract(epoch from t.started_at)::float8, t.attempt"
            " from pgprog.tasks as t left join pgprog.workers as w on w.worker_id = t.worker_id"
            " where t.task_id = any (%s) and t.status = %s",
            (task_ids, status),
        ).fetchall()
        if len(rows) == len(task_ids):
            return {task_id: _Task(*task) for task_id, *task in rows}
        await asyncio.sleep(_LOOK_SECONDS)


def _end(task: _Task, number: signal.Signals) -> float:
    """Send the signal to the program that runs the task, and return when."""
    now = time.time()
    os.kill(task.pid, number)
    return now


@contextmanager
def _victims(config: str, count: int) -> Iterator[None]:
    """Run so many programs while the block lasts."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        command = [sys.executable, "-m", "pgprog", "worker", "--config", file.name]
        environ = {**os.environ, _VICTIM: "1"}
        programs = [
            subprocess.Popen([*command, "--log-level", "error"], cwd=_ROOT, env=environ)
            for _ in range(count)
        ]
        try:
            yield
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait()


def _sample(arena: Arena, sizes: Sizes, *, programs: int, number: signal.Signals) -> Sample:
    with arena.database() as dsn:
        with Meter(dsn) as meter:
            waits, burned = asyncio.run(_ask(dsn, sizes, programs=programs, number=number))
        figures = {
            "p50 ms": percentile(waits, 0.5) * 1000,
            "p99 ms": percentile(waits, 0.99) * 1000,
            "max ms": max(waits) * 1000,
            "attempts burned": float(burned),
        }
        return meter.sample(len(waits), figures=figures)


def _killed(arena: Arena, sizes: Sizes) -> Sample:
    return _sample(arena, sizes, programs=sizes.victims, number=signal.SIGKILL)


def _killed_supervised(arena: Arena, sizes: Sizes) -> Sample:
    return _sample(arena, sizes, programs=1, number=signal.SIGKILL)


def _stopped(arena: Arena, sizes: Sizes) -> Sample:
    return _sample(arena, sizes, programs=sizes.victims, number=signal.SIGTERM)


def _stalled(_arena: Arena, sizes: Sizes) -> Sample:
    return asyncio.run(stall(sizes.lease_seconds, stall_seconds=sizes.stall_seconds))


QUESTIONS = (
    Question("recovery, workers killed", "kills", _killed, is_long=True),
    Question("recovery, supervised workers killed", "kills", _killed_supervised, is_long=True),
    Question("recovery, workers stopped", "stops", _stopped, is_long=True),
    Question("recovery, PostgreSQL stalled", "tasks", _stalled, is_long=True),
)
