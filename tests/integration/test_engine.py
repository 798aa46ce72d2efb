"""Processes that run: what a handler intends is committed, what it raises has its outcome."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import (
    Event,
    Finish,
    Intent,
    Namespace,
    PermanentError,
    Reject,
    Remove,
    Request,
    SetTimer,
    Step,
    TransientError,
    UnsetTimer,
)
from pgprog.config import WorkerConfig
from pgprog.errors import (
    CallTimeout,
    InvalidArgument,
    ProcessFinished,
    ProcessInError,
    ProcessNotFound,
    Rejected,
    StepFailed,
    TaskCancelled,
)

if TYPE_CHECKING:
    import psycopg

    from pgprog import Engine


RARE_POLLS = WorkerConfig(poll_every=timedelta(hours=1))
# What became of a running step is told with a heartbeat.
RARE_BEATS = WorkerConfig(lease=timedelta(hours=1), heartbeat_every=timedelta(minutes=30))


@dataclass(frozen=True)
class Order:
    due: Decimal
    paid: Decimal = Decimal(0)


@pytest.fixture
def orders() -> Namespace[Order]:
    namespace = Namespace("orders", state=Order)

    @namespace.init
    def open_order(step: Step[Order], args: dict[str, Any]) -> Intent[Order]:
        return Intent(state=Order(due=Decimal(args["due"])), events=[{"opened": args}])

    @namespace.call
    async def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
        order = replace(step.state, paid=step.state.paid + amount)
        return Intent(state=order, events=[{"paid": amount}], response=order.due - order.paid)

    return namespace


async def status_of(engine: Engine, namespace: str, process_id: str) -> Any:
    process = await engine.get(namespace, process_id)
    return None if process is None else str(process.status)


async def until(engine: Engine, namespace: str, process_id: str, status: str | None) -> None:
    """Return when the process has the status; the time-out of the test ends a wait in vain."""
    while await status_of(engine, namespace, process_id) != status:
        await asyncio.sleep(0.01)


async def test_a_typed_call_answers_with_the_type_of_its_handler(
    make_engine: Any, orders: Namespace[Order]
) -> None:
    [_, pay] = orders.handlers
    async with make_engine(orders) as engine:
        await engine.init("orders", "o-1", {"due": "10"}, idempotency_key="req-1")
        typed = await engine.call(pay, "o-1", amount=Decimal("4.50"))
        plain = await engine.call("orders", "o-1", {"amount": "1"}, name="pay", timeout=5)
        process = await engine.get(orders, "o-1", max_events=100)

    assert typed == Decimal("5.50")
    assert plain == "4.50"
    assert process.state == Order(due=Decimal(10), paid=Decimal("5.50"))
    assert [event.event_id for event in process.history] == [1, 2, 3]


def test_a_sync_program_uses_the_engine_in_a_with_block(
    make_engine: Any, counters: Namespace[Any]
) -> None:
    with make_engine(counters) as engine:
        engine.init("counters", "c")
        totals = [engine.call("counters", "c", {"amount": 1}, name="add") for _ in range(3)]
        task = engine.notify("counters", "c", {"amount": 10}, name="note")
        task.wait(timeout=5)

    assert totals == [1, 2, 3]
    assert task.version is not None


async def test_calls_of_one_process_run_one_at_a_time_in_the_order_of_their_ids(
    make_engine: Any, counters: Namespace[Any]
) -> None:
    async with make_engine(counters) as engine:
        await engine.init("counters", "c")
        tasks = [
            await engine.submit("call", "counters", "c", {"amount": 1}, name="add")
            for _ in range(120)
        ]
        totals = [await task.wait() for task in tasks]
        events = [event async for event in engine.events("counters", "c")]

    assert totals == [*range(1, 121)]
    assert [event.event_id for event in events] == [*range(1, 122)]


async def test_a_reject_leaves_the_process_untouched(make_engine: Any) -> None:
    shop = Namespace("shop")

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=1)

    @shop.call
    async def refuse(step: Step[Any]) -> Intent[Any]:
        raise Reject({"reason": "closed"})

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        before = await engine.get("shop", "s")
        with pytest.raises(Rejected) as caught:
            await engine.call("shop", "s", name="refuse")

        assert caught.value.payload == {"reason": "closed"}
        assert await engine.get("shop", "s") == before


async def test_a_handler_that_says_no_is_no_failure_to_the_log(
    make_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Namespace("shop", retry={"max_attempts": 1})

    @shop.init
    async def begin(step: Step[Any]) -> None: ...

    @shop.call
    async def refuse(step: Step[Any]) -> None:
        raise Reject("no")

    @shop.notify
    async def drop(step: Step[Any]) -> None:
        raise Reject("nobody waits for this")

    caplog.set_level("DEBUG", logger="pgprog")
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        with pytest.raises(Rejected):
            await engine.call("shop", "s", name="refuse")
        rejected = [each.levelname for each in caplog.records if "step_" in each.getMessage()]
        with pytest.raises(StepFailed):
            await (await engine.notify("shop", "s", name="drop")).wait()
        failed = [each.levelname for each in caplog.records if "step_" in each.getMessage()]

    assert rejected == ["DEBUG"]
    assert failed == ["DEBUG", "WARNING"]


async def test_decimals_of_a_rejection_come_as_those_of_an_answer(make_engine: Any) -> None:
    exact = Namespace[Any]("exact", numbers="decimal")

    @exact.init
    async def begin(step: Step[Any]) -> None: ...

    @exact.call
    async def refuse(step: Step[Any]) -> None:
        raise Reject({"due": Decimal("1.50")})

    @exact.call
    async def answer(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response={"due": Decimal("1.50")})

    async with make_engine(exact) as engine:
        await engine.init("exact", "e")
        told = [await engine.call(answer, "e"), await engine.call("exact", "e", name="answer")]
        with pytest.raises(Rejected) as by_handler:
            await engine.call(refuse, "e")
        with pytest.raises(Rejected) as by_name:
            await engine.call("exact", "e", name="refuse")
        rejected: list[Any] = [by_handler.value.payload, by_name.value.payload]

    assert [repr(each["due"]) for each in told] == ["Decimal('1.50')", "1.5"]
    assert [repr(each["due"]) for each in rejected] == ["Decimal('1.50')", "1.5"]


async def test_a_rejected_init_leaves_no_process(make_engine: Any) -> None:
    shop = Namespace("shop")

    @shop.init
    def begin(step: Step[Any]) -> None:
        raise Reject("no")

    async with make_engine(shop) as engine:
        with pytest.raises(Rejected):
            await engine.init("shop", "s")

        assert await engine.get("shop", "s") is None


async def test_a_failed_call_breaks_its_process_and_tells_those_who_wait(make_engine: Any) -> None:
    shop = Namespace("shop")
    gate = asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=1, timers=[SetTimer(after=timedelta(days=1))])

    @shop.call
    async def fail(step: Step[Any]) -> None:
        await gate.wait()
        raise PermanentError("broken\0glass")

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        first = await engine.submit("call", "shop", "s", name="fail")
        second = await engine.submit("call", "shop", "s", name="fail")
        gate.set()
        with pytest.raises(StepFailed, match="PermanentError"):
            await first.wait(timeout=5)
        with pytest.raises(TaskCancelled):
            await second.wait(timeout=5)
        with pytest.raises(ProcessInError):
            await engine.call("shop", "s", name="fail")
        process = await engine.get("shop", "s")

    assert (process.status, process.previous_status) == ("error", "running")
    assert process.detail == "broken\\0glass"
    assert process.corrupted_by is not None


async def test_a_notify_is_retried_by_policy_and_keeps_its_place(make_engine: Any) -> None:
    shop = Namespace("shop", retry={"initial_interval": "10ms", "max_attempts": 3})
    attempts: list[int] = []

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @shop.notify
    def poke(step: Step[Any]) -> Intent[Any]:
        attempts.append(step.attempt)
        if step.attempt < 3:
            raise ValueError("not yet")
        return Intent(state="poked")

    @shop.call
    async def look(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response=step.state)

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        await engine.notify("shop", "s", name="poke")
        seen = await engine.call("shop", "s", name="look")

    assert seen == "poked"
    assert attempts == [1, 2, 3]


async def test_a_retry_after_takes_the_place_of_the_delay(make_engine: Any) -> None:
    shop = Namespace("shop", retry={"initial_interval": "1h", "max_interval": "1h"})

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta())])

    @shop.timeout
    async def fire(step: Step[Any]) -> Intent[Any]:
        if step.attempt == 1:
            raise TransientError("soon", retry_after=timedelta(milliseconds=10))
        return Intent(then=Finish())

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        await until(engine, "shop", "s", "finished")
        trace = await engine.trace("shop", "s")

    assert [(task.attempt, str(task.status)) for task in trace[1:]] == [
        (1, "error"),
        (2, "finished"),
    ]


async def test_timers_fire_by_their_times_and_an_unset_one_does_not(make_engine: Any) -> None:
    shop = Namespace("shop")
    fired: list[str | None] = []

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        timers = [SetTimer(after=timedelta(), name="second"), SetTimer(at=past, name="first")]
        never = SetTimer(after=timedelta(milliseconds=300), name="never")
        return Intent(timers=[*timers, never])

    @shop.timeout("first")
    async def first(step: Step[Any]) -> Intent[Any]:
        fired.append(step.name)
        last = SetTimer(after=timedelta(milliseconds=400), name="last")
        return Intent(timers=[UnsetTimer("never"), last])

    @shop.processor
    async def others(step: Step[Any]) -> Intent[Any]:
        fired.append(step.name)
        return Intent(then=Finish() if step.name == "last" else None)

    async with make_engine(shop) as engine:
        await engine.init("shop", "s", context={"trace": 1})
        await until(engine, "shop", "s", "finished")
        with pytest.raises(ProcessFinished):
            await engine.call("shop", "s")
        trace = await engine.trace("shop", "s")

    assert fired == ["first", "second", "last"]
    assert {str(task.context) for task in trace} == {"{'trace': 1}"}


async def test_what_comes_due_is_found_though_polls_are_rare(
    make_engine: Any, counters: Namespace[Any]
) -> None:
    @counters.timeout
    async def finish(step: Step[Any]) -> Intent[Any]:
        return Intent(then=Finish())

    @counters.call
    async def arm(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta(milliseconds=30))])

    async with make_engine(counters, worker=RARE_POLLS) as engine:
        await engine.init("counters", "c")
        requests = [Request("call", "counters", "c", {"amount": 1}, name="add") for _ in range(120)]
        tasks = await engine.submit_many(requests)
        assert [await task.wait(timeout=5) for task in tasks] == [*range(1, 121)]
        await engine.call("counters", "c", name="arm")
        await until(engine, "counters", "c", "finished")


async def test_a_removed_process_is_gone_and_its_id_may_be_used_again(make_engine: Any) -> None:
    shop = Namespace("shop")

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=1, events=["began"])

    @shop.call
    async def leave(step: Step[Any]) -> Intent[Any, str]:
        return Intent(then=Remove(), response="gone")

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        assert await engine.call("shop", "s", name="leave") == "gone"
        assert await engine.get("shop", "s") is None
        await engine.init("shop", "s")
        history = await engine.history("shop", "s")

    assert [event.event_id for event in history] == [1]


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_a_step_over_its_time_is_cut_and_its_late_result_thrown_away(
    make_engine: Any, colour: str
) -> None:
    shop = Namespace("shop", step_timeout="100ms")
    late = threading.Event()

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state="kept")

    async def wait_long(step: Step[Any]) -> Intent[Any]:
        await asyncio.Event().wait()
        return Intent(state="late")

    def block_long(step: Step[Any]) -> Intent[Any]:
        late.wait(10)
        return Intent(state="late")

    shop.call("slow")(wait_long if colour == "async" else block_long)
    async with make_engine(shop) as engine:
        await engine.init("shop", "s", timeout=5)
        with pytest.raises(StepFailed, match="StepTimeout"):
            await engine.call("shop", "s", name="slow", timeout=5)
        late.set()
        process = await engine.get("shop", "s")

    assert (process.status, process.state) == ("error", "kept")


async def test_the_next_attempt_waits_for_the_thread_of_the_last(make_engine: Any) -> None:
    shop = Namespace("shop", step_timeout="50ms", retry={"initial_interval": "0s"})
    late = threading.Event()
    running: list[int] = []
    most: list[int] = []

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta())])

    @shop.timeout
    def fire(step: Step[Any]) -> Intent[Any]:
        running.append(step.attempt)
        most.append(len(running))
        if step.attempt == 1:
            late.wait(10)
        running.remove(step.attempt)
        return Intent(then=Finish())

    async with make_engine(shop) as engine:
        await engine.init("shop", "s", timeout=5)
        while not running:
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.3, late.set)
        await until(engine, "shop", "s", "finished")

    assert most == [1, 1]


async def test_a_call_that_waits_too_long_times_out_and_its_task_goes_on(make_engine: Any) -> None:
    shop = Namespace("shop")
    gate = asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent()

    @shop.call
    async def slow(step: Step[Any]) -> Intent[Any, str]:
        await gate.wait()
        return Intent(response="done")

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        with pytest.raises(CallTimeout) as caught:
            await engine.call("shop", "s", name="slow", timeout=0.05)
        gate.set()

        assert isinstance(caught.value, TimeoutError)
        assert await engine.wait(caught.value.task_id, timeout=5) == "done"


async def test_a_step_reads_its_own_history_in_both_colours(make_engine: Any) -> None:
    shop = Namespace("shop")

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(events=[Event("a", {"by": "init"}), "b", "c"])

    @shop.call
    async def last(step: Step[Any]) -> Intent[Any, Any]:
        events = await step.history(limit=2, direction="backward")
        return Intent(response=[event.payload for event in events])

    @shop.call
    def first(step: Step[Any]) -> Intent[Any, Any]:
        [event] = step.history(limit=1)
        return Intent(response=[event.payload, event.metadata])

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")

        assert await engine.call("shop", "s", name="last") == ["c", "b"]
        assert await engine.call("shop", "s", name="first") == ["a", {"by": "init"}]


class Outlived(Namespace[Any]):
    """Calls read their history when they are told to, whatever became of their process."""

    def __init__(self) -> None:
        super().__init__("shop")
        self.begun, self.told = asyncio.Event(), asyncio.Event()
        self.read: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        @self.init
        async def begin(step: Step[Any], life: str) -> Intent[Any]:
            return Intent(events=[life])

        @self.call
        async def look(step: Step[Any]) -> None:
            self.begun.set()
            await self.told.wait()
            try:
                self.read.set_result([event.payload for event in await step.history()])
            except ProcessNotFound as e:
                self.read.set_result(e)


async def test_a_step_whose_process_was_removed_reads_nothing_of_the_next_one_of_its_id(
    make_engine: Any,
) -> None:
    outlived = Outlived()
    async with make_engine(outlived, worker=RARE_BEATS) as engine:
        await engine.init("shop", "s", {"life": "first"})
        await engine.submit("call", "shop", "s", name="look")
        await outlived.begun.wait()
        await engine.remove("shop", "s")
        await engine.init("shop", "s", {"life": "second"})
        outlived.told.set()
        read = await asyncio.wait_for(outlived.read, 30)

    assert isinstance(read, ProcessNotFound)
    assert str(read) == "process s in namespace shop was removed, and another one made since"


async def test_a_step_cannot_wait_for_its_own_process(make_engine: Any) -> None:
    shop = Namespace("shop")
    engines: list[Engine] = []

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @shop.call
    async def itself(step: Step[Any]) -> Intent[Any, str]:
        try:
            await engines[0].call("shop", step.process_id, name="itself")
        except InvalidArgument as e:
            return Intent(response=str(e))
        return Intent(response="waited")

    async with make_engine(shop) as engine:
        engines.append(engine)
        await engine.init("shop", "s")

        assert "its own process" in await engine.call("shop", "s", name="itself")


async def test_a_process_that_no_handler_takes_rejects_what_nobody_handles(
    make_engine: Any, counters: Namespace[Any]
) -> None:
    async with make_engine(counters) as engine:
        await engine.init("counters", "c")
        with pytest.raises(Rejected) as caught:
            await engine.call("counters", "c", name="ad")

        assert "no handler for call ad" in str(caught.value.payload)
        assert await status_of(engine, "counters", "c") == "running"


async def test_a_due_task_in_an_application_transaction_runs_after_its_commit(
    make_engine: Any, counters: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(counters) as engine:
        with sql.transaction():
            bound = engine.bind(sql)
            bound.submit("init", "counters", "kept", idempotency_key="k")
        with sql.transaction(force_rollback=True):
            engine.bind(sql).submit("init", "counters", "undone")
        await until(engine, "counters", "kept", "running")

        assert await engine.get("counters", "undone") is None
