"""A deploy changes the code: processes go on from what the old code stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pgprog import Intent, Namespace, PermanentError, SetTimer, Step
from pgprog.errors import ProcessInError, StepFailed

SOON = timedelta(milliseconds=1)
LATER = timedelta(hours=1)


def first_release() -> Namespace[Any]:
    """States are {"cents": n}, events {"paid_cents": n}."""
    namespace = Namespace("orders")

    @namespace.init
    def open_order(step: Step[Any], cents: int) -> Intent[Any]:
        timers = [SetTimer(after=LATER, name="expiry")]
        return Intent(state={"cents": cents}, events=[{"paid_cents": 0}], timers=timers)

    @namespace.call
    def pay(step: Step[Any], cents: int) -> Intent[Any, int]:
        left = step.state["cents"] - cents
        return Intent(state={"cents": left}, events=[{"paid_cents": cents}], response=left)

    @namespace.call
    def fail(step: Step[Any]) -> None:
        raise PermanentError

    return namespace


@dataclass(frozen=True)
class Order:
    due: Decimal
    is_expired: bool = False


def second_release() -> Namespace[Order]:
    """States are Orders, events {"paid": amount}."""
    namespace = Namespace("orders", state=Order, state_version=2)

    @namespace.upcast(from_version=1)
    def to_order(state: dict[str, Any]) -> Order:
        return Order(due=Decimal(state["cents"]) / 100)

    @namespace.upcast_event(from_version=1)
    def to_amount(payload: dict[str, Any]) -> dict[str, Any]:
        return {"paid": str(Decimal(payload["paid_cents"]) / 100)}

    @namespace.call
    async def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
        order = replace(step.state, due=step.state.due - amount)
        return Intent(state=order, events=[{"paid": str(amount)}], response=order.due)

    @namespace.call
    async def note(step: Step[Order]) -> Intent[Order]:
        return Intent(events=[{"paid": "0"}])

    @namespace.call
    async def look(step: Step[Order]) -> Intent[Order, Any]:
        return Intent(response=[event.payload for event in await step.history()])

    @namespace.call
    def look_back(step: Step[Order]) -> Intent[Order, Any]:
        return Intent(response=[event.payload for event in step.history(direction="backward")])

    @namespace.timeout("expiry")
    def expire(step: Step[Order]) -> Intent[Order]:
        return Intent(state=replace(step.state, is_expired=True))

    @namespace.repair
    def mend(step: Step[Order]) -> Intent[Order, Decimal]:
        return Intent(state=step.state, response=step.state.due)

    return namespace


@pytest.fixture
async def deployed(make_engine: Any) -> None:
    """An order that the first release has left: 7.50 of 10.00 is due, two events."""
    async with make_engine(first_release()) as engine:
        await engine.init("orders", "o-1", {"cents": 1000})
        assert await engine.call("orders", "o-1", {"cents": 250}, name="pay") == 750


@pytest.mark.usefixtures("deployed")
async def test_a_call_goes_on_from_the_state_of_the_release_before(make_engine: Any) -> None:
    orders = second_release()
    async with make_engine(orders) as engine:
        before = await engine.get(orders, "o-1")
        left = await engine.call("orders", "o-1", {"amount": "0.5"}, name="pay")
        after = await engine.get("orders", "o-1")

    assert (before.state, before.state_version) == (Order(due=Decimal("7.5")), 2)
    assert left == "7.0"
    assert (after.state, after.state_version) == ({"due": "7.0", "is_expired": False}, 2)


@pytest.mark.usefixtures("deployed")
async def test_a_timer_goes_on_from_the_state_of_the_release_before(
    make_engine: Any, sql: Any
) -> None:
    orders = second_release()
    sql.execute("update pgprog_data.timers set due_at = now()")
    async with make_engine(orders) as engine:
        while not (found := await engine.get(orders, "o-1")).state.is_expired:
            await asyncio.sleep(0.01)

    assert found.state == Order(due=Decimal("7.5"), is_expired=True)


async def test_a_repair_goes_on_from_the_state_of_the_release_before(make_engine: Any) -> None:
    async with make_engine(first_release()) as engine:
        await engine.init("orders", "o-1", {"cents": 1000})
        with pytest.raises(StepFailed):
            await engine.call("orders", "o-1", name="fail")
    async with make_engine(second_release()) as engine:
        with pytest.raises(ProcessInError):
            await engine.call("orders", "o-1", {"amount": "1"}, name="pay")
        due = await engine.repair("orders", "o-1")
        left = await engine.call("orders", "o-1", {"amount": "1"}, name="pay")

    assert (due, left) == ("10", "9")


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("preload", [0, 1, "full"])
async def test_events_of_the_release_before_are_upcast_in_steps_and_in_typed_reads(
    make_engine: Any, sql: Any, preload: Any
) -> None:
    sql.execute(
        "update pgprog_data.namespaces set settings = settings || %s",
        (Jsonb({"history": preload}),),
    )
    orders = second_release()
    async with make_engine(orders) as engine:
        await engine.call("orders", "o-1", {"amount": "0.5"}, name="pay")
        seen = await engine.call("orders", "o-1", name="look")
        back = await engine.call("orders", "o-1", name="look_back")
        typed = await engine.history(orders, "o-1")
        got = await engine.get(orders, "o-1", max_events=10)
        plain = await engine.history("orders", "o-1")

    assert seen == [{"paid": "0"}, {"paid": "2.5"}, {"paid": "0.5"}]
    assert back == seen[::-1]
    assert [(event.payload, event.state_version) for event in typed] == [(one, 2) for one in seen]
    assert got.history == tuple(typed)
    assert [(event.payload, event.state_version) for event in plain] == [
        ({"paid_cents": 0}, 1),
        ({"paid_cents": 250}, 1),
        ({"paid": "0.5"}, 2),
    ]


@pytest.mark.usefixtures("deployed")
async def test_newer_events_take_their_process_away_from_old_workers_with_the_state_unchanged(
    make_engine: Any,
) -> None:
    async with make_engine(second_release()) as engine:
        await engine.call("orders", "o-1", name="look")
        untouched = await engine.get("orders", "o-1")
        await engine.call("orders", "o-1", name="note")
        noted = await engine.get("orders", "o-1")

    assert (untouched.state, untouched.state_version) == ({"cents": 750}, 1)
    assert (noted.state, noted.state_version) == ({"due": "7.5", "is_expired": False}, 2)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("is_typed", [True, False])
async def test_a_process_of_the_release_before_can_be_moved(
    make_engine: Any, is_typed: bool
) -> None:
    orders = second_release()
    async with make_engine(orders) as engine:
        found = await engine.get(orders if is_typed else "orders", "o-1", max_events=10)
        await engine.remove("orders", "o-1")
        await engine.put(found)
        moved = await engine.get(orders, "o-1", max_events=10)
        left = await engine.call("orders", "o-1", {"amount": "0.5"}, name="pay")

    assert moved.state == Order(due=Decimal("7.5"))
    assert [event.payload for event in moved.history] == [{"paid": "0"}, {"paid": "2.5"}]
    assert left == "7.0"


async def test_old_and_new_workers_serve_side_by_side(make_engine: Any) -> None:
    old, new = first_release(), second_release()
    async with make_engine(old) as first:
        await first.init("orders", "o-1", {"cents": 1000})
        await first.init("orders", "o-2", {"cents": 1000})
        async with make_engine(new) as second:
            assert await second.call("orders", "o-2", {"amount": "1"}, name="pay", timeout=5) == "9"
            # Asked of the old engine, which cannot start it, and done by the new one.
            assert await first.call("orders", "o-2", {"amount": "1"}, name="pay", timeout=5) == "8"
        await first.submit("call", "orders", "o-2", {"amount": "1"}, name="pay")
        assert await first.call("orders", "o-1", {"cents": 1}, name="pay") == 999
        reason = await first.explain("orders", "o-2")

    assert reason.sentence.startswith("no live worker serves namespace orders at version 2")
    assert not reason.is_runnable
