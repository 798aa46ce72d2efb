"""One run: a server with a standby, a writer, two clients that read, and faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from tests.stress import standby
from tests.stress.faults import PACK, Faults
from tests.stress.oracle import Oracle, Written
from tests.stress.own import OWN, OwnAuthor, own_namespace
from tests.stress.readers import Observer, OpenGate, Witness
from tests.stress.writer import SQL

from pgprog import AsyncClient, Engine
from pgprog.config import CacheSettings

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from tests.chaos.run import Server

NAMESPACE = "stress"
# Not room for all processes, so that they go and come.
CACHE = CacheSettings(
    enabled=True,
    ttl=timedelta(seconds=2),
    max_bytes=200_000,
    max_lag=timedelta(seconds=1),
    reconnect=timedelta(milliseconds=200),
)
_SLOWEST_ANSWER = 0.02
_OWN = 4
_READERS = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much: it ends after *reads* from memory, when each fault has hit; or after *seconds*.

    *is_hasty* ends it with the first violation.
    """

    reads: int
    seconds: float
    seed: int
    processes: int = 60
    pause: float = 1.5
    is_hasty: bool = False


@dataclass
class Outcome:
    """What was seen; *violated_after* seconds for the first time."""

    oracle: Oracle = field(default_factory=Oracle)
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    violated_after: float | None = None


async def run(server: Server, plan: Plan) -> Outcome:
    """Run *plan* on a migrated server."""
    outcome = Outcome()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(SQL.read_bytes())
        connection.execute("select pgprog_engine._create_namespace(%s, '{}')", (NAMESPACE,))
        connection.execute(f"alter system set synchronous_standby_names = {standby.NAME}".encode())
        connection.execute("select pg_reload_conf()")
    async with contextlib.AsyncExitStack() as stack:
        second = await stack.enter_async_context(_program("standby", server.dsn))
        arguments = (server.dsn, str(plan.seed), NAMESPACE, str(plan.processes))
        writer = await stack.enter_async_context(_program("writer", *arguments))
        observers = await _observers(stack, server.dsn, outcome, plan)
        witness = await stack.enter_async_context(Witness(server.dsn, outcome.oracle))
        observers[0].witness = witness
        faults = Faults(
            server, standby=second.pid, seed=plan.seed, pause=plan.pause, done=outcome.faults
        )
        began = time.monotonic()
        hearing = asyncio.create_task(_hear(writer, outcome.oracle))
        tasks = _tasks(observers, outcome.oracle, plan)
        tasks.append(asyncio.create_task(faults.run()))
        try:
            await _until_enough(outcome, plan, [hearing, *tasks], began=began)
        finally:
            await _cancelled(tasks)
        await _end(writer, hearing)
        await witness.sweep(observers, NAMESPACE, plan.processes)
        _count(observers, outcome)
    outcome.oracle.conclude()
    return outcome


async def _observers(
    stack: contextlib.AsyncExitStack, dsn: str, outcome: Outcome, plan: Plan
) -> list[Observer]:
    """Return one that embeds an engine, and one before whom no gate is shut."""
    gated = Engine(dsn, [own_namespace()])
    gated._cache = {NAMESPACE: CACHE, OWN: CACHE}
    open_ = AsyncClient(dsn, cache={NAMESPACE: CACHE, OWN: CACHE})
    observers = []
    for number, (name, client) in enumerate((("gated", gated), ("open", open_))):
        await stack.enter_async_context(client)
        chance = random.Random(plan.seed + number)
        _delay_fills(client, chance)
        observers.append(Observer(name, client, outcome.oracle, chance))
    reader = observers[1].reader
    reader._gate = OpenGate(reader._cache)
    return observers


def _delay_fills(client: AsyncClient, chance: random.Random) -> None:
    """Let answers of PostgreSQL travel: what happens meanwhile has to be met."""
    store: Any = client._store
    get_fenced = store.get_fenced

    async def late(*args: Any, **options: Any) -> Any:
        answer = await get_fenced(*args, **options)
        await asyncio.sleep(chance.random() ** 3 * _SLOWEST_ANSWER)
        return answer

    store.get_fenced = late


def _tasks(observers: list[Observer], oracle: Oracle, plan: Plan) -> list[asyncio.Task[None]]:
    tasks = [
        asyncio.create_task(observer.read_on(NAMESPACE, plan.processes))
        for observer in observers
        for _ in range(_READERS)
    ]
    chance = random.Random(plan.seed)
    for number in range(_OWN):
        author = OwnAuthor(f"o-{number}", observers[0], oracle, chance)
        tasks.append(asyncio.create_task(author.write_on()))
    tasks.append(asyncio.create_task(observers[1].read_on(OWN, _OWN, prefix="o")))
    return tasks


async def _until_enough(
    outcome: Outcome, plan: Plan, tasks: list[asyncio.Task[None]], *, began: float
) -> None:
    oracle = outcome.oracle
    while outcome.seconds < plan.seconds:
        outcome.seconds = time.monotonic() - began
        done, _ = await asyncio.wait(tasks, timeout=0.2, return_when="FIRST_COMPLETED")
        for task in done:
            task.result()  # why it failed, which none should
        oracle.said("own", time.monotonic())
        oracle.judge()
        if oracle.violations and outcome.violated_after is None:
            outcome.violated_after = time.monotonic() - began
            if plan.is_hasty:
                return
        if oracle.cached >= plan.reads and outcome.faults.keys() >= {*PACK}:
            return


async def _hear(writer: Process, oracle: Oracle) -> None:
    assert writer.stdout is not None
    async for line in writer.stdout:
        match json.loads(line):
            case ["said", at]:
                oracle.said("writer", at)
            case ["began", process_id, mark, rank, at]:
                oracle.began((NAMESPACE, process_id), Written(mark, rank, at))
            case ["committed", process_id, mark, at, version]:
                oracle.committed((NAMESPACE, process_id), mark, at=at, version=version)
            case ["failed", _, mark, _]:
                oracle.failed(mark)
            case ["freed", process_id, life, number, at]:
                oracle.freed((NAMESPACE, process_id), life, number, at=at)
            case other:
                msg = f"the writer says {other}"
                raise RuntimeError(msg)
    if await writer.wait():
        msg = "the writer failed: see its words above"
        raise RuntimeError(msg)


async def _end(writer: Process, hearing: asyncio.Task[None]) -> None:
    assert writer.stdin is not None
    writer.stdin.close()
    await hearing


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _count(observers: list[Observer], outcome: Outcome) -> None:
    for observer in observers:
        for name, count in observer.reader._cache.counts.items():
            outcome.counts[f"{observer.name} {name}"] = count
        outcome.counts[f"{observer.name} honest"] = observer.honest


@asynccontextmanager
async def _program(name: str, *arguments: str) -> AsyncIterator[Process]:
    """Run a program of this package for the length of a block."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.stress.{name}", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()
