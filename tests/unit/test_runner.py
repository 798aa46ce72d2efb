"""The places of a runner."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.claims import make_claim

from pgprog import Namespace, TransientError
from pgprog.engine.holdings import Holdings
from pgprog.engine.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgprog.engine.holdings import Held


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


@pytest.mark.parametrize("is_quick", [True, False])
async def test_a_step_that_is_given_up_before_its_start_frees_its_place(
    holdings: Holdings, is_quick: bool
) -> None:
    attempts = FakeAttempt(asyncio.Event().wait, is_quick=is_quick)
    runner = make_runner(holdings, attempt=attempts, lease=Lease(), endings=Endings())
    for claim_id in (1, 2, 3):
        runner.take(holdings.add(make_claim(claim_id), since=0))
    assert runner.busy == 2

    holdings.drop()
    await runner.wait_idle()
    await asyncio.sleep(0)

    assert (runner.room, runner.busy) == (2, 0)


async def test_a_step_that_waits_holds_a_place_and_one_that_never_does_holds_none(
    holdings: Holdings,
) -> None:
    free = asyncio.Event()
    attempts = FakeAttempt(free.wait, is_quick=None)
    endings = Endings()
    runner = make_runner(holdings, attempt=attempts, lease=Lease(), endings=endings)
    runner.take(holdings.add(make_claim(1), since=0))
    assert runner.room == 1
    await asyncio.sleep(0)
    assert attempts.speed is False

    attempts.speed = True
    runner.take(holdings.add(make_claim(2), since=0))
    assert (runner.room, runner.busy) == (1, 2)

    while attempts.speed:
        await asyncio.sleep(0)
    assert (runner.room, runner.busy) == (0, 2)

    free.set()
    async with asyncio.timeout(5):
        await runner.wait_idle()
    assert endings.ended == [1, 2]


async def test_a_handler_is_quick_that_has_never_waited(holdings: Holdings) -> None:
    async def run() -> None:
        return

    attempts = FakeAttempt(run, is_quick=None)
    runner = make_runner(holdings, attempt=attempts, lease=Lease(), endings=Endings())
    runner.take(holdings.add(make_claim(1), since=0))
    await runner.wait_idle()

    assert attempts.speed is True


class FakeAttempt:
    """An attempt whose handler is *run*; it has no transaction."""

    handler = "some handler"
    straggler = None
    is_interrupted = False
    namespace = Namespace[Any]("shop")

    def __init__(
        self, run: Callable[[], Awaitable[object]], *, is_quick: bool | None = False
    ) -> None:
        self.run = run
        self.access = self
        self.speed = is_quick

    def is_quick(self, _: object) -> bool | None:
        return self.speed

    def learn(self, _: object, *, is_quick: bool) -> None:
        self.speed = is_quick and self.speed is not False

    async def first_trace(self, task_id: int) -> None:
        pass

    def make(self, _: object) -> FakeAttempt:
        return self

    def close(self) -> None:
        pass

    def open_transaction(self) -> None:
        pass


class Endings:
    """Keeps the claims whose steps ended, and those given back."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        self.given_back: list[int] = []
        self.broken: list[int] = []

    def add(self, held: Held, completion: object) -> None:
        self.ended.append(held.claimed.claim_id)

    def give_back(self, held: Held) -> None:
        self.given_back.append(held.claimed.claim_id)

    def broke(self, held: Held) -> None:
        self.broken.append(held.claimed.claim_id)


class Lease:
    """A lease that is held."""

    worker_id = 1

    def check(self) -> None:
        pass


class SlowLease(Lease):
    """A lease that reports what has begun when it is let."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def report_begun(self) -> None:
        self.asked.set()
        await self.answer.wait()


def make_runner(holdings: Holdings, *, attempt: Any, lease: Any, endings: Any) -> Runner:
    return Runner(
        attempt,
        concurrency=2,
        holdings=holdings,
        lease=lease,
        endings=endings,
        on_free=lambda: None,
    )


async def test_a_later_attempt_runs_only_after_it_was_reported(holdings: Holdings) -> None:
    lease, endings, ran = SlowLease(), Endings(), asyncio.Event()

    async def run() -> object:
        ran.set()
        raise ValueError

    runner = make_runner(holdings, attempt=FakeAttempt(run), lease=lease, endings=endings)
    async with asyncio.timeout(5):
        runner.take(holdings.add(make_claim(1, attempt=2), since=0))
        await lease.asked.wait()
        assert not ran.is_set()
        assert holdings.begun() == [1]

        lease.answer.set()
        await runner.wait_idle()
    assert endings.ended == [1]


async def test_a_step_that_was_given_up_while_it_ran_commits_nothing(holdings: Holdings) -> None:
    endings, began = Endings(), asyncio.Event()

    async def run() -> object:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as e:
            raise ValueError from e  # a handler that does not let itself be cancelled
        return None

    runner = make_runner(holdings, attempt=FakeAttempt(run), lease=Lease(), endings=endings)
    async with asyncio.timeout(5):
        runner.take(holdings.add(make_claim(1), since=0))
        await began.wait()
        holdings.drop()
        await runner.wait_idle()

    assert (endings.ended, endings.given_back) == ([], [])


async def test_a_retry_given_up_while_its_thread_went_on_commits_nothing(
    holdings: Holdings,
) -> None:
    endings = Endings()

    async def run() -> object:
        attempt.straggler = asyncio.get_running_loop().create_future()
        raise TransientError

    attempt: Any = FakeAttempt(run)
    runner = make_runner(holdings, attempt=attempt, lease=Lease(), endings=endings)
    async with asyncio.timeout(5):
        held = holdings.add(make_claim(1, type="notify"), since=0)
        runner.take(held)
        while attempt.straggler is None:
            await asyncio.sleep(0)
        held.is_dropped = True
        attempt.straggler.set_result(None)
        await runner.wait_idle()

    assert (endings.ended, endings.given_back) == ([], [])


async def test_what_a_thread_raises_after_its_time_is_thrown_away(holdings: Holdings) -> None:
    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    async def run() -> object:
        attempt.straggler = asyncio.get_running_loop().create_future()
        raise TransientError

    attempt: Any = FakeAttempt(run)
    runner = make_runner(holdings, attempt=attempt, lease=Lease(), endings=Endings())
    async with asyncio.timeout(5):
        runner.take(holdings.add(make_claim(1), since=0))
        while attempt.straggler is None:
            await asyncio.sleep(0)
        attempt.straggler.set_exception(ValueError("a payload"))
        while attempt.straggler is not None:
            await asyncio.sleep(0)
        await runner.wait_idle()
    gc.collect()

    assert heard == []


async def test_the_scanner_hears_of_room_behind_a_lone_step_whose_thread_goes_on(
    holdings: Holdings,
) -> None:
    freed = asyncio.Event()

    async def run() -> object:
        attempt.straggler = asyncio.get_running_loop().create_future()
        raise TransientError("too late")

    attempt: Any = FakeAttempt(run)
    nothing_apart: Any = type("Apart", (), {"takes": lambda *_: False})()
    endings: Any = Endings()
    lease: Any = Lease()
    runner = Runner(
        attempt,
        concurrency=2,
        holdings=holdings,
        lease=lease,
        endings=endings,
        on_free=freed.set,
        apart=nothing_apart,
    )
    runner.take(holdings.add(make_claim(1)._replace(alone=True), since=0))
    assert runner.room == 0

    async with asyncio.timeout(5):
        await freed.wait()
    assert runner.room == 1
    attempt.straggler.set_result(None)
    await runner.wait_idle()


async def begun_before(holdings: Holdings, last: Held, runner: Runner) -> list[int]:
    """Return the steps whose handlers have begun as soon as *last* has, it included."""
    async with asyncio.timeout(5):
        while not last.runs:
            await asyncio.sleep(0)
    begun = holdings.begun()
    holdings.drop()
    await runner.wait_idle()
    return begun


@pytest.mark.parametrize(("quiet", "most"), [("quiet", 20), ("crowd", 300)])
async def test_a_handler_does_not_wait_for_all_those_of_another_namespace(
    holdings: Holdings, quiet: str, most: int
) -> None:
    attempt: Any = FakeAttempt(asyncio.Event().wait)
    parts: Any = {"lease": Lease(), "endings": Endings(), "on_free": lambda: None}
    runner = Runner(attempt, concurrency=400, holdings=holdings, **parts)
    crowd = [holdings.add(make_claim(number, namespace="crowd"), since=0) for number in range(299)]
    last = holdings.add(make_claim(299, namespace=quiet), since=0)
    for held in (*crowd, last):
        runner.take(held)

    begun = await begun_before(holdings, last, runner)

    assert most // 2 < len(begun) <= most


async def test_few_handlers_begin_at_once_a_moment_after_another_namespace_had_a_step(
    holdings: Holdings,
) -> None:
    attempt: Any = FakeAttempt(asyncio.Event().wait)
    parts: Any = {"lease": Lease(), "endings": Endings(), "on_free": lambda: None}
    runner = Runner(attempt, concurrency=400, holdings=holdings, **parts)
    crowd = [holdings.add(make_claim(number, namespace="crowd"), since=0) for number in range(299)]
    holdings.remove(holdings.add(make_claim(299, namespace="quiet"), since=0))
    for held in crowd:
        runner.take(held)

    begun = await begun_before(holdings, crowd[0], runner)

    assert len(begun) < 20


async def test_places_that_others_wait_for_are_had_by_turns(holdings: Holdings) -> None:
    attempt: Any = FakeAttempt(asyncio.Event().wait)
    parts: Any = {"lease": Lease(), "endings": Endings(), "on_free": lambda: None}
    runner = Runner(attempt, concurrency=40, holdings=holdings, **parts)
    holdings.add(make_claim(40, namespace="quiet"), since=0)
    for number in range(40):
        runner.take(holdings.add(make_claim(number, namespace="crowd"), since=0))

    assert runner.room == 0
    assert runner.turns == 40 - runner.busy > 0

    holdings.drop()
    await runner.wait_idle()


async def test_what_waits_for_its_place_is_given_back_and_what_runs_is_not(
    holdings: Holdings,
) -> None:
    attempt: Any = FakeAttempt(asyncio.Event().wait)
    endings = Endings()
    parts: Any = {"lease": Lease(), "endings": endings, "on_free": lambda: None}
    runner = Runner(attempt, concurrency=2, holdings=holdings, **parts)
    steps = [holdings.add(make_claim(number), since=0) for number in range(5)]
    for held in steps:
        runner.take(held)
    steps[4].is_dropped = True

    runner.give_back_waiting()

    assert endings.given_back == [2, 3]
    assert runner.room == 0

    holdings.drop()
    await runner.wait_idle()
