"""When the scanner looks again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.claims import make_claim

from pgprog.engine.holdings import Holdings
from pgprog.engine.scanner import Scanner
from pgprog.errors import StoreUnavailable
from pgprog.metrics import Metrics
from pgprog.store.rows import Claims, Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from pgprog.engine.holdings import Held

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
MORNING = NOON - timedelta(hours=3)


class SlowStore:
    """Answers the first claim when it is let, the others at once: nothing is due for an hour."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.asked_again = asyncio.Event()

    async def claim(
        self,
        worker_id: int,
        max_tasks: int,
        *,
        held: Mapping[str, int],
        most: int | None = None,
        **_: Any,
    ) -> Claims:
        self.held, self.most = held, most
        if self.asked.is_set():
            self.asked_again.set()
        self.asked.set()
        await self.answer.wait()
        return Claims([], 3600.0)


class Free:
    """A lease that is held and a runner with room."""

    worker_id = 1
    room = turns = 10
    places = waiting = 0
    full: Collection[str] = ()

    async def wait(self) -> None:
        return

    def give_back_waiting(self) -> None:
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
    return Holdings(["crowd", "quiet"])


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


class PassedBy:
    """Has ended rows that make claims slow, and one that waits before where they begin."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.waits = asyncio.Event()
        self.found = asyncio.Event()

    async def claim(
        self, worker_id: int, max_tasks: int, *, since: Position | None, **_: Any
    ) -> Claims:
        if since is None:
            return Claims([], 0.0, seconds=0.05)
        if since.rank < MORNING:
            return Claims([], 0.0, seen=Position(NOON, 7), seconds=0.05)
        (self.found if since.rank == MORNING else self.waits).set()
        return Claims([], 3600.0, seen=since)

    async def first_rank(self, since: Position) -> tuple[datetime, float]:
        await self.waits.wait()
        return MORNING, 0.05


async def test_what_is_found_before_the_place_where_claims_begin_is_claimed_at_once(
    holdings: Holdings,
) -> None:
    free: Any = Free()
    store: Any = PassedBy()
    parts = {"lease": free, "runner": free, "holdings": holdings, "settings": Settings()}
    scanner = Scanner(store, **parts, poll_every=timedelta(hours=1))
    scanning = asyncio.create_task(scanner.run())

    await asyncio.wait_for(store.found.wait(), 5)
    scanning.cancel()


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


class Stuck(Free):
    """A runner without room, which is asked to give back what waits."""

    room = 0

    def __init__(self) -> None:
        self.gave_back = asyncio.Event()

    def give_back_waiting(self) -> None:
        self.gave_back.set()


async def test_what_waits_for_a_place_while_no_step_ends_is_given_back(
    store: SlowStore, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.scanner.STUCK_SECONDS", 0)
    stuck: Any = Stuck()
    fake: Any = store
    parts = {"lease": stuck, "runner": stuck, "holdings": holdings, "settings": Settings()}
    scanning = asyncio.create_task(Scanner(fake, **parts, poll_every=timedelta(hours=1)).run())
    await asyncio.wait_for(stuck.gave_back.wait(), 5)
    scanning.cancel()

    assert not store.asked.is_set()


class Filled(Stuck):
    """A runner that has room until something was claimed."""

    room = 10
    waiting = 1


async def test_what_waits_for_a_place_after_a_claim_that_left_nothing_is_given_back_soon(
    store: SlowStore, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.scanner.STUCK_SECONDS", 0.001)
    filled: Any = Filled()
    fake: Any = store
    parts = {"lease": filled, "runner": filled, "holdings": holdings, "settings": Settings()}
    scanning = asyncio.create_task(Scanner(fake, **parts, poll_every=timedelta(hours=1)).run())
    await store.asked.wait()
    filled.room = 0
    store.answer.set()
    await asyncio.wait_for(filled.gave_back.wait(), 5)
    scanning.cancel()


async def test_what_waits_for_a_place_is_given_back_when_the_scanner_stops(
    store: SlowStore, holdings: Holdings
) -> None:
    filled: Any = Filled()
    fake: Any = store
    parts = {"lease": filled, "runner": filled, "holdings": holdings, "settings": Settings()}
    scanner = Scanner(fake, **parts, poll_every=timedelta(hours=1))
    scanning = asyncio.create_task(scanner.run())
    await store.asked.wait()
    scanner.stop()
    store.answer.set()
    await asyncio.wait_for(scanning, 5)

    assert filled.gave_back.is_set()


async def test_of_namespaces_whose_steps_would_wait_for_a_child_nothing_is_claimed(
    store: SlowStore, holdings: Holdings
) -> None:
    parts: Any = {"lease": Free(), "runner": Free(), "settings": Settings()}
    parts["runner"].full = ["crowd"]
    fake: Any = store
    scanner = Scanner(fake, **parts, holdings=holdings, poll_every=timedelta(hours=1))
    scanning = asyncio.create_task(scanner.run())
    await store.asked.wait()
    scanning.cancel()

    assert store.most is not None
    assert store.held["crowd"] >= store.most > store.held.get("quiet", 0)


class BusyStore:
    """Keeps the first claim in flight, and answers those for few at once, with one task in all."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.busy = asyncio.Event()
        self.left = [make_claim(1000, namespace="quiet")]
        self.held: list[dict[str, int]] = []
        self.is_lost = False

    async def claim(
        self,
        worker_id: int,
        max_tasks: int,
        *,
        held: Mapping[str, int],
        most: int | None,
        since: Position | None,
    ) -> Claims:
        if most is None:
            self.busy.set()
            await asyncio.Event().wait()
        self.held.append({name: count for name, count in held.items() if count >= (most or 0)})
        if self.is_lost:
            raise StoreUnavailable
        tasks, self.left = self.left, []
        return Claims(tasks, 3600.0)


class Taking(Free):
    """A runner that says what it took, and a lease that says that it is renewed."""

    def __init__(self) -> None:
        self.took: asyncio.Queue[int] = asyncio.Queue()
        self.renewed = asyncio.Event()

    def renew_now(self) -> None:
        self.renewed.set()

    def take(self, held: Held) -> None:
        self.took.put_nowait(held.claimed.claim_id)


@pytest.fixture
async def beside(holdings: Holdings) -> AsyncIterator[tuple[Scanner, BusyStore, Taking]]:
    """A scanner whose claim is in flight while a hundred steps of a neighbour are held."""
    for claim_id in range(100):
        holdings.add(make_claim(claim_id, namespace="crowd"), since=0)
    store, taking = BusyStore(), Taking()
    fake: Any = store
    parts: Any = {"lease": taking, "runner": taking, "holdings": holdings, "settings": Settings()}
    scanner = Scanner(fake, **parts, poll_every=timedelta(hours=1))
    scanning = asyncio.create_task(scanner.run())
    await store.busy.wait()
    yield scanner, store, taking
    scanning.cancel()


async def test_a_namespace_without_steps_does_not_wait_for_the_claim_of_a_neighbour(
    beside: tuple[Scanner, BusyStore, Taking],
) -> None:
    scanner, store, taking = beside

    scanner.wake()

    assert await asyncio.wait_for(taking.took.get(), 5) == 1000
    assert store.held == [{"crowd": 100}]


async def test_a_worker_of_one_namespace_claims_for_no_few(holdings: Holdings) -> None:
    alone = Holdings(["crowd"])
    for claim_id in range(100):
        for each in (alone, holdings):
            each.add(make_claim(claim_id, namespace="crowd"), since=0)

    assert (alone.few, holdings.few) == (0, 12)


async def test_a_claim_for_few_whose_answer_is_lost_renews_the_lease_at_once(
    beside: tuple[Scanner, BusyStore, Taking],
) -> None:
    scanner, store, taking = beside
    store.is_lost = True

    scanner.wake()

    await asyncio.wait_for(taking.renewed.wait(), 5)
