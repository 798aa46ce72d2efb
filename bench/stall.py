"""PostgreSQL stands still for longer than leases last: what runs twice, and what is lost?"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg

from bench.measure import Meter, children_of
from pgprog import Intent, Namespace, Step
from pgprog.config import Config, WorkerConfig
from pgprog.embedded import EmbeddedPostgres
from pgprog.engine import Worker
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.question import Sample

_PLACES: Final = 10
_WAITING: Final = 100
_LOOK_SECONDS = 0.05


class _Log:
    """What the handlers themselves saw: how often each step began and returned."""

    def __init__(self) -> None:
        self.began: Counter[str] = Counter()
        self.returned: Counter[str] = Counter()
        # Steps of these kinds return when this is set.
        self.may_return = {"within": asyncio.Event(), "across": asyncio.Event()}

    def namespace(self) -> Namespace[Any]:
        """Return handlers that log here; a process is called after the kind of its step."""
        stalled = Namespace("stalled", step_timeout="1h")

        @stalled.init
        async def begin(step: Step[Any]) -> None: ...

        @stalled.call
        async def work(step: Step[Any]) -> Intent[Any, int]:
            self.began[step.process_id] += 1
            if gate := self.may_return.get(step.process_id.partition(" ")[0]):
                await gate.wait()
            self.returned[step.process_id] += 1
            return Intent(response=step.attempt)

        return stalled

    def count(self, kind: str) -> int:
        """Return how many processes of this kind have begun."""
        return sum(name.startswith(kind) for name in self.began)

    def again(self, kind: str, *, counts: Mapping[str, int]) -> int:
        """Return how many processes of this kind are counted more than once."""
        return sum(name.startswith(kind) and count > 1 for name, count in counts.items())


async def stall(lease_seconds: float, *, stall_seconds: float) -> Sample:
    """Stop every process of a server for a while, under two workers; count what came of it.

    Ten steps return within the stall, ten run across it, a hundred tasks wait behind them.  *run
    again in vain* are steps that had returned, or waited, and began twice; *given up* those that
    ran on while no lease could be renewed, and had to be cancelled and begun again.
    """
    lease = timedelta(seconds=lease_seconds)
    log = _Log()
    with EmbeddedPostgres(durable=False) as server:
        migrate(server.dsn)
        settings = WorkerConfig(concurrency=_PLACES, lease=lease, heartbeat_every=lease / 5)
        config = Config(dsn=server.dsn, worker=settings)
        with psycopg.connect(server.dsn, autocommit=True) as sql:
            async with AsyncExitStack() as workers:
                for _ in range(2):
                    await workers.enter_async_context(Worker(config, [log.namespace()]))
                await _submit(sql, log)
                with Meter(server.dsn) as meter:
                    with _standing_still(server.pid or 0):
                        log.may_return["within"].set()
                        await asyncio.sleep(stall_seconds)
                    log.may_return["across"].set()
                    await _until_ended(sql)
            return meter.sample(_WAITING + 2 * _PLACES, figures=_figures(sql, log))


async def _submit(sql: psycopg.Connection[Any], log: _Log) -> None:
    """Queue all, and return when the steps that hang have begun."""
    kinds = {"within": _PLACES, "across": _PLACES, "waiting": _WAITING}
    names = [f"{kind} {number}" for kind, count in kinds.items() for number in range(count)]
    sql.execute("select pgprog.init('stalled', x) from unnest(%s::text[]) as x", (names,))
    await _until_ended(sql)
    call = "select pgprog.call('stalled', x, name => 'work') from unnest(%s::text[]) as x"
    sql.execute(call, (names,))
    await _until(lambda: log.count("within") + log.count("across") == 2 * _PLACES)


async def _until_ended(sql: psycopg.Connection[Any]) -> None:
    await _until(lambda: not sql.execute("select from pgprog_data.queue limit 1").fetchall())


async def _until(is_so: Callable[[], bool]) -> None:
    while True:
        if is_so():
            return
        await asyncio.sleep(_LOOK_SECONDS)


@contextmanager
def _standing_still(postmaster: int) -> Iterator[None]:
    """Stop a server with all its processes, the one first that could start others."""
    os.kill(postmaster, signal.SIGSTOP)
    processes = [postmaster, *children_of(postmaster)]
    try:
        for pid in processes:
            _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in processes:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it was ending when the server was stopped
        os.kill(pid, number)


def _figures(sql: psycopg.Connection[Any], log: _Log) -> dict[str, float]:
    [(failed, attempts, lost)] = sql.execute(
        "select count(*) filter (where status <> 'finished'), max(attempt),"
        " (select count(*) from pgprog_data.attempts where outcome = 'lost')"
        " from pgprog.tasks where type = 'call'"
    ).fetchall()
    in_vain = log.again("within", counts=log.began) + log.again("waiting", counts=log.began)
    return {
        "failed": failed,
        "lost": lost,
        "attempts": attempts,
        "run again in vain": in_vain + log.again("across", counts=log.returned),
        "given up": log.again("across", counts=log.began),
    }
