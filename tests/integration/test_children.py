"""Steps in child processes, which are killed, die, and end with their worker."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import os
import pkgutil
import signal
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import Engine, Intent, Namespace, Step
from pgprog.config import WorkerConfig
from pgprog.engine.children.alive import Alive
from pgprog.engine.children.process import ChildProcess
from pgprog.errors import ConfigError, Rejected, StepFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

pytestmark = pytest.mark.slow  # child processes are started

PROGRAMS = Path(__file__).parent / "programs"
AT_ONCE = WorkerConfig(
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(seconds=2),
    heartbeat_every=timedelta(milliseconds=200),
    stop_timeout=timedelta(milliseconds=100),
)


@pytest.fixture
def hazards(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handlers of programs/hazards.py, in a module that children can import."""
    monkeypatch.syspath_prepend(PROGRAMS)
    return importlib.import_module("hazards")


@pytest.fixture
async def engine(hazards: Any, make_engine: Any) -> AsyncIterator[Engine]:
    """An engine of these, with a process in each isolated namespace."""
    async with make_engine(hazards.apart, hazards.hasty) as engine:
        await engine.init("apart", "a")
        await engine.init("hasty", "h")
        yield engine


@pytest.fixture
def written(sql: psycopg.Connection[Any]) -> Any:
    """Returns what handlers have written into a table of the application."""
    sql.execute("create table if not exists public.written (number integer)")
    sql.execute(
        "create table if not exists public.deferred"
        " (number integer unique deferrable initially deferred)"
    )
    sql.execute("truncate public.written")

    def numbers() -> list[int]:
        rows = sql.execute("select number from public.written order by 1").fetchall()
        return [number for (number,) in rows]

    return numbers


def lives(pid: int) -> bool:
    """Tell whether there is a process of this id that is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """Return the children of a process that run handlers."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        child
        for child in map(int, found)
        if lives(child) and b"children.main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def lose_later(sql: psycopg.Connection[Any], process_id: str) -> int:
    """Have a worker hold an init of the namespace local until it is collected."""
    sql.execute("select pgprog_engine._create_namespace('local', '{}')")
    [[worker_id]] = sql.execute(
        "select pgprog_engine.register_worker('w', array['local'], array['{}'::jsonb], '1 hour')"
    ).fetchall()
    sql.execute("select pgprog.init('local', %s)", (process_id,))
    sql.execute("select pgprog_engine.claim(%s, 1)", (worker_id,))
    return int(worker_id)


async def test_a_handler_in_a_child_process_works_as_in_a_thread(
    engine: Engine, hazards: Any
) -> None:
    assert await engine.call(hazards.pay, "a", amount=Decimal("4.50")) == Decimal("6.00")
    seen = await engine.call(hazards.look, "a")

    assert seen["events"] == 2
    assert seen["pid"] != os.getpid()
    assert 30 < seen["left"] < 60
    assert await engine.call(hazards.look_back, "a") == [1, 2]
    assert await engine.call(hazards.pay, "a", amount=Decimal("0.5")) == Decimal("5.50")
    assert len(children_of(os.getpid())) == 1


async def test_what_a_handler_in_a_child_process_raises_counts_as_in_a_thread(
    engine: Engine, hazards: Any, sql: psycopg.Connection[Any]
) -> None:
    with pytest.raises(Rejected) as caught:
        await engine.call("apart", "a", {"amount": "much"}, name="pay")
    assert "amount of hazards.pay" in str(caught.value.payload)
    for how, error_type in (
        ("permanent", "PermanentError"),
        ("odd", "KeyError"),
        ("stop", "RuntimeError"),
    ):
        with pytest.raises(StepFailed, match=error_type):
            await engine.call(hazards.fail, "a", how=how)
    task = await engine.submit("notify", "apart", "a", name="flicker")
    await task.wait()
    assert [event.payload for event in await engine.history("apart", "a", after=1)] == [
        {"attempt": 2}
    ]
    with pytest.raises(StepFailed, match="stop all"):
        await engine.call(hazards.fail, "a", how="critical")
    assert sql.execute("select is_paused from pgprog.stats()").fetchall().count((True,)) == 1


async def test_a_transaction_in_a_child_process_commits_with_its_step(
    engine: Engine, hazards: Any, written: Any
) -> None:
    assert await engine.call(hazards.write, "a", number=1) == 1
    assert await engine.call(hazards.write_async, "a", number=2) == 2
    with pytest.raises(Rejected):
        await engine.call(hazards.write_and_refuse, "a", number=3)
    with pytest.raises(StepFailed, match="DataFault"):
        await engine.call(hazards.write_twice, "a", number=4)
    assert await engine.call(hazards.write, "a", number=5) == 5

    assert written() == [1, 2, 5]
    assert len(await engine.history("apart", "a")) == 4


async def test_a_timer_rings_in_a_child_process(engine: Engine, hazards: Any) -> None:
    await engine.call(hazards.plan, "a")

    async with asyncio.timeout(20):
        while len(await engine.history("apart", "a")) < 2:
            await asyncio.sleep(0.02)


async def test_waiting_for_ones_own_process_is_refused_in_a_child_process(
    engine: Engine, hazards: Any, db: str
) -> None:
    with pytest.raises(StepFailed, match="own process"):
        await engine.call(hazards.ask_oneself, "a", dsn=db)


@pytest.mark.parametrize("name", ["spin", "search", "hang"])
async def test_a_child_process_is_killed_at_the_step_time_out_and_the_next_attempt_runs(
    engine: Engine, name: str
) -> None:
    pid = await engine.call("hasty", "h", name=name, timeout=60)

    assert children_of(os.getpid()) == [pid]
    first, second = [row for row in await engine.trace("hasty", "h") if row.name == name]
    assert first.error is not None
    assert first.error["error_type"] == "StepTimeout"
    assert (first.attempt, second.attempt) == (1, 2)


async def test_a_child_process_whose_engine_breaks_is_a_crash_of_its_step(
    engine: Engine, hazards: Any
) -> None:
    await engine.init("apart", "b")
    with pytest.raises(StepFailed, match="zombie detected"):
        await engine.call(hazards.break_the_engine, "a")

    assert (await engine.call(hazards.look, "b"))["attempt"] == 1


async def test_a_child_process_that_dies_is_a_crash_of_its_step_alone(
    engine: Engine,
    hazards: Any,
    sql: psycopg.Connection[Any],
) -> None:
    await engine.init("apart", "b")
    before = await engine.call(hazards.look, "b")
    with pytest.raises(StepFailed, match="zombie detected"):
        await engine.call(hazards.die, "a")
    after = await engine.call(hazards.look, "b")

    assert (before["attempt"], after["attempt"]) == (1, 1)
    waits = sql.execute(
        "select extract(epoch from lead(started_at) over (order by attempt) - ended_at)::float"
        " from pgprog_data.attempts where outcome = 'lost'"
    ).fetchall()
    assert len(waits) == 3
    assert all(0 <= wait < 1 for (wait,) in waits[:2])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_child_that_dies_before_its_transaction_is_committed_has_done_nothing(
    engine: Engine,
    hazards: Any,
    written: Any,
    sql: psycopg.Connection[Any],
    session: Any,
    monkeypatch: pytest.MonkeyPatch,
    how: signal.Signals,
) -> None:
    monkeypatch.setattr("pgprog.engine.children.process._ANSWER_SECONDS", 1.0)
    stranger = session()
    doing = (
        "select from pg_stat_activity where datname = current_database()"
        " and application_name = 'pgprog child transaction' and "
    )
    stranger.execute("select pg_advisory_lock(4712)")
    call = asyncio.create_task(engine.call(hazards.write_at_the_gate, "a", number=7))
    async with asyncio.timeout(30):
        while not sql.execute(doing + "wait_event = 'advisory'").fetchall():
            await asyncio.sleep(0.01)
        with stranger.transaction():
            stranger.execute("select from pgprog_data.processes where process_id = 'a' for update")
            stranger.execute("select pg_advisory_unlock(4712)")
            while not sql.execute(doing + "query like '%complete(%'").fetchall():
                await asyncio.sleep(0.01)
            [child] = children_of(os.getpid())
            os.kill(child, how)
    await call

    assert written() == [9]
    crashes = sql.execute("select crashes from pgprog_data.tasks where name = 'write_at_the_gate'")
    assert crashes.fetchall() == [(1,)]


async def test_leaving_an_engine_leaves_no_child_process_and_hands_back_what_it_ran(
    hazards: Any, make_engine: Any, sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(hazards.apart, worker=AT_ONCE) as engine:
        await engine.init("apart", "a")
        await engine.init("apart", "b")
        pid = (await engine.call(hazards.look, "a"))["pid"]
        for name in ("a", "b"):
            await engine.submit("call", "apart", name, name="search_on")
        async with asyncio.timeout(20):
            while len(children := children_of(os.getpid())) < 2:
                await asyncio.sleep(0.01)

    assert pid in children
    assert not any(lives(child) for child in children)
    waiting = sql.execute("select status::text, attempt from pgprog_data.queue").fetchall()
    assert waiting == [("w", 0)] * 2


async def test_a_start_that_is_cancelled_leaves_no_child_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: asyncio.Future[ChildProcess] = asyncio.get_running_loop().create_future()

    async def greet(child: ChildProcess, _hello: object) -> None:
        begun.set_result(child)
        await asyncio.Event().wait()

    monkeypatch.setattr(ChildProcess, "_greet", greet)
    hello: Any = None
    with contextlib.closing(Alive.make()) as alive:
        starting = asyncio.create_task(ChildProcess.start(hello, alive=alive.descriptor))
        child = await begun
        starting.cancel()
        await asyncio.wait([starting])

    assert starting.cancelled()
    assert not lives(child.pid)


@pytest.mark.parametrize(
    ("scarce", "error"),
    [
        ("socket.socketpair", OSError(errno.EMFILE, "too many open files")),
        ("threading.Thread.start", RuntimeError("can't start new thread")),
    ],
)
async def test_a_step_whose_child_process_cannot_be_started_runs_later_and_burns_no_attempt(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, scarce: str, error: Exception
) -> None:
    there_is = pkgutil.resolve_name(scarce)
    refusals = iter(range(5))  # more than the crashes after which a step is given up

    def refuse(*args: Any) -> Any:
        if next(refusals, None) is None:
            return there_is(*args)
        raise error

    monkeypatch.setattr("pgprog.engine.children.apart.UNAVAILABLE_SECONDS", 0.01)
    await asyncio.gather(*(child.end() for child in [*engine._worker._children._all]))
    monkeypatch.setattr(scarce, refuse)
    seen = await engine.call("apart", "a", name="look", timeout=20)

    assert seen["attempt"] == 1
    assert children_of(os.getpid()) == [seen["pid"]]


async def test_isolation_process_needs_a_namespace_that_a_child_can_import(
    make_engine: Any,
) -> None:
    local = Namespace("local", isolation="process")

    with pytest.raises(ConfigError, match="namespace local: isolation process") as caught:
        async with make_engine(local):
            pass
    assert "global of a module" in str(caught.value.hint)


async def test_what_no_child_can_run_runs_alone_after_it_was_lost(
    make_engine: Any, db: str, sql: psycopg.Connection[Any]
) -> None:
    worker_id = lose_later(sql, "lone")
    local = Namespace("local")
    running: list[str] = []
    seen: list[tuple[str, tuple[str, ...]]] = []
    release = asyncio.Event()

    @local.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        running.append(step.process_id)
        if step.process_id == "early":
            await release.wait()
        seen.append((step.process_id, tuple(running)))
        running.remove(step.process_id)
        return Intent(state=0)

    async with make_engine(local) as engine:
        early = await engine.submit("init", "local", "early")
        async with asyncio.timeout(20):
            while running != ["early"]:
                await asyncio.sleep(0.01)
            sql.execute("select pgprog_engine.collect_zombies(%s, 0)", (worker_id,))
            while engine._worker._runner.room:
                await asyncio.sleep(0.01)
        late = await engine.submit("init", "local", "late")
        release.set()
        for task in (early, late):
            await task.wait(timeout=20)

    assert seen == [("early", ("early",)), ("lone", ("lone",)), ("late", ("late",))]
