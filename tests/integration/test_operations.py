"""Repairs, imports and removals by the clients, and what a critical error does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import until_on_loop

from pgprog import CriticalError, Engine, Event, Intent, Namespace, PermanentError, SetTimer, Step
from pgprog.client import reads
from pgprog.config import WorkerConfig
from pgprog.errors import (
    ConfigError,
    ProcessExists,
    ProcessNotFound,
    ProcessNotInError,
    QueueFull,
    StepFailed,
    TaskCancelled,
)

if TYPE_CHECKING:
    import psycopg


@pytest.fixture
def shop() -> Namespace[Any]:
    """Processes whose notify fails until its world is mended; *mended* says that it is."""
    namespace = Namespace("shop", retry={"max_attempts": 1})

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        far = SetTimer(after=timedelta(days=1), name="far")
        return Intent(state={"stock": 1}, events=["began"], timers=[far], metadata={"by": "test"})

    @namespace.notify
    async def ship(step: Step[Any], mended: bool = False) -> Intent[Any]:
        if not mended and step.state["stock"] == 1:
            raise PermanentError("the world is broken")
        return Intent(state={"stock": 0}, events=["shipped"])

    @namespace.call
    async def burn(step: Step[Any]) -> None:
        raise CriticalError("the shop is on fire")

    @namespace.repair
    async def mend(step: Step[Any], stock: int) -> Intent[Any, str]:
        if stock < 0:
            raise PermanentError("no such stock")
        return Intent(state={"stock": stock}, events=["mended"], response="mended")

    return namespace


async def break_it(engine: Engine) -> None:
    task = await engine.notify("shop", "s", name="ship")
    with pytest.raises(StepFailed):
        await task.wait(timeout=5)


async def test_a_repair_makes_the_process_running_and_a_failing_one_changes_nothing(
    make_engine: Any, shop: Namespace[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        await break_it(engine)
        broken = await engine.get("shop", "s")
        with pytest.raises(StepFailed, match="no such stock"):
            await engine.repair("shop", "s", {"stock": -1})
        assert await engine.get("shop", "s") == broken

        assert await engine.repair("shop", "s", {"stock": 5}) == "mended"
        process = await engine.get("shop", "s")
        with pytest.raises(ProcessNotInError):
            await engine.repair("shop", "s", {"stock": 6})

    assert (process.status, process.detail, process.corrupted_by) == ("running", None, None)
    assert [*process.timers] == ["far"]


async def test_a_simple_repair_tries_again_what_failed(
    make_engine: Any, shop: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        await break_it(engine)
        sql.execute("""update pgprog_data.processes set state = '{"stock": 2}'""")
        task = await engine.simple_repair("shop", "s")
        assert task is not None
        await task.wait(timeout=5)
        process = await engine.get("shop", "s")

    assert (process.status, process.state) == ("running", {"stock": 0})


async def test_a_process_that_was_got_can_be_put_and_is_the_same(
    make_engine: Any, shop: Namespace[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        first = await engine.get("shop", "s", max_events=100)
        with pytest.raises(ProcessExists):
            await engine.put(first)
        assert await engine.remove("shop", "s", version=first.version)
        assert not await engine.remove("shop", "s", version=first.version)

        version = await engine.put(first, idempotency_key="once")
        again = await engine.put(first, idempotency_key="once")
        second = await engine.get("shop", "s", max_events=100)

    assert version == again == second.version > first.version
    assert second.history[0] == Event(
        "began",
        event_id=1,
        at=first.history[0].at,
        task_id=first.history[0].task_id,
        state_version=1,
    )
    assert (second.state, second.timers, second.metadata) == (
        first.state,
        first.timers,
        first.metadata,
    )


async def test_decimals_of_plain_json_are_numbers_when_they_are_put(make_engine: Any) -> None:
    exact = Namespace[Any]("exact", numbers="decimal")

    @exact.init
    async def begin(step: Step[Any], price: Decimal) -> Intent[Any]:
        return Intent(state={"price": price}, events=[{"price": price}], metadata={"price": price})

    async with make_engine(exact) as engine:
        await engine.init("exact", "e", {"price": Decimal("1.50")})
        first = await engine.get(exact, "e", max_events=1)
        await engine.put(replace(first, process_id="f"))
        second = await engine.get(exact, "f", max_events=1)

    price = {"price": Decimal("1.50")}
    assert [second.state, second.metadata, second.history[0].payload] == [price] * 3


async def test_removing_a_process_tells_those_who_wait(
    make_engine: Any, shop: Namespace[Any]
) -> None:
    gate = asyncio.Event()

    @shop.call
    async def linger(step: Step[Any]) -> None:
        gate.set()
        await asyncio.Event().wait()

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        task = await engine.submit("call", "shop", "s", name="linger")
        await asyncio.wait_for(gate.wait(), 5)
        await engine.remove("shop", "s")

        with pytest.raises(TaskCancelled, match="removed"):
            await task.wait(timeout=5)


@pytest.mark.parametrize("direction", ["forward", "backward"])
async def test_events_are_read_page_by_page_to_their_end(
    make_engine: Any, counters: Namespace[Any], monkeypatch: pytest.MonkeyPatch, direction: Any
) -> None:
    monkeypatch.setattr(reads, "_PAGE", 2)
    async with make_engine(counters) as engine:
        await live(engine, steps=4)
        events = [each async for each in engine.events("counters", "c", direction=direction)]
        whole = await engine.history("counters", "c", direction=direction)

    assert events == whole
    assert len(events) == 5


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("steps", [0, 4])
async def test_events_of_two_incarnations_are_never_given_as_one_history(
    make_engine: Any,
    counters: Namespace[Any],
    monkeypatch: pytest.MonkeyPatch,
    direction: Any,
    steps: int,
) -> None:
    monkeypatch.setattr(reads, "_PAGE", 2)
    async with make_engine(counters) as engine:
        await live(engine, steps=4)
        events = engine.events("counters", "c", direction=direction)
        first = [await anext(events), await anext(events)]
        await engine.remove("counters", "c")
        await live(engine, steps=steps)
        with pytest.raises(ProcessNotFound, match="process c in namespace counters was removed"):
            await anext(events)

    assert [each.event_id for each in first] == ([1, 2] if direction == "forward" else [5, 4])


def test_a_blocking_client_gives_no_events_of_two_incarnations_either(
    make_engine: Any, counters: Namespace[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_PAGE", 2)
    with make_engine(counters) as engine:
        histories = []
        ids: list[int | None] = []
        for _ in range(2):
            engine.remove("counters", "c")
            engine.init("counters", "c")
            for _ in range(4):
                engine.call("counters", "c", {"amount": 1}, name="add")
            histories.append(engine.events("counters", "c"))
            ids += [next(histories[-1]).event_id for _ in range(2)]
        with pytest.raises(ProcessNotFound):
            next(histories[0])
        rest = [event.event_id for event in histories[1]]

    assert (ids, rest) == ([1, 2, 1, 2], [3, 4, 5])


async def live(engine: Engine, *, steps: int) -> None:
    await engine.init("counters", "c")
    for _ in range(steps):
        await engine.call("counters", "c", {"amount": 1}, name="add")


async def test_a_critical_error_pauses_its_namespace_with_the_reason(
    make_engine: Any, shop: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        with pytest.raises(StepFailed, match="on fire"):
            await engine.call("shop", "s", name="burn")
        waiting = await engine.submit("init", "shop", "t")
        paused = sql.execute("select pause_reason from pgprog.namespaces").fetchall()
        assert str((await engine.result(waiting.task_id)).status) == "waiting"
        sql.execute("select pgprog.resume('shop')")
        await waiting.wait(timeout=5)

    assert paused == [("the shop is on fire",)]


async def test_a_full_queue_refuses_requests_and_says_how_full_it_is(
    make_engine: Any, db: str
) -> None:
    small = Namespace("small", max_queue=5, step_timeout="1m")
    gate = asyncio.Event()

    @small.init
    async def begin(step: Step[Any]) -> None:
        await gate.wait()

    async def fill(engine: Engine) -> None:
        number = 0
        while True:
            number += 1
            await engine.submit("init", "small", f"s{number}")

    async with make_engine(small) as engine:
        with pytest.raises(QueueFull, match="5"):
            await asyncio.wait_for(fill(engine), 20)
        gate.set()


async def test_an_engine_keeps_keys_as_long_as_it_is_told(
    db: str, make_engine: Any, shop: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(shop) as engine:
        for days in (10, 40):
            await engine.init("shop", f"s-{days}", idempotency_key=f"of {days} days")
            sql.execute(
                "update pgprog_data.keys set created_at = now() - make_interval(days => %s)"
                " where key = %s",
                (days, f"of {days} days"),
            )

    keys = "select key from pgprog_data.keys order by key"
    async with Engine(db, [shop], key_ttl="20d"):
        await until_on_loop(lambda: len(sql.execute(keys).fetchall()) < 2)
        kept = sql.execute(keys).fetchall()

    assert kept == [("of 10 days",)]


def test_what_an_engine_is_given_out_of_range_is_refused_by_its_path(db: str) -> None:
    faulty = WorkerConfig(concurrency=0)
    with pytest.raises(ConfigError, match=r"worker\.concurrency: 0 is not[^$]*key_ttl: -1d is not"):
        Engine(db, [], worker=faulty, key_ttl=timedelta(days=-1))
