"""Steps that share a task of asyncio while none of them waits."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

import pytest
from tests.unit.claims import make_claim

from pgprog.engine.holdings import Holdings
from pgprog.engine.quick import QuickSteps
from pgprog.engine.within_task import within_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgprog.engine.holdings import Held

_tenant: contextvars.ContextVar[str] = contextvars.ContextVar("_tenant", default="nobody")


class Steps:
    """Quick steps that do what *body* says, and what was heard of them."""

    def __init__(self, body: Callable[[int], Awaitable[object]]) -> None:
        self.tasks: dict[int, asyncio.Task[object] | None] = {}
        self.waited: list[int] = []
        self.ended: dict[int, BaseException | None] = {}
        self.over = asyncio.Event()
        self._body = body
        self._quick = QuickSteps(
            self._run,
            waits=lambda held: self.waited.append(held.claimed.claim_id),
            stepped=self._stepped,
        )

    def take(self, count: int) -> list[Held]:
        holdings = Holdings()
        self.held = [holdings.add(make_claim(number), since=0) for number in range(1, count + 1)]
        for held in self.held:
            self._quick.add(held)
        return self.held

    async def settle(self) -> None:
        async with asyncio.timeout(5):
            await self.over.wait()

    async def _run(self, held: Held) -> None:
        self.tasks[held.claimed.claim_id] = asyncio.current_task()
        await self._body(held.claimed.claim_id)

    def _stepped(self, held: Held, error: BaseException | None) -> None:
        self.ended[held.claimed.claim_id] = error
        if len(self.ended) == len(self.held):
            self.over.set()


async def test_steps_that_never_wait_run_in_their_order_in_one_task() -> None:
    async def body(_: int) -> None:
        return

    steps = Steps(body)
    steps.take(3)
    await steps.settle()

    assert [*steps.ended.items()] == [(1, None), (2, None), (3, None)]
    assert len({*steps.tasks.values()}) == 1
    assert not steps.waited


async def test_steps_behind_one_that_waits_go_on_without_it() -> None:
    go = asyncio.Event()

    async def body(number: int) -> None:
        if number == 1:
            await go.wait()
        if number == 3:
            go.set()

    steps = Steps(body)
    steps.take(3)
    await steps.settle()

    assert [*steps.ended] == [2, 3, 1]
    assert steps.waited == [1]
    assert steps.tasks[1] is not steps.tasks[2]


async def test_cancelling_a_step_that_waits_stops_no_other() -> None:
    async def body(number: int) -> None:
        await asyncio.sleep(3600 if number == 1 else 0)

    steps = Steps(body)
    first, *_ = steps.take(3)
    while 2 not in steps.ended:
        await asyncio.sleep(0)
    assert first.step is not None
    first.step.cancel()
    await steps.settle()

    assert isinstance(steps.ended.pop(1), asyncio.CancelledError)
    assert steps.ended == {2: None, 3: None}


async def test_giving_up_a_claim_whose_step_is_over_stops_no_other() -> None:
    go = asyncio.Event()

    async def body(number: int) -> None:
        if number == 2:
            await go.wait()

    steps = Steps(body)
    first, *_ = steps.take(2)
    while not steps.waited:
        await asyncio.sleep(0)
    if first.step is not None:
        first.step.cancel()
    await asyncio.sleep(0)
    go.set()
    await steps.settle()

    assert steps.ended == {1: None, 2: None}


async def test_a_step_that_cancels_its_own_task_stops_no_other() -> None:
    async def body(number: int) -> None:
        task = asyncio.current_task()
        if number == 1 and task is not None:
            task.cancel()

    steps = Steps(body)
    steps.take(2)
    await steps.settle()

    assert steps.ended == {1: None, 2: None}


async def test_a_step_that_breaks_stops_no_other() -> None:
    async def body(number: int) -> None:
        if number == 1:
            raise KeyError

    steps = Steps(body)
    steps.take(2)
    await steps.settle()

    assert isinstance(steps.ended[1], KeyError)
    assert steps.ended[2] is None


async def test_a_step_that_was_given_up_before_its_start_does_not_run() -> None:
    async def body(_: int) -> None:
        return

    steps = Steps(body)
    steps.take(2)[0].is_dropped = True
    await steps.settle()

    assert [*steps.tasks] == [2]


async def test_what_a_step_sets_in_its_context_is_its_own() -> None:
    seen: list[str] = []

    async def body(number: int) -> None:
        seen.append(_tenant.get())
        _tenant.set(str(number))
        await asyncio.sleep(0)
        seen.append(_tenant.get())

    for number in (1, 2):
        await within_task(body(number), on_wait=lambda: None)

    assert seen == ["nobody", "1", "nobody", "2"]


async def test_an_error_from_outside_reaches_the_coroutine_where_it_waits() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def body() -> str:
        try:
            return await future
        except LookupError as e:
            await asyncio.sleep(0)
            return str(e)

    future.set_exception(LookupError("found"))
    assert await within_task(body(), on_wait=lambda: None) == "found"


async def test_what_a_coroutine_raises_comes_out() -> None:
    async def body() -> None:
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        await within_task(body(), on_wait=lambda: None)


async def test_what_is_asked_of_the_loop_at_once_comes_before_the_steps() -> None:
    began: list[str] = []

    async def body(_: int) -> None:
        began.append("step")

    async def claim() -> None:
        began.append("claim")

    steps = Steps(body)
    steps.take(1)
    claiming = asyncio.create_task(claim())
    await steps.settle()
    await claiming

    assert began == ["claim", "step"]
