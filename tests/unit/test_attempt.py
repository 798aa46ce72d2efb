"""One run of a handler in the loop: whose time-out is whose."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pgprog import Intent, Namespace, Step
from pgprog.engine.attempt import Attempt, Attempts, NoThread, Threads
from pgprog.engine.deadlines import Deadlines
from pgprog.engine.decide import StepTimeout
from pgprog.errors import LeaseLost, StoreUnavailable
from pgprog.store.engine_store import EngineStore
from pgprog.store.rows import Claimed
from pgprog.store.transactions import StepTransactions

_NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def namespace() -> Namespace[Any]:
    orders: Namespace[Any] = Namespace("orders", step_timeout="20ms")

    @orders.call
    async def answer(step: Step[Any]) -> Intent[Any, str]:
        return Intent(response=asyncio.current_task().get_name())  # type: ignore[union-attr] # runs in one

    @orders.call
    async def answer_late(step: Step[Any]) -> Intent[Any, str]:
        await asyncio.sleep(0)
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            late = group.create_task(asyncio.sleep(0, "late"))
        return Intent(response=late.result())

    @orders.call
    async def hang(step: Step[Any]) -> None:
        await asyncio.Event().wait()

    @orders.call
    async def hang_on(step: Step[Any]) -> Intent[Any, str]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise
        return Intent()

    return orders


def _attempt(
    namespace: Namespace[Any],
    name: str,
    *,
    store: EngineStore | None = None,
    transactions: Any = None,
) -> Attempt:
    return Attempt(
        _claimed(name),
        namespace=namespace,
        store=store or EngineStore("", name=""),
        transactions=transactions
        or StepTransactions("", size=1, lease=timedelta(seconds=10), name=""),
        deadlines=Deadlines(),
        threads=Threads(1),
    )


def _claimed(name: str) -> Claimed:
    fixed = ("orders", "o-1", "call", name, 1, _NOW, _NOW, None, None)
    return Claimed(1, 1, 1, *fixed, "running", 1, b"{}", None, 0, 1)


async def test_a_handler_runs_in_the_task_of_its_step(namespace: Namespace[Any]) -> None:
    step = asyncio.create_task(_attempt(namespace, "answer").run(), name="a step")

    assert await step == Intent(response="a step")


async def test_a_handler_that_waits_goes_on_where_it_was(namespace: Namespace[Any]) -> None:
    assert await _attempt(namespace, "answer_late").run() == Intent(response="late")


@pytest.mark.parametrize("name", ["hang", "hang_on"])
async def test_a_handler_that_waits_too_long_is_timed_out(
    namespace: Namespace[Any], name: str
) -> None:
    with pytest.raises(StepTimeout):
        await _attempt(namespace, name).run()


async def test_a_timeout_of_the_handlers_own_is_not_the_engines() -> None:
    orders: Namespace[Any] = Namespace("orders", step_timeout="1h")

    @orders.call
    async def time_out(step: Step[Any]) -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as raised:
        await _attempt(orders, "time_out").run()

    assert not isinstance(raised.value, StepTimeout)


async def test_a_handler_is_quick_until_it_has_waited(namespace: Namespace[Any]) -> None:
    @namespace.call
    def block(step: Step[Any]) -> None: ...

    attempts = Attempts(
        {"orders": namespace},
        store=EngineStore("", name=""),
        transactions=StepTransactions("", size=1, lease=timedelta(seconds=10), name=""),
        concurrency=1,
    )
    known = []
    for is_quick in (True, False, True):
        known.append(attempts.is_quick(_claimed("answer")))
        attempts.learn(_claimed("answer"), is_quick=is_quick)
    known.append(attempts.is_quick(_claimed("answer")))

    assert known == [None, True, False, False]
    assert attempts.is_quick(_claimed("hang")) is None
    assert attempts.is_quick(_claimed("block")) is False
    attempts.close()


async def test_a_sync_handler_that_finds_no_thread_is_never_called() -> None:
    orders: Namespace[Any] = Namespace("orders", step_timeout="50ms")
    gate = threading.Event()
    called: list[str] = []

    @orders.call
    def hold(step: Step[Any]) -> None:
        called.append("hold")
        gate.wait(5)

    @orders.call
    def come_late(step: Step[Any]) -> None:
        called.append("come_late")

    @orders.call
    def go_on(step: Step[Any]) -> None:
        called.append("go_on")

    attempts = Attempts(
        {"orders": orders},
        store=EngineStore("", name=""),
        transactions=StepTransactions("", size=1, lease=timedelta(seconds=10), name=""),
        concurrency=1,
    )
    holding, late = attempts.make(_claimed("hold")), attempts.make(_claimed("come_late"))
    with pytest.raises(StepTimeout):
        await holding.run()
    with pytest.raises(NoThread):
        await late.run()
    gate.set()
    assert holding.straggler is not None
    await holding.straggler
    await attempts.make(_claimed("go_on")).run()
    attempts.close()

    assert called == ["hold", "go_on"]
    assert late.straggler is None


class Silent(EngineStore):
    """A database that does not answer what handlers read."""

    async def history(self, *_: object, **__: object) -> list[Any]:
        raise StoreUnavailable("the connection was lost")


class Well:
    """Transactions that have one, which is well."""

    blocks = 0
    is_lost = False
    connection = None

    async def begin(self, **_: object) -> Well:
        return self

    async def rollback(self) -> None: ...


class WellInThread(Well):
    def begin_blocking(self, **_: object) -> WellInThread:
        return self

    def rollback(self) -> None: ...  # type: ignore[override] # of the other colour


@pytest.fixture
def reading() -> Namespace[Any]:
    """Handlers that read within a transaction."""
    orders: Namespace[Any] = Namespace("orders", step_timeout="1h")

    @orders.call
    async def read(step: Step[Any]) -> None:
        async with step.transaction():
            await step.history()

    @orders.call
    def read_in_thread(step: Step[Any]) -> None:
        with step.transaction():
            step.history()

    @orders.call
    async def stumble(step: Step[Any]) -> None:
        async with step.transaction():
            with suppress(StoreUnavailable):
                await step.history()
            raise ValueError("its own")

    return orders


@pytest.mark.parametrize(
    ("name", "transactions"), [("read", Well()), ("read_in_thread", WellInThread())]
)
async def test_a_read_that_fails_within_a_transaction_is_no_fault_of_the_handler(
    reading: Namespace[Any], name: str, transactions: Well
) -> None:
    attempt = _attempt(reading, name, store=Silent("", name=""), transactions=transactions)
    with pytest.raises(StoreUnavailable):
        await attempt.run()

    assert attempt.access.is_interrupted


async def test_what_a_handler_raises_after_a_read_that_failed_is_its_own(
    reading: Namespace[Any],
) -> None:
    attempt = _attempt(reading, "stumble", store=Silent("", name=""), transactions=Well())
    with pytest.raises(ValueError, match="its own"):
        await attempt.run()

    assert not attempt.access.is_interrupted


class BegunLate(Well):
    """A transaction that begins when it is let, and counts how often it is undone."""

    def __init__(self) -> None:
        self.is_let = asyncio.Event()
        self.undone = 0

    async def begin(self, **_: object) -> BegunLate:
        await self.is_let.wait()
        return self

    async def rollback(self) -> None:
        self.undone += 1


async def test_a_transaction_that_begins_when_its_step_is_over_is_undone() -> None:
    orders: Namespace[Any] = Namespace("orders")
    left: list[asyncio.Task[None]] = []

    @orders.call
    async def leave(step: Step[Any]) -> None:
        async def work() -> None:
            async with step.transaction():
                pass

        left.append(asyncio.create_task(work()))
        await asyncio.sleep(0)

    transactions = BegunLate()
    attempt = _attempt(orders, "leave", transactions=transactions)
    await attempt.run()
    attempt.access.close()
    transactions.is_let.set()

    with pytest.raises(LeaseLost, match="over"):
        await left[0]
    assert transactions.undone == 1
    assert attempt.access.open_transaction() is None
