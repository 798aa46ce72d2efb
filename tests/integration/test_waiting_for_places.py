"""Claims that wait for a place in a worker, while its steps go on for minutes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import AsyncClient, Intent, Namespace, Request, Step
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROGRAMS = Path(__file__).parent / "programs"
ONE_PLACE = WorkerConfig(
    concurrency=1,
    poll_every=timedelta(minutes=1),
    lease=timedelta(seconds=2),
    heartbeat_every=timedelta(milliseconds=200),
    stop_timeout=timedelta(minutes=1),
)
AT_ONCE = replace(ONE_PLACE, stop_timeout=timedelta(0))
OTHER = replace(ONE_PLACE, concurrency=20)
HELD = "select count(*) from pgprog_data.queue where status = 'r'"
LISTENING = """
select count(*) from pg_stat_activity
where datname = current_database() and query = 'listen pgprog_due' and state = 'idle'
"""


class Shop(Namespace[Any]):
    """Its payments are quick, until they wait for `released`."""

    def __init__(self) -> None:
        super().__init__("shop", step_timeout="10m")
        self.released = asyncio.Event()
        self.released.set()

        @self.init
        async def begin(step: Step[Any]) -> None: ...

        @self.call
        async def pay(step: Step[Any]) -> Intent[Any, int]:
            if not self.released.is_set():
                await self.released.wait()
            return Intent(response=step.attempt)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    yield shop
    shop.released.set()


@pytest.fixture
async def client(db: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(db) as client:
        yield client


async def become(sql: Any, query: str, count: int) -> None:
    """Return when the count that *query* asks for is this one."""
    async with asyncio.timeout(10):
        while sql.execute(query).fetchone() != (count,):
            await asyncio.sleep(0.005)


async def stuck(sql: Any, client: AsyncClient, shop: Shop) -> Any:
    """Have a worker with one place run a payment that goes on, and hold another, which returns."""
    for name in "ab":
        await client.init("shop", name)
    assert await client.call("shop", "a", name="pay") == 1  # it is quick, so far
    shop.released.clear()
    pays = [Request("call", "shop", name, name="pay") for name in "ab"]
    _, second = await client.submit_many(pays)
    await become(sql, HELD, 2)
    return second


async def test_what_waits_for_the_place_of_a_step_that_goes_on_runs_in_another_worker(
    db: str, sql: Any, client: AsyncClient, shop: Shop
) -> None:
    async with Worker(Config(dsn=db, worker=AT_ONCE), [shop]):
        second = await stuck(sql, client, shop)
        async with Worker(Config(dsn=db, worker=OTHER), [Shop()]):
            assert await second.wait(timeout=5) == 1
            await become(sql, HELD, 1)


async def test_what_waits_for_a_place_is_left_to_other_workers_when_one_begins_to_stop(
    db: str, sql: Any, client: AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.scanner.STUCK_SECONDS", 3600)
    patient = Config(dsn=db, worker=ONE_PLACE)
    async with contextlib.AsyncExitStack() as last:
        await last.enter_async_context(Worker(patient, [shop]))
        second = await stuck(sql, client, shop)
        async with Worker(Config(dsn=db, worker=OTHER), [Shop()]):
            await become(sql, LISTENING, 2)
            stopping = asyncio.create_task(last.aclose())

            assert await second.wait(timeout=5) == 1
            assert not stopping.done()
            shop.released.set()
            await stopping


async def test_what_waits_for_a_place_in_a_namespace_that_is_paused_runs_once_it_goes_on(
    db: str, sql: Any, client: AsyncClient, shop: Shop
) -> None:
    async with Worker(Config(dsn=db, worker=AT_ONCE), [shop]):
        second = await stuck(sql, client, shop)
        sql.execute("select pgprog.pause('shop', 'for a while')")
        await become(sql, HELD, 1)
        async with Worker(Config(dsn=db, worker=replace(OTHER, concurrency=5)), [Shop()]):
            assert (await client.result(second.task_id)).status == "waiting"
            sql.execute("select pgprog.resume('shop')")
            sql.execute("notify pgprog_due, 'shop'")

            assert await second.wait(timeout=5) == 1


@pytest.fixture
def hazards(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handlers of programs/hazards.py, in a module that children can import."""
    monkeypatch.syspath_prepend(PROGRAMS)
    return importlib.import_module("hazards")


@pytest.mark.slow  # child processes are started
async def test_what_waits_for_a_child_process_runs_in_another_worker_and_holds_up_no_neighbour(
    db: str, sql: Any, client: AsyncClient, hazards: Any, shop: Shop
) -> None:
    busy = replace(AT_ONCE, concurrency=3, children=1)
    async with Worker(Config(dsn=db, worker=busy), [hazards.apart, shop]):
        for name in ("asleep", "1", "2", "3"):
            await client.init("apart", name)
        await client.init("shop", "a")
        await client.submit("call", "apart", "asleep", name="sleep_on")
        await become(sql, HELD, 1)
        looks = [Request("call", "apart", name, name="look") for name in "123"]
        tasks: Any = await client.submit_many(looks)

        assert await client.call("shop", "a", name="pay", timeout=5) == 1
        other = replace(OTHER, children=1)
        async with Worker(Config(dsn=db, worker=other), [hazards.apart]):
            seen = [await task.wait(timeout=10) for task in tasks]
            assert [each["attempt"] for each in seen] == [1, 1, 1]


@pytest.mark.slow  # child processes are started
async def test_a_change_to_isolation_process_holds_up_no_claim_while_all_child_processes_are_busy(
    db: str, sql: Any, client: AsyncClient, hazards: Any, shop: Shop
) -> None:
    busy = replace(AT_ONCE, concurrency=3, children=1, poll_every=timedelta(milliseconds=50))
    async with Worker(Config(dsn=db, worker=busy), [hazards.apart, hazards.together, shop]):
        await client.init("apart", "asleep")
        await client.init("shop", "a")
        await client.submit("call", "apart", "asleep", name="sleep_on")
        await become(sql, HELD, 1)
        sql.execute("select pgprog.set_settings('together', '{\"isolation\": \"process\"}')")

        assert await client.call("shop", "a", name="pay", timeout=5) == 1
