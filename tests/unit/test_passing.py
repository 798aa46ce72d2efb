"""Where claims begin to look, while an old snapshot keeps what has ended."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.claims import make_claim

from pgprog.engine.holdings import Holdings
from pgprog.engine.passing import Passing
from pgprog.errors import StoreUnavailable
from pgprog.store.rows import Claims, Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
MORNING = NOON - timedelta(hours=3)
SLOW, QUICK = 0.05, 0.001


class Looked:
    """A store whose looks take PostgreSQL so long, and find this."""

    def __init__(self) -> None:
        self.seconds = SLOW
        self.found: datetime | None = None
        self.error: Exception | None = None
        self.before: asyncio.Queue[Position] = asyncio.Queue()
        self.may_answer = asyncio.Event()

    async def first_rank(self, since: Position) -> tuple[datetime | None, float]:
        self.before.put_nowait(since)
        await self.may_answer.wait()
        self.may_answer.clear()
        if self.error is not None:
            raise self.error
        return self.found, self.seconds


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> Looked:
    monkeypatch.setattr("pgprog.engine.passing._SHORTEST_REST_SECONDS", 0)
    monkeypatch.setattr("pgprog.engine.passing._REST", 0)
    return Looked()


@pytest.fixture
def woken() -> asyncio.Event:
    """What says that the scanner is to claim again."""
    return asyncio.Event()


@pytest.fixture
def holdings() -> Holdings:
    """One step that runs."""
    holdings = Holdings(["orders"])
    holdings.add(make_claim(1), since=0)
    return holdings


@pytest.fixture
async def passing(
    store: Looked, holdings: Holdings, woken: asyncio.Event
) -> AsyncIterator[Passing]:
    fake: Any = store
    passing = Passing(fake, holdings=holdings, poll_seconds=3600, on_found=woken.set)
    running = asyncio.create_task(passing.run())
    yield passing
    passing.stop()
    store.may_answer.set()
    with contextlib.suppress(StoreUnavailable):
        await asyncio.wait_for(running, 5)


async def turns() -> None:
    """Let whoever rests in the loop go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def learn(passing: Passing, seen: Position | None, *, seconds: float = SLOW) -> None:
    """Tell of a claim of ten that began where it was told to."""
    claims = Claims([], 0.0, seen=seen, seconds=seconds)
    passing.learn(claims, since=passing.since, asked=10)


async def test_claims_that_are_quick_look_at_everything(passing: Passing) -> None:
    learn(passing, None, seconds=QUICK)

    assert passing.since is None


async def test_behind_a_claim_that_took_long_each_begins_where_the_last_one_has_come_to(
    passing: Passing,
) -> None:
    learn(passing, None)
    assert passing.since is not None  # the next looks at everything, too, and says how far it came
    assert passing.since.rank < MORNING

    learn(passing, Position(MORNING, 7))
    assert passing.since == (MORNING, 7)
    learn(passing, Position(NOON, 8), seconds=QUICK)
    assert passing.since == (NOON, 8)
    learn(passing, None, seconds=QUICK)  # found nothing
    assert passing.since == (NOON, 8)


async def test_a_claim_of_everything_that_is_quick_again_ends_the_passing_by(
    passing: Passing, store: Looked
) -> None:
    learn(passing, None)
    await turns()
    learn(passing, Position(NOON, 8), seconds=QUICK)
    assert passing.since is None
    await turns()

    learn(passing, None)  # and a slow one begins it again
    learn(passing, Position(NOON, 8))
    assert await asyncio.wait_for(store.before.get(), 5) == (NOON, 8)


async def test_a_great_claim_may_take_longer(passing: Passing) -> None:
    claims = Claims([], 0.0, seconds=SLOW)
    passing.learn(claims, since=None, asked=1000)
    assert passing.since is None

    passing.learn(claims, since=None, asked=100)
    assert passing.since is not None


async def test_claims_go_back_to_what_came_to_wait_before_them(
    passing: Passing, store: Looked
) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    store.found = MORNING
    assert await asyncio.wait_for(store.before.get(), 5) == (NOON, 8)
    in_flight = passing.since
    store.may_answer.set()
    await asyncio.wait_for(store.before.get(), 5)  # looks again: what it found is known

    assert passing.since == (MORNING, 0)
    late = Claims([], 0.0, seen=Position(NOON, 9))
    passing.learn(late, since=in_flight, asked=10)
    assert passing.since == (MORNING, 0)  # the claim in flight began behind it


async def test_a_look_that_was_quick_ends_the_passing_by(passing: Passing, store: Looked) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    store.seconds = QUICK
    await asyncio.wait_for(store.before.get(), 5)
    store.may_answer.set()
    while passing.since is not None:
        await asyncio.sleep(0)
    assert store.before.empty()  # it was not a second one that nobody answered in time

    learn(passing, None)  # and a slow claim begins it again
    learn(passing, Position(NOON, 8))
    assert await asyncio.wait_for(store.before.get(), 5)


async def test_after_a_look_that_failed_claims_look_at_everything(
    passing: Passing, store: Looked
) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    store.error = StoreUnavailable()
    await asyncio.wait_for(store.before.get(), 5)
    store.may_answer.set()
    while passing.since is not None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("seconds", [SLOW, QUICK])
async def test_what_a_look_has_found_is_claimed_at_once(
    passing: Passing, store: Looked, woken: asyncio.Event, seconds: float
) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    store.found, store.seconds = MORNING, seconds
    await asyncio.wait_for(store.before.get(), 5)
    assert not woken.is_set()
    store.may_answer.set()

    await asyncio.wait_for(woken.wait(), 5)


async def test_where_a_look_found_nothing_the_scanner_sleeps_on(
    passing: Passing, store: Looked, woken: asyncio.Event
) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    for _ in range(3):
        await asyncio.wait_for(store.before.get(), 5)
        store.may_answer.set()

    assert not woken.is_set()


async def test_after_a_look_that_failed_the_scanner_claims_at_once(
    passing: Passing, store: Looked, woken: asyncio.Event
) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    store.error = StoreUnavailable()
    store.may_answer.set()

    await asyncio.wait_for(woken.wait(), 5)
    assert passing.since is None


async def test_while_a_look_hangs_claims_look_at_everything(
    passing: Passing, store: Looked, woken: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._LONGEST_LOOK_SECONDS", 0.01)
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    await asyncio.wait_for(store.before.get(), 5)  # and is not answered

    await asyncio.wait_for(woken.wait(), 5)
    assert passing.since is None


class Hanging(Looked):
    """One whose looks are answered though nobody waits any more, as those of a lane are."""

    async def first_rank(self, since: Position) -> tuple[datetime | None, float]:
        return await asyncio.shield(asyncio.ensure_future(super().first_rank(since)))


async def test_while_a_look_hangs_no_other_queues_behind_it(
    store: Looked, holdings: Holdings, woken: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._LONGEST_LOOK_SECONDS", 0.01)
    hanging: Any = Hanging()
    passing = Passing(hanging, holdings=holdings, poll_seconds=3600, on_found=woken.set)
    running = asyncio.create_task(passing.run())
    for _ in range(3):
        woken.clear()
        learn(passing, None)
        learn(passing, Position(NOON, 8))
        passing.wake()
        await asyncio.wait_for(woken.wait(), 5)
    asked = hanging.before.qsize()
    monkeypatch.setattr("pgprog.engine.passing._LONGEST_LOOK_SECONDS", 3600)
    learn(passing, None)
    learn(passing, Position(NOON, 9))
    hanging.may_answer.set()
    next_one = [await asyncio.wait_for(hanging.before.get(), 5) for _ in range(2)]
    running.cancel()

    assert asked == 1
    assert next_one == [(NOON, 8), (NOON, 9)]


async def test_an_idle_worker_looks_when_something_was_made_due(
    passing: Passing, store: Looked, holdings: Holdings
) -> None:
    holdings.drop()
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    await asyncio.wait_for(store.before.get(), 5)
    store.may_answer.set()
    await turns()
    assert store.before.empty()  # it polls in an hour

    passing.wake()
    assert await asyncio.wait_for(store.before.get(), 5) == (NOON, 8)


async def test_what_was_made_due_during_a_look_is_looked_for_by_the_next(
    passing: Passing, store: Looked, holdings: Holdings
) -> None:
    holdings.drop()
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    await asyncio.wait_for(store.before.get(), 5)
    passing.wake()
    store.may_answer.set()

    assert await asyncio.wait_for(store.before.get(), 5) == (NOON, 8)


async def test_an_idle_worker_that_begins_to_pass_by_again_looks_without_being_told(
    passing: Passing, store: Looked, holdings: Holdings
) -> None:
    holdings.drop()
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    store.seconds = QUICK
    await asyncio.wait_for(store.before.get(), 5)
    store.may_answer.set()
    while passing.since is not None:
        await asyncio.sleep(0)
    await turns()

    learn(passing, None)
    learn(passing, Position(NOON, 8))
    assert await asyncio.wait_for(store.before.get(), 5) == (NOON, 8)


async def test_after_a_look_that_took_very_long_there_is_another_soon(
    passing: Passing, store: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._REST", 4)
    monkeypatch.setattr("pgprog.engine.passing._LONGEST_REST_SECONDS", 0.01)
    store.seconds = 1000
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    await asyncio.wait_for(store.before.get(), 5)
    store.may_answer.set()

    assert await asyncio.wait_for(store.before.get(), 5) == (NOON, 8)


async def test_what_was_handed_back_is_not_looked_for_but_claimed(
    passing: Passing, store: Looked
) -> None:
    learn(passing, None)
    learn(passing, Position(NOON, 8))
    await asyncio.wait_for(store.before.get(), 5)
    passing.go_back()
    assert passing.since is None
    store.found = NOON  # before it was handed back
    store.may_answer.set()
    await turns()

    assert passing.since is None
