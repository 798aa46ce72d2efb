"""When the scanner looks again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.engine.holdings import Holdings
from pgprog.engine.scanner import Scanner
from pgprog.store.rows import Claims

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SlowStore:
    """Answers the first claim when it is let, the others at once: nothing is due for an hour."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.asked_again = asyncio.Event()

    async def claim(self, worker_id: int, max_tasks: int) -> Claims:
        if self.asked.is_set():
            self.asked_again.set()
        self.asked.set()
        await self.answer.wait()
        return Claims([], 3600.0)


class Free:
    """A lease that is held and a runner with room."""

    worker_id = 1
    room = 10

    async def wait(self) -> None:
        return


class Settings:
    """Settings that stay as they are."""

    async def follow(self, version: int) -> None:
        return


class NoLease(Free):
    """A lease that is not held yet."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.held = asyncio.Event()

    async def wait(self) -> None:
        self.asked.set()
        await self.held.wait()


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


@pytest.fixture
async def scanner(store: SlowStore, holdings: Holdings) -> AsyncIterator[Scanner]:
    """A scanner whose first claim is in flight."""
    free: Any = Free()
    fake: Any = store
    parts = {"lease": free, "runner": free, "holdings": holdings, "settings": Settings()}
    scanner = Scanner(fake, **parts, poll_every=timedelta(hours=1))
    scanning = asyncio.create_task(scanner.run())
    await store.asked.wait()
    yield scanner
    scanning.cancel()


async def test_what_comes_due_while_a_claim_is_in_flight_is_looked_for(
    scanner: Scanner, store: SlowStore
) -> None:
    scanner.due_in(0.01)
    store.answer.set()

    await asyncio.wait_for(store.asked_again.wait(), 5)


async def test_a_wake_while_a_claim_is_in_flight_is_not_lost(
    scanner: Scanner, store: SlowStore
) -> None:
    scanner.wake()
    store.answer.set()

    await asyncio.wait_for(store.asked_again.wait(), 5)


async def test_a_claim_in_flight_is_a_trip(
    scanner: Scanner, store: SlowStore, holdings: Holdings
) -> None:
    asking = asyncio.create_task(holdings.strangers([(7, 7)]))
    await asyncio.sleep(0)
    assert not asking.done()

    store.answer.set()
    assert await asyncio.wait_for(asking, 5) == [(7, 7)]


async def test_nothing_is_claimed_without_a_lease(store: SlowStore, holdings: Holdings) -> None:
    lease, free, fake = NoLease(), Free(), store
    parts: Any = {"lease": lease, "runner": free, "holdings": holdings, "settings": Settings()}
    scanner = Scanner(fake, **parts, poll_every=timedelta(hours=1))  # type: ignore[arg-type] # a fake
    scanning = asyncio.create_task(scanner.run())
    await asyncio.wait_for(lease.asked.wait(), 5)
    await asyncio.sleep(0)
    assert not store.asked.is_set()

    lease.held.set()
    await asyncio.wait_for(store.asked.wait(), 5)
    scanning.cancel()
