"""Who cancels a request is obeyed, whatever it waits for, and no connection is lost by it."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import AsyncClient, Engine, Intent, Namespace, Step
from pgprog.client.cached_reads import CachedReads
from pgprog.config import CacheSettings, PoolConfig
from pgprog.store.pool import make_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable

TURNS = range(40)
# One that is cancelled in the turn in which it is made does not begin.
CLOSING_TURNS = range(1, 40, 2)
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


async def test_no_connection_is_lost_by_who_is_cancelled_while_it_returns_one(db: str) -> None:
    pool = make_pool(db, size=1, checkout_timeout=timedelta(seconds=10), name="pgprog test")

    async def use(times: int) -> None:
        for _ in range(times):
            async with pool.connection():
                pass

    async with pool:
        for turns in TURNS:
            others = asyncio.gather(use(9), use(9))  # they are in its way
            await cancelled(use(9), after=turns)
            await others


async def test_what_a_pool_does_by_itself_ends_when_cancelled_while_it_connects() -> None:
    """As at the end of asyncio.run, where nobody has closed it."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.setblocking(False)
        dsn = f"host=127.0.0.1 port={mute.getsockname()[1]}"
        pool = make_pool(dsn, size=1, checkout_timeout=timedelta(seconds=10), name="pgprog test")
        others = asyncio.all_tasks()
        await pool.open()
        connecting, _ = await asyncio.get_running_loop().sock_accept(mute)
        with connecting:
            at_work = asyncio.all_tasks() - others
            for task in at_work:
                task.cancel()
            _, left = await asyncio.wait(at_work, timeout=10)

    assert len(at_work) > 1
    assert not left


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


def tasks_beside() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if not task.done()}


async def closed(place: AsyncClient, *, cancel_after: int) -> bool:
    """Close a client, or an engine, and cancel that; return whether the end was as it was asked."""
    closing = asyncio.ensure_future(place.__aexit__(None, None, None))
    await turn(cancel_after)
    was_at_work = closing.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([closing])
    return closing.cancelled() is was_at_work


async def test_the_stop_of_an_engine_is_cancelled_at_any_turn_and_leaves_no_task(
    db: str, orders: Namespace[Any]
) -> None:
    beside, lost = tasks_beside(), []
    for turns in CLOSING_TURNS:
        engine = await Engine(db, [orders]).__aenter__()
        if not await closed(engine, cancel_after=turns):
            lost.append(turns)
        async with asyncio.timeout(10):
            while tasks_beside() - beside:
                await turn(1)

    assert lost == []


async def test_the_end_of_a_client_is_cancelled_at_any_turn_and_leaves_no_task(
    db: str, orders: Namespace[Any]
) -> None:
    async with Engine(db, [orders]):
        lost = []
        for turns in CLOSING_TURNS:
            client = await AsyncClient(db, pool=ONE).__aenter__()
            asking = asyncio.create_task(client.submit("call", "orders", f"o-{turns}"))
            await turn(3)
            if not await closed(client, cancel_after=turns):
                lost.append(turns)
            async with asyncio.timeout(10):
                await asyncio.wait([asking])
                asking.exception()
                while client._loops in asyncio.all_tasks():
                    await turn(1)

    assert lost == []


async def test_a_watch_and_a_wait_for_a_version_are_cancelled_at_any_turn(
    db: str, orders: Namespace[Any]
) -> None:
    cache = CacheSettings(enabled=True, max_lag=timedelta(seconds=30), wait=timedelta(seconds=5))
    async with Engine(db, [orders]) as engine, AsyncClient(db, cache={"orders": cache}) as client:
        await engine.init("orders", "o-1")
        process = await client.get("orders", "o-1")
        assert process is not None
        never = process.version + 1_000_000
        for turns in TURNS:
            following = client.watch("orders", "o-1")
            await anext(following)
            assert await cancelled(anext(following), after=turns)
            await cancelled(anext(client.watch("orders", "o-1")), after=turns)
            assert await cancelled(client.get("orders", "o-1", at_least=never), after=turns)
        async with asyncio.timeout(10):
            assert await client.get("orders", "o-1") is not None
        assert isinstance(client._cached, CachedReads)
        assert not client._cached.cache.watchers._calls
        assert not client._wakes._calls
