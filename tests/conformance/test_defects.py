"""What was wrong in the reference system is not wrong here; defects.toml names the tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pgprog import AsyncClient, Engine, Intent, Namespace, Request, SetTimer, Step
from pgprog.config import PoolConfig, WorkerConfig
from pgprog.embedded import EmbeddedPostgres
from pgprog.errors import Overloaded, StepFailed
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import psycopg
    from tests.conftest import SessionFactory

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCENARIOS: dict[str, Any] = yaml.safe_load((HERE / "defects.yaml").read_text())
RARE_POLLS = WorkerConfig(poll_every=timedelta(hours=1))
# As many as run at once; due work must not wait for a scan to find the places that they leave.
FEW_PLACES = WorkerConfig(poll_every=timedelta(hours=1), concurrency=4)
LOCK_WAITS = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'"""
# The database refuses an event, as it would a value that Python did not know to be bad.
REFUSE = """
create function public.refuse() returns trigger language plpgsql as $$
begin
  raise exception 'no such value' using errcode = '22023';
end
$$;
create trigger refuse before insert on pgprog_data.events for each row
  when (new.payload = '"poison"') execute function public.refuse();
"""
IDS = [f"c{number}" for number in range(60)]


@pytest.fixture
def counters() -> Namespace[Any]:
    """Processes whose state counts their events."""
    namespace = Namespace("counters", retry={"initial_interval": "0s", "max_attempts": 3})

    @namespace.init
    async def begin(step: Step[Any], args: Any = None) -> Intent[Any]:
        timers = [SetTimer(after=timedelta(), name=name) for name in args or ()]
        return Intent(state=0, timers=timers)

    @namespace.call
    async def add(step: Step[Any]) -> Intent[Any, int]:
        return Intent(state=step.state + 1, events=["added"], response=step.state + 1)

    @namespace.timeout("add")
    async def add_by_timer(step: Step[Any]) -> Intent[Any]:
        return Intent(state=step.state + 1, events=["added"])

    @namespace.timeout("fail")
    async def fail(step: Step[Any]) -> None:
        message = "broken"
        raise ValueError(message)

    return namespace


async def until(sql: psycopg.Connection[Any], condition: Any, count: int) -> None:
    """Return when so many processes are so; the time-out of the test ends a wait in vain."""
    while sql.execute(condition).fetchone() != (count,):
        await asyncio.sleep(0.01)


@pytest.fixture
def sql(session: Any) -> psycopg.Connection[Any]:
    connection: psycopg.Connection[Any] = session()
    return connection


@pytest.mark.slow  # a pytest of its own collects what is named
def test_each_defect_has_tests_that_are_there_or_a_reason_why_it_cannot_be() -> None:
    defects = tomllib.loads((HERE / "defects.toml").read_text())["defect"]

    assert [each["number"] for each in defects] == [*range(1, 27)]
    assert all(each["title"] for each in defects)
    assert all(each.get("tests") or each.get("cannot_apply") for each in defects)
    named = sorted({test for each in defects for test in each.get("tests", ())})
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "--collect-only", "-qq", *named]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout + collected.stderr


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_of_a_defect_ends_well(play: Callable[..., Any], scenario: str) -> None:
    play(SCENARIOS[scenario]).run()


async def test_timers_that_fail_without_a_pause_break_their_processes_and_nothing_else(
    db: str, counters: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with Engine(db, [counters], worker=RARE_POLLS) as engine:
        await engine.submit_many(Request("init", "counters", each, ["fail"]) for each in IDS)
        await until(sql, "select count(*) from pgprog.processes where status = 'error'", len(IDS))
        await engine.init("counters", "another")

        assert await engine.call("counters", "another", name="add") == 1


async def test_due_timers_run_as_places_get_free_and_wait_for_no_scan(
    db: str, counters: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(db) as client:
        sql.execute("select pgprog_engine._create_namespace('counters', '{}')")
        for each in IDS:
            await client.put(
                {
                    "namespace": "counters", "process_id": each, "status": "running", "state": 0,
                    "timers": {"add": "2026-01-01T00:00:00Z"},
                }
            )  # fmt: skip
    async with Engine(db, [counters], worker=FEW_PLACES):
        await until(sql, "select count(*) from pgprog.processes where last_event_id = 1", len(IDS))


async def test_callers_that_give_up_take_no_place_of_the_worker_with_them(
    db: str, counters: Namespace[Any]
) -> None:
    gate = asyncio.Event()
    begun: list[str] = []

    @counters.call
    async def linger(step: Step[Any]) -> None:
        begun.append(step.process_id)
        await gate.wait()

    async with Engine(db, [counters], worker=FEW_PLACES) as engine:
        await engine.submit_many(Request("init", "counters", each) for each in IDS[:9])
        callers = [
            asyncio.create_task(engine.call("counters", each, name="linger")) for each in IDS[:8]
        ]
        while len(begun) < 4:  # all places
            await asyncio.sleep(0.01)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        gate.set()

        answers = [await engine.call("counters", each, name="add") for each in IDS[:9]]
    assert answers == [1] * 9


async def test_steps_that_the_database_refuses_end_in_error_and_free_their_places(
    fresh_db: str, counters: Namespace[Any], session: Any
) -> None:
    session(fresh_db).execute(REFUSE)

    @counters.call
    async def poison(step: Step[Any]) -> Intent[Any]:
        return Intent(events=["poison"])

    async with Engine(fresh_db, [counters], worker=FEW_PLACES) as engine:
        await engine.submit_many(Request("init", "counters", each) for each in IDS[:20])
        bad = [engine.call("counters", each, name="poison") for each in IDS[:10]]
        good = [engine.call("counters", each, name="add") for each in IDS[10:20]]
        outcomes = await asyncio.gather(*bad, *good, return_exceptions=True)

    assert all(isinstance(each, StepFailed) for each in outcomes[:10])
    assert "no such value" in str(outcomes[0])
    assert outcomes[10:] == [1] * 10


async def test_a_read_is_one_snapshot_while_the_process_is_written(
    db: str, counters: Namespace[Any]
) -> None:
    async with Engine(db, [counters], worker=RARE_POLLS) as engine:
        await engine.init("counters", "c")
        requests = [Request("call", "counters", "c", name="add") for _ in range(100)]
        tasks = await engine.submit_many(requests)
        seen: list[tuple[Any, int, int]] = []
        while not seen or seen[-1] != (100, 100, 100):
            found = await engine.get("counters", "c", max_events=1000)
            assert found is not None
            seen.append((found.state, found.last_event_id, len(found.history)))
        assert all(not isinstance(task, Exception) for task in tasks)

    assert all(state == last == events for state, last, events in seen)


async def test_a_pool_that_is_used_up_refuses_in_time_and_works_again_afterwards(
    db: str, counters: Namespace[Any], sql: psycopg.Connection[Any], session: Any
) -> None:
    async with Engine(db, [counters]) as engine:
        await engine.init("counters", "c")
    pool = PoolConfig(api=1, checkout_timeout=timedelta(milliseconds=100))
    async with AsyncClient(db, pool=pool) as client:
        with sql.transaction():
            sql.execute("select 1 from pgprog_data.processes for update")
            waiting = asyncio.create_task(client.remove("counters", "c"))
            await until(session(), LOCK_WAITS, 1)
            with pytest.raises(Overloaded):
                await client.get("counters", "c")

        assert await waiting
        assert await client.get("counters", "c") is None


@pytest.fixture
def db_alone() -> Iterator[str]:
    """A database whose server has no other, since ids of transactions are the server's."""
    with EmbeddedPostgres(durable=False) as server:
        migrate(server.dsn)
        yield server.dsn


@pytest.mark.slow  # a server starts
async def test_a_call_costs_two_writing_transactions_and_many_at_once_share_theirs(
    db_alone: str, counters: Namespace[Any], session: SessionFactory
) -> None:
    sql = session(db_alone)

    def used() -> int:
        row = sql.execute("select pg_current_xact_id()::text::bigint").fetchone()
        assert row is not None
        return int(row[0])

    async def spent(calls: Callable[[], Awaitable[object]]) -> float:
        """Return what *calls* used at least: heartbeats and upkeep only add to it."""
        rounds = []
        for _ in range(4):
            began_at, before = time.monotonic(), used()
            await calls()
            rounds.append(used() - before - 10 * (time.monotonic() - began_at))
        return min(rounds) - 20

    async with Engine(db_alone, [counters], worker=RARE_POLLS) as engine:

        async def one_by_one() -> None:
            for each in IDS[:40]:
                await engine.call("counters", each, name="add")

        async def at_once() -> None:
            await asyncio.gather(*(engine.call("counters", each, name="add") for each in IDS))

        await engine.submit_many(Request("init", "counters", each) for each in IDS)
        for each in IDS:
            await engine.call("counters", each, name="add")

        assert await spent(one_by_one) <= 2 * 40
        assert await spent(at_once) <= len(IDS)
