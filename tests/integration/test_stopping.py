"""A worker stops in time and leaves nothing behind, whatever stands in its way."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.chaos.relay import Link
from tests.waiting import until, until_on_loop

from pgprog import AsyncClient, Client, Intent, Namespace, Step
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker
from pgprog.engine.scanner import Scanner
from pgprog.errors import ConfigError
from pgprog.store.engine_store import EngineStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import psycopg

PROGRAMS = Path(__file__).parent / "programs"
QUICK = WorkerConfig(
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(seconds=2),
    heartbeat_every=timedelta(milliseconds=200),
)
AT_ONCE = replace(QUICK, stop_timeout=timedelta(milliseconds=100))
PATIENT = replace(QUICK, stop_timeout=timedelta(minutes=1))
LISTENING = """
select from pg_stat_activity
where datname = current_database() and query = 'listen pgprog_due' and state = 'idle'
"""


@pytest.fixture
async def client(db: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(db) as client:
        yield client


class Stubborn(Namespace[Any]):
    """Its inits start and then wait for ever, cancelled or not."""

    def __init__(self) -> None:
        super().__init__("stubborn", step_timeout="10m")
        self.started = asyncio.Event()
        self.released = asyncio.Event()

        @self.init
        async def begin(step: Step[Any]) -> Intent[Any, int]:
            self.started.set()
            while not self.released.is_set():
                try:
                    await self.released.wait()
                except asyncio.CancelledError:
                    continue
            return Intent(response=step.attempt)


@pytest.fixture
async def stubborn() -> AsyncIterator[Stubborn]:
    namespace = Stubborn()
    yield namespace
    namespace.released.set()


def workers_of(sql: psycopg.Connection[Any]) -> list[Any]:
    return sql.execute("select from pgprog.workers").fetchall()


@contextlib.contextmanager
def a_start(
    dsn: str, namespace: str, place: Path, *, stop_timeout: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `pgprog worker` with a namespace of programs/; what it logs goes to *place*/stderr."""
    config = place / "pgprog.yaml"
    config.write_text(
        f"dsn: '{dsn}'\nworker: {{stop_timeout: {stop_timeout}}}\n"
        f"namespaces: {{{namespace}: {{handlers: '{namespace}:{namespace}'}}}}\n"
    )
    command = [sys.executable, "-m", "pgprog", "worker", "--config", str(config)]
    with (
        (place / "stderr").open("wb") as stderr,
        subprocess.Popen(command, cwd=PROGRAMS, stdout=subprocess.PIPE, stderr=stderr) as running,
    ):
        try:
            yield running
        finally:
            running.kill()


@contextlib.contextmanager
def a_program(
    dsn: str, sql: psycopg.Connection[Any], namespace: str, place: Path, *, stop_timeout: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Do the same, and wait for its worker."""
    with a_start(dsn, namespace, place, stop_timeout=stop_timeout) as running:
        until(lambda: running.poll() is not None or workers_of(sql))
        assert running.poll() is None
        yield running


def heartbeats() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pgprog heartbeat"]


@pytest.mark.slow  # the time that such a step is given to end
async def test_a_stop_does_not_wait_for_a_step_that_will_not_be_cancelled(
    db: str, client: AsyncClient, stubborn: Stubborn, sql: psycopg.Connection[Any]
) -> None:
    async with Worker(Config(dsn=db, worker=AT_ONCE), [stubborn]):
        task = await client.submit("init", "stubborn", "s")
        await stubborn.started.wait()
        stopping_at = time.monotonic()

    assert time.monotonic() - stopping_at < 3
    assert workers_of(sql) == []
    assert (await client.result(task.task_id)).status == "waiting"


async def test_what_waits_behind_the_last_step_of_a_worker_is_taken_over_at_once(
    db: str, client: AsyncClient, sql: psycopg.Connection[Any]
) -> None:
    config = Config(dsn=db, worker=replace(PATIENT, poll_every=timedelta(minutes=1)))
    shop = Namespace("shop", step_timeout="10m")
    started, released = asyncio.Event(), asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> None:
        started.set()
        await released.wait()

    @shop.call
    async def pay(step: Step[Any]) -> Intent[Any, str]:
        return Intent(response="paid")

    async with contextlib.AsyncExitStack() as last:
        await last.enter_async_context(Worker(config, [shop]))
        await client.submit("init", "shop", "s")
        await started.wait()
        async with Worker(config, [shop]):
            while len(sql.execute(LISTENING).fetchall()) < 2:
                await asyncio.sleep(0.01)
            task = await client.submit("call", "shop", "s", name="pay")
            while (await client.result(task.task_id)).status != "blocked":
                await asyncio.sleep(0.01)
            stopping = asyncio.create_task(last.aclose())
            await asyncio.sleep(0)
            released.set()
            await stopping

            assert await task.wait(timeout=5) == "paid"


async def test_a_stop_that_is_cancelled_hands_back_at_once(
    db: str, client: AsyncClient, sql: psycopg.Connection[Any]
) -> None:
    shop = Namespace("shop", step_timeout="10m")
    started = asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    async def work() -> None:
        async with Worker(Config(dsn=db, worker=PATIENT), [shop]):
            await client.submit("init", "shop", "s")
            await started.wait()

    working = asyncio.create_task(work())
    await started.wait()
    asyncio.get_running_loop().call_later(0.05, working.cancel)
    await asyncio.wait([working])

    assert working.cancelled()
    assert workers_of(sql) == []
    assert sql.execute("select status from pgprog.tasks").fetchall() == [("waiting",)]


@pytest.mark.slow  # the time that what is in flight is given to end
async def test_a_stop_does_not_wait_for_a_lock_of_a_stranger(
    db: str, client: AsyncClient, sql: psycopg.Connection[Any]
) -> None:
    shop = Namespace("shop")
    begun, locked, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> None: ...

    @shop.call
    async def work(step: Step[Any]) -> None:
        async with step.transaction() as connection:
            begun.set()
            await locked.wait()
            await connection.execute("select 1")
        done.set()

    async with Worker(Config(dsn=db, worker=AT_ONCE), [shop]):
        await client.init("shop", "s")
        await client.submit("call", "shop", "s", name="work", timeout=5)
        await begun.wait()
        sql.execute("begin")
        sql.execute("select from pgprog_data.processes for update")
        locked.set()
        await done.wait()
        stopping_at = time.monotonic()

    assert time.monotonic() - stopping_at < 5


@pytest.fixture
async def link(db: str, tmp_path: Path) -> AsyncIterator[Link]:
    link = Link(tmp_path / "link", db)
    await link.open()
    yield link
    await link.close()


@pytest.mark.slow  # the time that each part of a stop is given
async def test_a_stop_ends_though_the_database_stands_still(
    db: str, client: AsyncClient, link: Link
) -> None:
    shop = Namespace("shop", step_timeout="10m")
    begun: list[str] = []
    gate = threading.Event()

    @shop.init
    def begin(step: Step[Any]) -> None:
        with step.transaction() as connection:
            connection.execute("select 1")
            begun.append(step.process_id)
            gate.wait(30)

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with Worker(Config(dsn=link.dsn, worker=AT_ONCE), [shop]):
        for number in range(3):
            await client.submit("init", "shop", f"s-{number}")
        await until_on_loop(lambda: len(begun) == 3)
        link.stall()
        gate.set()
        stopping_at = time.monotonic()

    assert time.monotonic() - stopping_at < 9


async def test_a_stop_does_not_wait_until_others_are_told(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_tell(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(EngineStore, "announce", never_tell)
    worker = Worker(Config(dsn=db, worker=AT_ONCE), [Namespace("shop")])
    await worker.__aenter__()

    await asyncio.wait_for(worker.__aexit__(None, None, None), 5)


async def test_a_worker_that_cannot_start_leaves_nothing_behind(
    db: str, sql: psycopg.Connection[Any]
) -> None:
    before = heartbeats()
    sql.execute("select pgprog_engine._create_namespace('shop', '{\"isolation\": \"process\"}')")
    with pytest.raises(ConfigError, match="isolation"):
        async with Worker(Config(dsn=db, worker=QUICK), [Namespace("shop")]):
            pass

    for thread in {*heartbeats()} - {*before}:
        thread.join(5)
    assert workers_of(sql) == []
    assert heartbeats() == before


async def test_a_worker_whose_start_is_cancelled_while_it_registers_leaves_nothing_behind(
    db: str, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    register_worker = EngineStore.register_worker

    async def register(*args: Any) -> int:
        starting.cancel()
        return await register_worker(*args)

    monkeypatch.setattr(EngineStore, "register_worker", register)
    worker = Worker(Config(dsn=db, worker=QUICK), [Namespace("shop")])
    starting = asyncio.create_task(worker.__aenter__())
    await asyncio.wait([starting])

    assert starting.cancelled()
    assert workers_of(sql) == []


async def test_a_worker_whose_loop_fails_cancels_its_steps_and_hands_them_back(
    db: str,
    client: AsyncClient,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Namespace("shop", step_timeout="10m")
    started, cancelled = asyncio.Event(), asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fail(self: Scanner, room: int) -> float:
        raise ZeroDivisionError

    async def work() -> None:
        async with Worker(Config(dsn=db, worker=PATIENT), [shop]):
            await client.submit("init", "shop", "s")
            await started.wait()
            monkeypatch.setattr(Scanner, "_claim", fail)
            await asyncio.wait_for(cancelled.wait(), 5)

    with pytest.raises(ExceptionGroup):
        await work()

    assert workers_of(sql) == []
    assert sql.execute("select status from pgprog.tasks").fetchall() == [("waiting",)]


@pytest.mark.slow  # a program is started, and such a step is given time to end
def test_a_program_ends_though_a_step_will_not_be_cancelled(
    db: str, sql: Any, tmp_path: Path
) -> None:
    with (
        Client(db) as client,
        a_program(db, sql, "stubborn", tmp_path, stop_timeout="100ms") as running,
    ):
        task = client.submit("init", "stubborn", "s")
        assert running.stdout.readline() == b"started\n"  # type: ignore[union-attr] # a pipe
        running.terminate()

        assert running.wait(20) == 0
        assert client.result(task.task_id).status == "waiting"


@pytest.mark.slow  # a program is started
def test_a_program_that_is_told_to_stop_while_it_starts_starts_no_more(
    db: str, tmp_path: Path
) -> None:
    with a_start(db, "unready", tmp_path, stop_timeout="1s") as running:
        assert running.stdout.readline() == b"importing\n"  # type: ignore[union-attr] # a pipe
        running.terminate()

        assert running.wait(5) == 0


@pytest.mark.slow  # a program is started
def test_a_program_that_fails_ends_though_a_handler_never_returns(
    db: str, sql: Any, tmp_path: Path
) -> None:
    with (
        Client(db) as client,
        a_program(db, sql, "failing", tmp_path, stop_timeout="1s") as running,
    ):
        task = client.submit("init", "failing", "f")
        assert running.stdout.readline() == b"started\n"  # type: ignore[union-attr] # a pipe

        assert running.wait(20) == 1
        assert client.result(task.task_id).status == "waiting"
    assert "ZeroDivisionError: a loop broke" in (tmp_path / "stderr").read_text()


@pytest.mark.slow  # a program is started
def test_a_worker_whose_outputs_are_closed_serves_and_stops(db: str, sql: Any) -> None:
    """A shell's >&- leaves Python without the streams."""
    command = [sys.executable, "-m", "pgprog", "worker", "--only", "collector", "--dsn", db]
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    running = subprocess.Popen(shell)
    try:
        upkeep = (
            "select from pg_stat_activity where datname = current_database()"
            " and application_name like 'pgprog upkeep%'"
        )
        until(lambda: running.poll() is not None or sql.execute(upkeep).fetchall())
        assert running.poll() is None
        running.terminate()

        assert running.wait(20) == 0
    finally:
        running.kill()
        running.wait()
