"""Completions, until each has its outcome."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.claims import make_claim

from pgprog import Namespace
from pgprog.engine import completer as module
from pgprog.engine.completer import Completer
from pgprog.engine.holdings import Holdings
from pgprog.errors import StoreUnavailable
from pgprog.metrics import Metrics
from pgprog.store.faults import DataFault, RolledBack, Unforeseen
from pgprog.store.rows import Completed, Completion, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pgprog.store.rows import Claimed


class World:
    """The store, the worker and the lease of a completer.

    *answer* says what becomes of a claim, or raises; *batches* are the claims of each round trip.
    """

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.completions = 3
        self.worker_id = 1
        self.answer: Callable[[int], str] = lambda _: "done"
        self.batches: list[list[int]] = []
        self.chains: list[bool] = []
        self.told: dict[int, Outcome] = {}
        self.renewals = 0
        self.crashes: list[int] = []
        self.gone_on: list[int] = []
        self.due_in_seconds: list[float] = []
        self.next_: Claimed | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.holdings = Holdings(["shop", "stock"])
        everything: Any = self
        names = {name: Namespace[Any](name) for name in ("shop", "stock")}
        self.completer = Completer(
            names, store=everything, holdings=self.holdings, lease=everything, owner=everything
        )

    def add(self, claim_id: int, *, chained: int = 0, **values: Any) -> None:
        held = self.holdings.add(make_claim(claim_id, **values), since=0)
        held.chained = chained
        self.completer.add(held, Completion(held.claimed, Outcome.FINISHED))

    async def settle(self) -> None:
        async with asyncio.timeout(5):
            await self.completer.wait_idle()

    async def complete(
        self, worker_id: int, batch: Sequence[Completion], *, chains: Sequence[bool], lane: str
    ) -> list[Completed]:
        ids = [completion.claimed.claim_id for completion in batch]
        self.batches.append(ids)
        if lane == "few":
            return [Completed("done", 7, None) for _ in ids]
        self.chains += chains
        await self.open.wait()
        await asyncio.sleep(0)
        return [Completed(self.answer(claim_id), 7, self.next_) for claim_id in ids]

    def may_chain(self) -> bool:
        return True

    def go_on(self, held: Any) -> None:
        self.gone_on.append(held.claimed.claim_id)

    def tell(self, claimed: Claimed, completion: Completion, version: int | None) -> None:
        self.told[claimed.claim_id] = completion.outcome

    def due_in(self, seconds: float) -> None:
        self.due_in_seconds.append(seconds)

    def renew_now(self) -> None:
        self.renewals += 1

    async def report_crash(self, worker_id: int, *, task_id: int, claim_id: int) -> bool:
        self.crashes.append(claim_id)
        return self.answer(claim_id) == "done"


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    run = asyncio.create_task(world.completer.run())
    yield world
    run.cancel()


def raising_once(error: Exception) -> Callable[[int], str]:
    left = [error]

    def answer(_: int) -> str:
        if left:
            raise left.pop()
        return "already"

    return answer


async def test_a_lost_claim_answers_nobody_and_is_forgotten() -> None:
    async with running() as world:
        world.answer = lambda _: "lost"
        world.add(1)
        await world.settle()

    assert (world.told, len(world.holdings)) == ({}, 0)


async def test_a_completion_that_was_done_already_answers() -> None:
    async with running() as world:
        world.answer = lambda _: "already"
        world.add(1)
        await world.settle()

    assert (world.told, len(world.holdings)) == ({1: Outcome.FINISHED}, 0)


async def test_a_completion_whose_answer_is_lost_is_repeated_and_the_lease_renewed_at_once() -> (
    None
):
    async with running() as world:
        world.answer = raising_once(StoreUnavailable("the answer was lost"))
        world.add(1)
        await world.settle()

    assert (world.batches, world.renewals) == ([[1], [1]], 1)
    assert world.told == {1: Outcome.FINISHED}


async def test_so_many_batches_are_on_their_way_at_once_as_connections_are_for_them() -> None:
    async with running() as world:
        world.open.clear()
        for claim_id in range(1, 1001):
            world.add(claim_id)
        for _ in range(100):
            await asyncio.sleep(0)
        on_their_way = len(world.batches)
        world.open.set()
        await world.settle()

    assert (on_their_way, len(world.told)) == (3, 1000)


async def test_what_was_rolled_back_is_repeated() -> None:
    async with running() as world:
        world.answer = raising_once(RolledBack("a deadlock"))
        world.add(1)
        await world.settle()

    assert (world.batches, world.told) == ([[1], [1]], {1: Outcome.FINISHED})


async def test_busy_completions_are_repeated_and_then_wait_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BUSY_PAUSE_SECONDS", 3600)
    async with running() as world, asyncio.timeout(5):
        world.answer = lambda claim_id: "busy" if claim_id == 1 else "done"
        world.add(1)
        while world.batches.count([1]) < 4:
            await asyncio.sleep(0)
        for claim_id in range(2, 12):
            world.add(claim_id)
            while claim_id not in world.told:
                await asyncio.sleep(0)

    assert world.batches.count([1]) == 4
    assert world.batches[4:] == [[claim_id] for claim_id in range(2, 12)]


def refusing(*culprits: int) -> Callable[[int], str]:
    """Refuse what was meant to end well of these claims, with all that is in its batch."""

    def answer(claim_id: int) -> str:
        if claim_id in culprits:
            raise DataFault("it cannot be stored")
        return "done"

    return answer


async def test_what_cannot_be_stored_is_found_by_halves_and_the_rest_is_done() -> None:
    async with running() as world:
        refused: list[int] = []

        def answer(claim_id: int) -> str:
            if claim_id == 3 and len(refused) < 3:  # alone it is the third; its error is stored
                refused.append(claim_id)
                raise DataFault("it cannot be stored")
            return "done"

        world.answer = answer
        for claim_id in (1, 2, 3, 4):
            world.add(claim_id)
        await world.settle()

    assert world.batches == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [3], [4]]
    finished = dict.fromkeys((1, 2, 4), Outcome.FINISHED)
    assert world.told == {**finished, 3: Outcome.BROKEN}


async def test_whose_end_the_database_cannot_write_is_found_by_halves_and_counts_as_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0)

    def answer(claim_id: int) -> str:
        if claim_id == 3:
            raise Unforeseen("could not read block 5 (XX001)")
        return "done"

    async with running() as world:
        world.answer = answer
        for claim_id in range(1, 9):
            world.add(claim_id)
        await world.settle()

    assert (world.crashes, [*world.told], len(world.holdings)) == ([3], [1, 2, 4, 5, 6, 7, 8], 0)
    assert world.batches.count([3]) == 8


async def test_an_error_that_cannot_be_stored_is_given_back() -> None:
    async with running() as world:
        world.answer = refusing(1)
        world.add(1)
        await world.settle()

    assert (world.batches, world.told) == ([[1], [1]], {})
    assert (world.renewals, len(world.holdings)) == (1, 0)


async def test_after_a_fault_its_namespace_is_flushed_apart() -> None:
    async with running() as world:
        world.answer = refusing(1)
        world.add(1)
        await world.settle()
        world.batches.clear()
        world.add(2)
        world.add(3, namespace="stock")
        world.add(4)
        await world.settle()

    assert world.batches == [[2, 4], [3]]


@pytest.mark.parametrize(("chained", "chains"), [(48, True), (49, False)])
async def test_a_chain_of_fifty_steps_asks_for_no_next(chained: int, chains: bool) -> None:
    async with running() as world:
        world.add(1, chained=chained)
        await world.settle()

    assert world.chains == [chains]


async def test_a_step_that_goes_into_retry_makes_the_worker_look_what_may_go_instead() -> None:
    async with running() as world:
        held = world.holdings.add(make_claim(1), since=0)
        retry = Completion(held.claimed, Outcome.RETRY, retry_after=timedelta(hours=1))
        world.completer.add(held, retry)
        await world.settle()

    assert world.due_in_seconds == [0.0]


async def test_a_completion_in_flight_is_a_trip() -> None:
    async with running() as world, asyncio.timeout(5):
        world.open.clear()
        world.next_ = make_claim(2)
        world.add(1)
        while not world.batches:
            await asyncio.sleep(0)
        asking = asyncio.create_task(world.holdings.strangers([(2, 2), (9, 9)]))
        await asyncio.sleep(0)
        world.open.set()

        assert await asking == [(9, 9)]
        assert world.gone_on == [2]


class FakeTransaction:
    """The open transaction of a step, in which it ends with *outcome*."""

    def __init__(self, outcome: str) -> None:
        self.outcome = outcome
        self.ends: list[str] = []

    async def complete(self, *_: object, **__: object) -> Completed:
        return Completed(self.outcome, 7, None)

    async def commit(self) -> None:
        self.ends.append("commit")

    async def rollback(self) -> None:
        self.ends.append("rollback")


@pytest.mark.parametrize(("outcome", "ends"), [("done", "commit"), ("lost", "rollback")])
async def test_the_transaction_of_a_lost_claim_is_rolled_back(outcome: str, ends: str) -> None:
    async with running() as world:
        transaction: Any = FakeTransaction(outcome)
        held = world.holdings.add(make_claim(1), since=0)
        await world.completer.commit(held, Completion(held.claimed, Outcome.FINISHED), transaction)

    assert transaction.ends == [ends]
    assert (1 in world.told) is (outcome == "done")


async def test_the_answer_of_a_namespace_with_few_steps_does_not_wait_for_its_neighbours() -> None:
    async with running() as world:
        world.open.clear()
        for claim_id in range(1000):
            world.add(claim_id, namespace="stock")
        world.add(1000, namespace="shop")
        async with asyncio.timeout(5):
            while not world.told:
                await asyncio.sleep(0)
        assert set(world.told) == {1000}

        world.open.set()
        await world.settle()
    assert len(world.told) == 1001


async def test_what_is_too_much_for_the_lane_for_few_goes_with_the_others() -> None:
    async with running() as world:
        for claim_id in range(990):
            world.add(claim_id, namespace="stock")
        for claim_id in range(1000, 1040):
            world.add(claim_id, namespace="shop")
        await world.settle()

    assert list(range(1000, 1016)) in world.batches
    assert any(989 in batch and 1016 in batch for batch in world.batches)
    assert len(world.told) == 1030


@pytest.mark.parametrize(("neighbour", "is_alone"), [("stock", False), ("shop", True)])
async def test_a_neighbour_waits_for_some_of_the_ends_of_a_batch_and_nobody_else_has_them_in_parts(
    neighbour: str, is_alone: bool
) -> None:
    async with running() as world:
        world.holdings.add(make_claim(200, namespace=neighbour), since=0)
        for claim_id in range(200):
            world.add(claim_id)
        settled = [0]
        while settled[-1] < 200:
            await asyncio.sleep(0)
            settled.append(len(world.told))

    assert len(world.batches[0]) == 200
    at_once = max(after - before for before, after in pairwise(settled))
    assert at_once == 200 if is_alone else at_once < 50


async def test_a_step_that_broke_is_reported_as_a_crash_and_looked_for_at_once() -> None:
    async with running() as world:
        world.answer = lambda _: "done"
        world.completer.broke(world.holdings.add(make_claim(1), since=0))
        await world.settle()

    assert (world.crashes, world.due_in_seconds, len(world.holdings)) == ([1], [0.0], 0)


@pytest.mark.parametrize("error", [None, StoreUnavailable(), RolledBack()])
async def test_a_crash_that_cannot_be_reported_leaves_the_claim_to_the_next_renewal(
    error: Exception | None,
) -> None:
    async with running() as world:
        world.answer = raising_once(error) if error else lambda _: "lost"
        world.completer.broke(world.holdings.add(make_claim(1), since=0))
        await world.settle()

    assert (world.renewals, world.due_in_seconds, len(world.holdings)) == (1, [], 0)
