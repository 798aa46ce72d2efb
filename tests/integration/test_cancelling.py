"""Who cancels a request is obeyed, whatever it waits for, and no connection is lost by it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import AsyncClient, Engine, Intent, Namespace, Step
from pgprog.config import PoolConfig
from pgprog.store.pool import make_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable

TURNS = range(40)
ONE = PoolConfig(api=1, transactions=1, checkout_timeout=timedelta(seconds=10))


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def cancelled(work: Awaitable[object], *, after: int) -> bool:
    """Cancel work after so many turns of the loop; return whether it was still at work."""
    task = asyncio.ensure_future(work)
    await turn(after)
    was_at_work = task.cancel()
    if was_at_work:
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await task
    else:
        task.result()
    return was_at_work


async def test_a_cancellation_that_comes_with_a_connection_of_a_full_pool_is_obeyed(
    db: str,
) -> None:
    pool = make_pool(db, size=1, checkout_timeout=timedelta(seconds=10), name="pgprog test")
    async with pool:
        for turns in TURNS:
            held = await pool.getconn()
            waiting = asyncio.ensure_future(pool.getconn())
            await turn(10)
            handing_over = asyncio.ensure_future(pool.putconn(held))
            if not await cancelled(waiting, after=turns):
                await pool.putconn(waiting.result())
            await handing_over


@pytest.fixture
def orders() -> Namespace[Any]:
    orders = Namespace("orders")

    @orders.processor
    async def serve(step: Step[Any]) -> Intent[Any, Any]:
        if step.name == "note":
            async with step.transaction() as connection:
                await connection.execute("select 1")
        return Intent(state=1, response=1)

    return orders


async def test_a_request_that_is_cancelled_at_any_turn_ends_and_leaves_the_client_whole(
    db: str, orders: Namespace[Any]
) -> None:
    async with Engine(db, [orders]) as engine, AsyncClient(db, pool=ONE) as client:
        await engine.init("orders", "o-1")
        for turns in TURNS:
            await cancelled(client.get("orders", "o-1"), after=turns)
            await cancelled(client.call("orders", "o-1"), after=turns)
            await cancelled(client.history("orders", "o-1"), after=turns)
            await cancelled(engine.call("orders", "o-1", name="note"), after=turns)
        async with asyncio.timeout(10):
            assert await client.get("orders", "o-1") is not None
            assert await client.call("orders", "o-1") == 1
            assert await engine.call("orders", "o-1", name="note") == 1
