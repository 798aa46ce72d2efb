"""pgprog.testing.run: whole lives of processes, on a clock that the test moves."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import (
    CriticalError,
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
    testing,
)
from pgprog.errors import (
    CallTimeout,
    ConfigError,
    InvalidArgument,
    ProcessExists,
    ProcessFinished,
    ProcessNotFound,
    QueueFull,
    Rejected,
    StaleRead,
    StepFailed,
    TaskCancelled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

START = datetime(2030, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Order:
    due: Decimal
    paid: Decimal = Decimal(0)


orders = Namespace("orders", state=Order)


@orders.init
def open_order(step: Step[Order], due: Decimal) -> Intent[Order]:
    return Intent(
        state=Order(due),
        events=[{"opened": due}],
        timers=[SetTimer(after=MONTH, name="expiry"), SetTimer(after=MONTH / 2, name="remind")],
    )


@orders.call
async def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
    if amount <= 0:
        raise Reject("nothing was paid")
    order = replace(step.state, paid=step.state.paid + amount)
    is_paid = order.paid >= order.due
    return Intent(
        state=order,
        events=[Event({"paid": amount})],
        response=order.due - order.paid,
        timers=[UnsetTimer("expiry"), UnsetTimer("remind")] if is_paid else [],
        then=Finish() if is_paid else None,
    )


@orders.timeout("remind")
def remind(step: Step[Order]) -> Intent[Order]:
    return Intent(events=[{"reminded": len(step.history())}])


@orders.timeout("expiry")
def expire(step: Step[Order]) -> Intent[Order]:
    return Intent(events=[{"expired": True}], then=Finish())


@pytest.fixture(name="t")
def serve_orders() -> Iterator[testing.Run]:
    with testing.run(orders, now=START) as run:
        yield run


def payloads(t: testing.Run, process_id: str = "o-1") -> list[object]:
    return [event.payload for event in t.history("orders", process_id)]


def test_a_month_passes_at_once_and_timers_run_at_their_times(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))
    assert t.call(pay, "o-1", amount=Decimal("4.5")) == Decimal("5.5")

    t.advance(days=29)
    before = t.get(orders, "o-1")
    t.advance(days=1)
    after = t.get(orders, "o-1", max_events=10)

    assert before is not None
    assert before.status == "running"
    assert before.timers == {"expiry": START + MONTH}
    assert after is not None
    assert after.status == "finished"
    assert after.state == Order(Decimal(10), Decimal("4.5"))
    assert [event.payload for event in after.history] == [
        {"opened": "10"},
        {"paid": "4.5"},
        {"reminded": 2},
        {"expired": True},
    ]
    assert [event.at for event in after.history] == [
        START,
        START,
        START + MONTH / 2,
        START + MONTH,
    ]
    assert t.now == START + MONTH


def test_an_order_that_is_paid_does_not_expire(t: testing.Run) -> None:
    t.init("orders", "o-1", {"due": "1"})
    t.call("orders", "o-1", {"amount": "1"}, name="pay")

    t.advance(days=1)
    assert payloads(t) == [{"opened": "1"}, {"paid": "1"}]
    with pytest.raises(ProcessFinished):
        t.call(pay, "o-1", amount=Decimal(1))

    t.advance(days=30)
    assert t.get(orders, "o-1") is None  # 30 days of retention are over
    with pytest.raises(ProcessNotFound):
        t.call(pay, "o-1", amount=Decimal(1))


def test_a_rejection_and_a_refusal_are_the_errors_of_a_client(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))

    with pytest.raises(Rejected) as raised:
        t.call(pay, "o-1", amount=Decimal(0))
    assert raised.value.payload == "nothing was paid"
    with pytest.raises(Rejected) as raised:
        t.call("orders", "o-1", {"amount": "much"}, name="pay")
    assert "amount" in str(raised.value.payload)
    with pytest.raises(ProcessExists):
        t.init(open_order, "o-1", due=Decimal(10))


def test_a_repeat_with_the_same_key_gets_the_same_answer(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))

    answers = [
        t.call("orders", "o-1", {"amount": 4}, name="pay", idempotency_key="k") for _ in range(2)
    ]

    assert answers == ["6", "6"]


def test_what_is_asked_for_later_runs_then(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))
    later = START + timedelta(hours=1)
    task = t.submit("call", orders, "o-1", {"amount": 1}, name="pay", run_at=later)

    assert t.result(task.task_id).status == "waiting"
    with pytest.raises(CallTimeout):
        task.wait(timeout=60)
    assert t.now == START + timedelta(minutes=1)
    t.advance(hours=1)

    assert task.wait() == "9"
    process = t.get(orders, "o-1")
    assert process is not None
    assert task.version == process.version


flaky = Namespace("flaky")


@dataclass
class Weather:
    """What a test lets the handlers of `flaky` meet."""

    failures: list[Exception] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)


WEATHER = Weather()


@pytest.fixture(autouse=True)
def weather() -> Weather:
    WEATHER.failures = []
    WEATHER.letters = []
    return WEATHER


@flaky.init
def begin(step: Step) -> Intent:
    return Intent(state=0)


@flaky.processor
def work(step: Step[int]) -> Intent[int, int]:
    if WEATHER.failures:
        raise WEATHER.failures.pop()
    return Intent(state=step.state + 1, response=step.attempt)


def test_a_retry_waits_by_the_policy(weather: Weather) -> None:
    weather.failures = [TransientError("rain"), TransientError("snow")]
    with testing.run(flaky, now=START) as t:
        t.init(begin, "p")
        t.notify("flaky", "p")
        assert t.explain("flaky", "p").reason == "retry"

        t.advance(seconds=4)
        assert len(weather.failures) == 1
        t.advance(seconds=11)

        process = t.get("flaky", "p")
        assert process is not None
        assert process.state == 1
        assert [record.attempt for record in t.trace("flaky", "p")] == [1, 1, 2, 3]


def test_a_failure_carries_what_its_handler_raised(weather: Weather) -> None:
    fault = PermanentError("broken", code="B")
    weather.failures = [fault]
    with testing.run(flaky) as t:
        t.init(begin, "p")
        with pytest.raises(StepFailed) as raised:
            t.call("flaky", "p")
        assert raised.value.__cause__ is fault
        assert t.get("flaky", "p").status == "error"  # type: ignore[union-attr]

        assert t.simple_repair("flaky", "p") is None
        assert t.call("flaky", "p") == 1


def test_a_critical_error_pauses_its_namespace(weather: Weather) -> None:
    weather.failures = [CriticalError("fire")]
    with testing.run(flaky) as t:
        t.init(begin, "p")
        t.init(begin, "q")
        with pytest.raises(StepFailed):
            t.call("flaky", "p")
        with pytest.raises(CallTimeout):
            t.call("flaky", "q")

        assert t.explain("flaky", "q").reason == "paused"
        assert t.resume(flaky)
        assert t.get("flaky", "q").state == 1  # type: ignore[union-attr]


def test_processes_of_several_namespaces_ask_each_other() -> None:
    shops, stores = Namespace("shops"), Namespace("stores")

    @shops.call
    def sell(step: Step) -> Intent[int, int]:
        left = t.call("stores", "s", name="take")
        t.notify("shops", "shop", name="note")
        with pytest.raises(InvalidArgument, match="own process"):
            t.call("shops", "shop", name="note")
        return Intent(state=left, response=left)

    @shops.processor
    def note(step: Step) -> Intent:
        return Intent(events=[[step.type, step.state]])

    @stores.processor
    def take(step: Step[int | None]) -> Intent[int, int]:
        left = (10 if step.state is None else step.state) - 1
        return Intent(state=left, response=left)

    with testing.run(shops, stores) as t:
        t.init("shops", "shop")
        t.init("stores", "s")

        assert t.call(sell, "shop") == 8
        assert [event.payload for event in t.history("shops", "shop")] == [
            ["init", None],
            ["notify", 8],
        ]


def test_a_process_is_carried_over_cancelled_and_removed(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))
    task = t.submit("call", "orders", "o-1", {"amount": 1}, name="pay", run_at=START + MONTH)
    assert t.cancel(task.task_id)
    with pytest.raises(TaskCancelled):
        task.wait()
    found = t.get(orders, "o-1", max_events=10)
    assert found is not None
    assert t.remove(orders, "o-1")
    assert t.get(orders, "o-1") is None

    t.put(found)
    t.advance(days=30)

    assert payloads(t) == [{"opened": "10"}, {"reminded": 1}, {"expired": True}]


def test_decimals_of_plain_json_are_numbers_when_they_are_put_here_too() -> None:
    exact = Namespace[Any]("exact", numbers="decimal")

    @exact.init
    def begin(step: Step[Any], args: Any) -> Intent[Any]:
        return Intent(state=args, events=[args], metadata={"price": args["price"]})

    with testing.run(exact) as t:
        t.init("exact", "p", {"price": Decimal("0.12345678901234567890")})
        before = t.get(exact, "p", max_events=1)
        assert before is not None
        t.remove("exact", "p")
        t.put(before)
        after = t.get(exact, "p", max_events=1)

    assert after is not None
    assert after.state == before.state == {"price": Decimal("0.12345678901234567890")}
    assert after.history[0].payload == before.history[0].payload
    assert after.metadata == before.metadata


def test_what_asks_a_client_how_fresh_a_read_is_may_ask_here(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))
    task = t.submit("call", "orders", "o-1", {"amount": 1}, name="pay", timeout=5)
    task.wait()
    assert task.version is not None

    found = t.get(orders, "o-1", at_least=task.version, max_lag=1, cache=False, timeout=5)

    assert found is not None
    assert found.state.paid == 1
    with pytest.raises(StaleRead):
        t.get("orders", "o-1", at_least=task.version + 1)
    with pytest.raises(InvalidArgument):
        t.get("orders", "o-1", at_least=-1)


@pytest.mark.parametrize("process_id", [5, "", "a" * 1025, None])
def test_an_id_that_can_be_none_is_refused_as_by_a_client(t: testing.Run, process_id: Any) -> None:
    asked: list[Any] = [t.get, t.history, t.trace, t.explain, t.remove, t.simple_repair]

    for ask in asked:
        with pytest.raises(InvalidArgument, match="process_id"):
            ask("orders", process_id)


def test_a_range_that_can_be_none_is_refused_as_by_a_client(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))

    with pytest.raises(InvalidArgument, match="max_events"):
        t.get("orders", "o-1", max_events=-1)
    with pytest.raises(InvalidArgument, match="after"):
        t.history("orders", "o-1", after="1")  # type: ignore[arg-type] # is refused


@pytest.mark.parametrize("on_full", ["refuse", "drop_lowest"])
def test_a_queue_is_full_once_that_was_measured(on_full: str) -> None:
    shop = Namespace[Any]("shop", max_queue=2, on_full=on_full)

    @shop.init
    def begin(step: Step[Any]) -> None: ...

    @shop.processor
    def take(step: Step[Any]) -> None: ...

    with testing.run(shop) as t:
        t.init("shop", "p")
        t.pause("shop")
        tasks = [t.submit("call", "shop", "p") for _ in range(3)]
        t.advance(seconds=1)
        if on_full == "refuse":
            with pytest.raises(QueueFull):
                t.submit("call", "shop", "p")
        else:
            with pytest.raises(TaskCancelled, match="queue full"):
                tasks[-1].wait()


def test_all_events_are_read_as_by_a_client(t: testing.Run) -> None:
    t.init(open_order, "o-1", due=Decimal(10))
    t.advance(MONTH)

    assert [event.event_id for event in t.events("orders", "o-1")] == [1, 2, 3]
    assert [e.event_id for e in t.events(orders, "o-1", after=3, direction="backward")] == [2, 1]


def test_many_requests_have_an_outcome_each(t: testing.Run) -> None:
    made = t.submit_many(
        [
            Request("init", "orders", "o-1", {"due": 1}),
            Request("init", "orders", "o-1", {"due": 1}),
            Request("call", "orders", "o-1", {"amount": 1}, name="pay"),
        ],
        timeout=5,
    )

    assert isinstance(made[1], ProcessExists)
    assert isinstance(made[2], testing.RunTask)
    assert made[2].wait() == "0"


class Table:
    """Rows that are kept when the block around them is left without an error."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    @contextmanager
    def connect(self) -> Iterator[list[Any]]:
        written: list[Any] = []
        yield written
        self.rows += written


letters = Namespace("letters")


@letters.init
def send(step: Step) -> Intent:
    WEATHER.letters.append("posted")
    step.history()
    with step.transaction() as connection:
        connection.append(step.process_id)
    return Intent(state=step.attempt, then=Remove() if step.process_id == "gone" else None)


def test_a_transaction_commits_with_its_step(weather: Weather) -> None:
    table = Table()
    with testing.run(letters, connect=table.connect) as t:
        t.init(send, "a")
        t.init(send, "gone")

    assert table.rows == ["a", "gone"]


@pytest.mark.parametrize("crash", [False, True])
def test_a_connection_that_refuses_the_commit_fails_the_step(crash: bool) -> None:
    @contextmanager
    def refusing() -> Iterator[None]:
        yield
        raise KeyError("a constraint that is deferred")

    guarded = Namespace[Any]("guarded")

    @guarded.init
    def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @guarded.call
    def insert(step: Step[Any]) -> Intent[Any]:
        with step.transaction():
            return Intent(state=1, events=["inserted"])

    with testing.run(guarded, connect=refusing, crash=crash) as t:
        t.init(begin, "p")
        with pytest.raises(StepFailed, match="deferred") as failed:
            t.call(insert, "p")
        process = t.get(guarded, "p")

    assert isinstance(failed.value.__cause__, KeyError)
    assert process is not None
    assert (process.status, process.state, process.last_event_id) == ("error", 0, 0)


def test_in_crash_mode_a_step_dies_at_every_boundary_and_commits_once(weather: Weather) -> None:
    table = Table()
    with testing.run(letters, connect=table.connect, crash=True) as t:
        t.init(send, "a")

        assert table.rows == ["a"]
        assert t.get("letters", "a").state == 1  # type: ignore[union-attr]
        # Before history, before and after the transaction, before the commit; and then for good.
        assert t.kills == 4
        assert len(weather.letters) == 5


def test_steps_without_an_end_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgprog.testing.driver._MOST_STEPS", 100)
    endless = Namespace("endless")

    @endless.processor
    def again(step: Step) -> Intent:
        return Intent(timers=[SetTimer(after=timedelta())])

    with testing.run(endless) as t, pytest.raises(ConfigError, match="more are due"):
        t.init("endless", "p")


def test_a_run_begins_at_a_time_with_its_zone() -> None:
    with pytest.raises(InvalidArgument, match="2030-01-01T00:00:00"):
        testing.run(orders, now=datetime(2030, 1, 1))  # noqa: DTZ001 - is refused


def test_a_handler_does_not_move_the_clock() -> None:
    hasty = Namespace("hasty")

    @hasty.processor
    def skip(step: Step) -> None:
        t.advance(days=1)

    with testing.run(hasty) as t, pytest.raises(StepFailed, match="moves the clock"):
        t.init("hasty", "p")
