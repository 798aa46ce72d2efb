"""pgprog.testing.run_step: one handler, without a database."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pgprog import Event, Finish, Intent, Namespace, Reject, SetTimer, Step
from pgprog.codec import Misfit
from pgprog.errors import ConfigError, InvalidArgument
from pgprog.testing import run_step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Order(msgspec.Struct):
    due: Decimal
    paid: Decimal = Decimal(0)


orders = Namespace("orders", state=Order, state_version=2)


@orders.upcast(from_version=1)
def add_paid(old: dict[str, object]) -> dict[str, object]:
    return {**old, "paid": "1"}


@orders.init
def open_order(step: Step[Order], due: Decimal) -> Intent[Order]:
    return Intent(
        state=Order(due), timers=[SetTimer(after=timedelta(days=3))], events=[{"due": due}]
    )


@orders.call
async def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
    if amount > step.state.due:
        raise Reject("too much")
    step.state.paid += amount
    return Intent(state=step.state, response=step.state.due - step.state.paid)


@orders.call
def spoil(step: Step[Order]) -> Intent[Order]:
    return Intent(events=[float("nan")])


@orders.call
def count(step: Step[Order]) -> Intent[Order, list[object]]:
    return Intent(
        response=[
            [event.event_id for event in step.history(limit=2)],
            [event.event_id for event in step.history(after=2)],
            [event.event_id for event in step.history(3, direction="backward")],
            step.history(limit=1, direction="backward")[0].payload,
        ]
    )


@orders.call
def write(step: Step[Order], *, fail: bool) -> None:
    with step.transaction() as connection:
        connection.append("row")
    if fail:
        raise ValueError


@orders.call
async def awrite(step: Step[Order], *, fail: bool) -> None:
    async with step.transaction() as connection:
        connection.append("row")
    if fail:
        raise ValueError


@orders.timeout
def expire(step: Step[Order]) -> Intent[Order]:
    return Intent(then=Finish())


def test_the_intent_of_a_handler_comes_back() -> None:
    intent = run_step(orders, "init", args={"due": Decimal(10)})

    assert intent.state == Order(Decimal(10))
    assert intent.timers == [SetTimer(after=timedelta(days=3))]
    assert run_step(orders, "timeout", state=Order(Decimal(1))).then == Finish()


def test_a_state_that_a_handler_changes_is_not_the_one_of_the_test() -> None:
    before = Order(Decimal(10))

    intent = run_step(orders, "call", name="pay", args={"amount": "4.50"}, state=before)

    assert intent.response == Decimal("5.50")
    assert before.paid == 0


async def test_an_async_handler_runs_in_an_async_test_too() -> None:
    intent = run_step(orders, "call", name="pay", args={"amount": 1}, state=Order(Decimal(1)))

    assert intent.response == 0


def test_what_a_handler_raises_comes_out() -> None:
    with pytest.raises(Reject) as raised:
        run_step(orders, "call", name="pay", args={"amount": 2}, state=Order(Decimal(1)))

    assert raised.value.payload == "too much"


def test_args_that_do_not_fit_do_not_reach_the_handler() -> None:
    with pytest.raises(Misfit, match="amount"):
        run_step(orders, "call", name="pay", args={"amount": "much"}, state=Order(Decimal(1)))


def test_a_task_that_no_handler_takes_is_named() -> None:
    with pytest.raises(Misfit, match="orders has no handler for call pray"):
        run_step(orders, "call", name="pray")


def test_an_intent_that_could_not_be_stored_is_refused_with_its_field() -> None:
    with pytest.raises(InvalidArgument, match=r"events\[0\]"):
        run_step(orders, "call", name="spoil", state=Order(Decimal(1)))


def test_a_handler_that_changes_nothing_has_an_empty_intent() -> None:
    bare = Namespace("bare")

    @bare.notify
    def hear(step: Step) -> None:
        pass

    assert run_step(bare, "notify", name="hear") == Intent()


def test_an_old_state_is_upcast() -> None:
    intent = run_step(
        orders, "call", name="pay", args={"amount": 2}, state={"due": "5"}, state_version=1
    )

    assert intent.response == 2


def test_history_is_read_as_from_the_database() -> None:
    history = [{"due": 1}, Event("second"), 3]

    intent = run_step(orders, "call", name="count", state=Order(Decimal(1)), history=history)

    assert intent.response == [[1, 2], [3], [2, 1], 3]


class Table:
    """Rows that are kept when the block around them is left without an error."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    @contextmanager
    def connect(self) -> Iterator[list[str]]:
        written: list[str] = []
        yield written
        self.rows += written

    async def connect_async(self) -> object:
        return self._connect_async()

    @asynccontextmanager
    async def _connect_async(self) -> AsyncIterator[list[str]]:
        with self.connect() as written:
            yield written


@pytest.mark.parametrize("name", ["write", "awrite"])
def test_a_transaction_commits_with_its_step_or_not_at_all(name: str) -> None:
    table = Table()
    connect = table.connect if name == "write" else table.connect_async

    def run(*, fail: bool) -> None:
        args = {"fail": fail}
        run_step(orders, "call", name=name, args=args, state=Order(Decimal(1)), connect=connect)

    with pytest.raises(ValueError):  # noqa: PT011 - as raised
        run(fail=True)
    assert table.rows == []
    run(fail=False)
    assert table.rows == ["row"]


def test_a_transaction_without_a_connection_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match=r"step\.transaction") as raised:
        run_step(orders, "call", name="write", args={"fail": False}, state=Order(Decimal(1)))

    assert "connect=" in str(raised.value.hint)


def test_the_timer_of_the_default_name_has_that_name() -> None:
    names = Namespace[Any]("names")

    @names.processor
    def tell(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response=step.name)

    assert run_step(names, "timeout").response == ""
    assert run_step(names, "timeout", name="fee").response == "fee"
    assert run_step(names, "init").response is None
