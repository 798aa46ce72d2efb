"""Where the claims of a worker begin, while they are to pass by what has ended."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import Namespace, Request
from pgprog.config import WorkerConfig
from pgprog.engine.passing import following
from pgprog.store.engine_store import EngineStore
from pgprog.store.rows import Position, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgprog.store.rows import Claims

SET_BACK = """
create or replace function pgprog_engine._now() returns timestamptz
language sql stable return statement_timestamp() - interval '1 hour';
create or replace function pgprog_engine._clock() returns timestamptz
language sql volatile return clock_timestamp() - interval '1 hour';
"""
LOSE = """
select pgprog_engine.claim(
  pgprog_engine.register_worker('dead', '{counters}', '{}', '10 s'), 1)"""
FIRST = Position(datetime.min.replace(tzinfo=UTC), 0)


class Passing:
    """A worker of PostgreSQL whose claims begin where the last one came to."""

    def __init__(self, store: EngineStore, worker_id: int) -> None:
        self.store = store
        self.since = FIRST
        self._worker_id = worker_id

    async def claim(self, limit: int = 10) -> list[str]:
        claims = await self.claimed(limit)
        return [task.process_id for task in claims.tasks]

    async def claimed(self, limit: int = 10) -> Claims:
        claims = await self.store.claim(self._worker_id, limit, held={}, since=self.since)
        self.since = following(claims, since=self.since)
        return claims


@pytest.fixture
async def passing(db: str) -> AsyncIterator[Passing]:
    store = EngineStore(db, name="test")
    serves = {"orders": Served(b"{}")}
    yield Passing(store, await store.register_worker("w", serves, timedelta(hours=1)))
    await store.close()


def init(connection: Any, process_id: str, *, more: str = "") -> None:
    connection.execute(f"select pgprog.init('orders', %s {more})", (process_id,))


async def finished(engine: Any, task_id: int) -> None:
    async with asyncio.timeout(8):
        while (await engine.result(task_id)).status != "finished":
            await asyncio.sleep(0.01)


async def test_what_was_asked_for_before_a_claim_and_is_committed_after_it_is_in_the_next(
    sql: Any, session: Any, passing: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._LATE", timedelta(minutes=1))
    other = session()
    with other.transaction():
        init(other, "late")
        init(sql, "early")
        assert await passing.claim() == ["early"]

    assert await passing.claim() == ["late"]


async def test_a_task_of_low_priority_has_no_claim_pass_by_what_is_asked_for_after_it(
    sql: Any, passing: Passing
) -> None:
    init(sql, "low", more=", priority => -5")
    assert await passing.claim() == ["low"]
    init(sql, "next")

    assert await passing.claim() == ["next"]


async def test_behind_the_last_of_many_of_low_priority_claims_come_back_to_the_present(
    sql: Any, passing: Passing
) -> None:
    for n in range(3):
        init(sql, f"low{n}", more=", priority => -5")
    assert len(await passing.claim(3)) == 3
    assert await passing.claim(3) == []
    init(sql, "next")

    assert await passing.claim() == ["next"]


async def test_a_claim_that_leaves_some_goes_on_behind_its_last(sql: Any, passing: Passing) -> None:
    for n in range(3):
        init(sql, f"low{n}", more=", priority => -5")
    first, second = await passing.claimed(1), await passing.claimed(1)

    places = [(claims.seen, claims.tasks[0].task_id) for claims in (first, second)]
    assert all(seen is not None and seen.task_id == task_id for seen, task_id in places)


async def test_a_look_says_what_waits_before_and_how_long_it_took_postgresql(
    sql: Any, passing: Passing
) -> None:
    passing.since = Position(datetime(2999, 1, 1, tzinfo=UTC), 0)
    assert (await passing.store.first_rank(passing.since))[0] is None
    init(sql, "before")
    rank, seconds = await passing.store.first_rank(passing.since)

    assert rank is not None
    assert 0 < seconds < 5
    claims = await passing.claimed()
    assert 0 < claims.seconds < 5


async def test_what_comes_to_wait_before_the_place_of_claims_is_run_though_polls_are_rare(
    make_engine: Any, counters: Namespace[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._SLOW_SECONDS", -1.0)  # whatever the time
    monkeypatch.setattr("pgprog.engine.passing._SLOW_SECONDS_OF_ONE", -1.0)
    worker = WorkerConfig(poll_every=timedelta(hours=1))
    async with make_engine(counters, worker=worker) as engine:
        await engine.init("counters", "busy")
        await engine.init("counters", "free")
        add = Request("call", "counters", "busy", {"amount": 1}, name="add")
        tasks = await engine.submit_many([add] * 120)  # three chains
        urgent = Request("call", "counters", "free", {"amount": 1}, name="add", priority=100)
        [first] = await engine.submit_many([urgent])

        assert await first.wait(timeout=5) == 1
        assert [await task.wait(timeout=5) for task in tasks] == [*range(1, 121)]


@pytest.mark.usefixtures("set_clock")  # it puts the clock right again
async def test_what_is_asked_for_after_the_clock_was_set_back_is_run_though_polls_are_rare(
    make_engine: Any, counters: Namespace[Any], sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._SLOW_SECONDS", -1.0)  # whatever the time
    monkeypatch.setattr("pgprog.engine.passing._SLOW_SECONDS_OF_ONE", -1.0)
    worker = WorkerConfig(poll_every=timedelta(hours=1))
    async with make_engine(counters, worker=worker) as engine:
        for name in ("busy", "free"):
            await engine.init("counters", name)
        add = Request("call", "counters", "busy", {"amount": 1}, name="add")
        tasks = await engine.submit_many([add] * 120)  # three chains
        sql.execute(SET_BACK)
        for number in (1, 2):
            call = "select pgprog.call('counters', 'free', '{\"amount\": 1}', name => 'add')"
            [[task_id]] = sql.execute(call).fetchall()
            sql.execute("notify pgprog_due, 'counters'")
            await finished(engine, task_id)
            assert (await engine.result(task_id)).response == number
        assert [await task.wait(timeout=5) for task in tasks] == [*range(1, 121)]


@pytest.mark.slow  # a lease ends
async def test_what_a_worker_takes_from_a_dead_one_it_claims_without_a_look(
    make_engine: Any, counters: Namespace[Any], sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant in ("_SLOW_SECONDS", "_SLOW_SECONDS_OF_ONE"):
        monkeypatch.setattr(f"pgprog.engine.passing.{constant}", -1.0)
    for constant in ("_SHORTEST_REST_SECONDS", "_LONGEST_REST_SECONDS"):
        monkeypatch.setattr(f"pgprog.engine.passing.{constant}", 3600.0)
    sql.execute("select pgprog_engine._create_namespace('counters', '{}')")
    [[lost]] = sql.execute("select pgprog.init('counters', 'lost')").fetchall()
    sql.execute(LOSE)
    beat, lease = timedelta(milliseconds=200), timedelta(seconds=1)
    worker = WorkerConfig(poll_every=timedelta(hours=1), lease=lease, heartbeat_every=beat)
    async with make_engine(counters, worker=worker) as engine:
        for name in ("first", "second", "third"):
            [[task_id]] = sql.execute("select pgprog.init('counters', %s)", (name,)).fetchall()
            sql.execute("notify pgprog_due, 'counters'")
            await finished(engine, task_id)
        assert (await engine.result(lost)).status == "running"
        await finished(engine, lost)
