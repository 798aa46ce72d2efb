"""A worker whose answers get lost, whose lease ends, whose database stands still."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.claims import make_claim
from tests.waiting import until_on_loop

from pgprog import AsyncClient, Engine, Intent, Namespace, Step
from pgprog.config import Config, WorkerConfig
from pgprog.engine import Worker, worker
from pgprog.engine.collector import Collector
from pgprog.engine.holdings import Holdings
from pgprog.errors import StoreUnavailable
from pgprog.metrics import Metrics
from pgprog.store.engine_store import EngineStore
from pgprog.store.renewals import Renewals
from pgprog.store.transactions import StepTransaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from pgprog.store.rows import Claims, Completed, Completion

# Heartbeats so rare that only a renewal at once can explain a quick recovery.
RARE = WorkerConfig(
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(minutes=2),
    heartbeat_every=timedelta(minutes=1),
)


QUICK = replace(RARE, lease=timedelta(seconds=2), heartbeat_every=timedelta(milliseconds=200))


class LossyStore(EngineStore):
    """Loses the answer of the first claim, or of the first completion, after its commit."""

    lose: str = ""

    async def claim(self, worker_id: int, max_tasks: int, **more: Any) -> Claims:
        claims = await super().claim(worker_id, max_tasks, **more)
        if claims.tasks and self.lose == "claim":
            type(self).lose = ""
            raise StoreUnavailable("the answer was lost")
        return claims

    async def complete(
        self, worker_id: int, batch: Sequence[Completion], **more: Any
    ) -> list[Completed]:
        completed = await super().complete(worker_id, batch, **more)
        has_next = any(each.next_ is not None for each in completed)
        if self.lose == "completion" or (self.lose == "chain" and has_next):
            type(self).lose = ""
            raise StoreUnavailable("the answer was lost")
        return completed


@pytest.mark.parametrize("lose", ["claim", "completion", "chain"])
async def test_races_7_8_30_a_lost_answer_is_mended_at_once_by_a_renewal(
    db: str,
    counters: Namespace[Any],
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    lose: str,
) -> None:
    monkeypatch.setattr(worker, "EngineStore", LossyStore)
    async with Engine(db, [counters], worker=RARE) as engine:
        await engine.init("counters", "c")
        LossyStore.lose = lose
        with sql.transaction():
            ids = [
                sql.execute(
                    "select pgprog.call('counters', 'c', '{\"amount\": 1}', name => 'add')"
                ).fetchone()
                for _ in range(3)
            ]
        answers = [await engine.wait(row[0], timeout=10) for row in ids if row]
        process = await engine.get("counters", "c")
        trace = await engine.trace("counters", "c")

    assert LossyStore.lose == ""
    assert answers == [1, 2, 3]
    assert process is not None
    assert process.last_event_id == 4
    assert {task.attempt for task in trace} == {1}


async def test_race_29_a_claim_whose_answer_is_on_its_way_is_not_handed_back() -> None:
    holdings = Holdings()
    arrived = asyncio.Event()

    async def claim() -> None:
        with holdings.trip():
            await arrived.wait()
            holdings.add(make_claim(7), since=0)

    claiming = asyncio.create_task(claim())
    await asyncio.sleep(0)
    strangers = asyncio.create_task(holdings.strangers([(7, 7), (8, 8)]))
    await asyncio.sleep(0)
    arrived.set()
    await claiming

    assert await strangers == [(8, 8)]


class Counters:
    """A store that tells what it is given to tell."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.renewals: dict[int, int] = {1: 5}

    async def list_workers(self) -> dict[int, int]:
        return dict(self.renewals)


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def store() -> Counters:
    return Counters()


@pytest.fixture
def collector(store: Counters, now: list[float]) -> Collector:
    return Collector(
        store,  # type: ignore[arg-type] # as much of a store as the look needs
        lease=timedelta(seconds=10),
        on_freed=lambda: None,
        clock=lambda: now[0],
    )


async def test_a_counter_seen_unchanged_for_a_full_lease_is_a_dead_worker(
    collector: Collector, now: list[float]
) -> None:
    dead = []
    for second in range(12):
        now[0] = 100.0 + second
        dead.append(await collector.look(due_at=now[0]))

    assert dead == [[]] * 10 + [[(1, 5)]] * 2


async def test_race_10_a_database_that_stands_still_is_not_the_death_of_workers(
    collector: Collector, now: list[float]
) -> None:
    await collector.look(due_at=100.0)
    now[0] = 160.0  # the look was due at 101, and the database answered a minute later

    assert await collector.look(due_at=101.0) == []
    now[0] = 169.0
    assert await collector.look(due_at=169.0) == []
    now[0] = 170.0
    assert await collector.look(due_at=170.0) == [(1, 5)]


async def test_a_worker_that_renewed_meanwhile_lives(
    collector: Collector, store: Counters, now: list[float]
) -> None:
    for second in range(20):
        now[0] = 100.0 + second
        store.renewals[1] += second % 9 == 0

        assert await collector.look(due_at=now[0]) == []


async def test_an_incarnation_that_was_ended_begins_another_and_goes_on(
    make_engine: Any, counters: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(counters) as engine:
        await engine.init("counters", "c")
        [[worker_id]] = sql.execute("select worker_id from pgprog.workers").fetchall()
        sql.execute("delete from pgprog_data.workers")
        while not sql.execute(
            "select from pgprog.workers where worker_id <> %s", (worker_id,)
        ).fetchall():
            await asyncio.sleep(0.01)

        assert await engine.call("counters", "c", {"amount": 1}, name="add") == 1


async def test_a_worker_that_cannot_renew_cancels_its_steps_before_its_lease_ends(
    db: str, sql: psycopg.Connection[Any]
) -> None:
    shop = Namespace("shop")
    cancelled = asyncio.Event()
    runs: list[int] = []

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any, int]:
        runs.append(step.attempt)
        if len(runs) == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
        return Intent(state=0, response=len(runs))

    lease = WorkerConfig(lease=timedelta(seconds=1), heartbeat_every=timedelta(milliseconds=100))
    async with Engine(db, [shop], worker=lease) as engine:
        task = await engine.submit("init", "shop", "s")
        while not runs:
            await asyncio.sleep(0.01)
        with sql.transaction():
            sql.execute("lock table pgprog_data.workers in access exclusive mode")
            await asyncio.wait_for(cancelled.wait(), 5)
            still_running = sql.execute("select status from pgprog_data.queue").fetchall()
        answer = await task.wait(timeout=10)

    assert still_running == [("r",)]
    assert answer == 2
    assert runs == [1, 1]


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_claim_that_arrives_after_the_lease_begins_no_step(
    db: str, monkeypatch: pytest.MonkeyPatch, is_noticed: bool
) -> None:
    shop = Namespace("shop")
    late: list[bool] = []
    began: list[bool] = []

    class LateStore(EngineStore):
        """Gives the first claim when the lease is over, and the tick has or has not seen it."""

        async def claim(self, worker_id: int, max_tasks: int, **more: Any) -> Claims:
            claims = await super().claim(worker_id, max_tasks, **more)
            if claims.tasks and not late:
                late.append(True)
                serving._lease._safe_until = 0.0
                while is_noticed and serving._lease.is_held:
                    await asyncio.sleep(0)
                    serving._lease._safe_until = 0.0  # a renewal may have come before the tick
            return claims

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any, int]:
        began.append(serving._lease.is_held and serving._lease._safe_until > 0)
        return Intent(response=step.attempt)

    monkeypatch.setattr(worker, "EngineStore", LateStore)
    async with AsyncClient(db) as client, Worker(Config(dsn=db, worker=QUICK), [shop]) as serving:
        task = await client.submit("init", "shop", "s")
        answer = await task.wait(timeout=20)

    assert (late, began, answer) == ([True], [True], 1)


@pytest.mark.slow  # a lease ends
async def test_a_worker_that_stands_still_before_a_commit_is_collected(
    db: str, make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Namespace("shop")
    still: set[int] = set()
    renew = Renewals.renew_worker

    def renew_unless_still(self: Renewals, worker_id: int, *args: Any) -> list[tuple[int, int]]:
        if worker_id in still:
            raise StoreUnavailable("this worker stands still")
        return renew(self, worker_id, *args)

    async def stand_still(self: StepTransaction) -> None:
        try:
            still.add(first.worker_id)
            await asyncio.Event().wait()
        finally:
            await self._pool.putconn(self.connection)

    @shop.init("paid")
    async def pay(step: Step[Any]) -> Intent[Any, int]:
        async with step.transaction() as connection:
            await connection.execute("select 1")
        return Intent(response=step.attempt)

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any, int]:
        if step.attempt == 1:
            await asyncio.Event().wait()
        return Intent(response=step.attempt)

    config = WorkerConfig(
        lease=timedelta(seconds=1),
        heartbeat_every=timedelta(milliseconds=100),
        stop_timeout=timedelta(milliseconds=100),
    )
    monkeypatch.setattr(Renewals, "renew_worker", renew_unless_still)
    async with AsyncClient(db) as client, Worker(Config(dsn=db, worker=config), [shop]) as first:
        waits = await client.submit("init", "shop", "other")
        with monkeypatch.context() as patched:
            patched.setattr(StepTransaction, "commit", stand_still)
            stands = await client.submit("init", "shop", "paid", name="paid")
            while not still:
                await asyncio.sleep(0.01)
        async with make_engine(shop, worker=config):
            answers = [await waits.wait(timeout=20), await stands.wait(timeout=20)]

    assert answers == [2, 2]


ERASING = """
select from pg_stat_activity
where datname = current_database() and query like '%erase_old(%' and state = 'active'
  and pid <> pg_backend_pid()
"""
ERASE_FOR_EVER = """
create or replace function pgprog_engine.erase_old(key_ttl interval, audit_retention interval)
returns boolean language plpgsql as $$ begin perform pg_sleep(1.5); return true; end $$
"""


@pytest.mark.slow  # a lease ends
async def test_a_dead_worker_is_collected_while_much_is_erased(fresh_db: str, session: Any) -> None:
    sql = session(fresh_db)
    sql.execute("drop function pgprog_engine.erase_old(interval, interval)")
    sql.execute(ERASE_FOR_EVER)
    lease = timedelta(seconds=1)
    config = WorkerConfig(lease=lease, heartbeat_every=timedelta(milliseconds=100))
    dead = EngineStore(fresh_db, name="dead")
    async with Worker(Config(dsn=fresh_db, worker=config), [Namespace("shop")]):
        await until_on_loop(lambda: sql.execute(ERASING).fetchall())
        worker_id = await dead.register_worker("dead", {}, lease)
        await dead.close()
        gone = "select where not exists (select from pgprog.workers where worker_id = %s)"

        await until_on_loop(lambda: sql.execute(gone, (worker_id,)).fetchall(), within=3)


async def test_a_worker_that_stops_hands_its_steps_over_with_no_attempt_burned(
    db: str, make_engine: Any
) -> None:
    shop = Namespace("shop", step_timeout="10m")
    started = asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any, int]:
        if not started.is_set():
            started.set()
            await asyncio.Event().wait()
        return Intent(response=step.attempt)

    config = replace(RARE, stop_timeout=timedelta(milliseconds=100))
    async with AsyncClient(db) as client:
        async with Worker(Config(dsn=db, worker=config), [shop]):
            task = await client.submit("init", "shop", "s")
            await asyncio.wait_for(started.wait(), 10)
        async with make_engine(shop):
            assert await task.wait(timeout=10) == 1


async def test_the_step_of_a_process_that_was_removed_is_cancelled(
    make_engine: Any, sql: psycopg.Connection[Any]
) -> None:
    shop = Namespace("shop")
    began, cancelled = asyncio.Event(), asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Intent(state=0)

    async with make_engine(shop) as engine:
        await engine.submit("init", "shop", "s")
        await asyncio.wait_for(began.wait(), 10)
        sql.execute("select pgprog.remove('shop', 's')")

        await asyncio.wait_for(cancelled.wait(), 10)
