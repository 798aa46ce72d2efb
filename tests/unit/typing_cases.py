"""What a type checker says of the public types; checked by mypy, never run."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, ParamSpec, TypeVar, assert_never, assert_type

import msgspec

from pgprog.codec import Codec
from pgprog.errors import PgprogError, for_sqlstate
from pgprog.model import UNCHANGED, Finish, Intent, Process, SetTimer, Step, Unchanged
from pgprog.namespace import Handler, Namespace

P = ParamSpec("P")
R = TypeVar("R")


class Order(msgspec.Struct):
    due: Decimal


orders = Namespace("orders", state=Order)
plain = Namespace("plain")
either = Namespace("either", state=Order | None, step_timeout="5s")

assert_type(orders, Namespace[Order])
assert_type(plain, Namespace[Any])
assert_type(either, Namespace[Any])


# ---- Intents and steps ----


def intents(order: Order) -> None:
    one: Intent[Order] = Intent(state=order, timers=[SetTimer(after=timedelta(1))], then=Finish())
    assert_type(one.response, None)
    two: Intent[Order, Decimal] = Intent(response=Decimal(1))
    assert_type(two.response, Decimal | None)
    state = two.state
    if state is UNCHANGED:
        assert_type(state, Literal[Unchanged.UNCHANGED])
    else:
        assert_type(state, Order)


def exhaustive(state: Order | Unchanged) -> None:
    match state:
        case Order():
            pass
        case Unchanged.UNCHANGED:
            pass
        case _:
            assert_never(state)


def steps(step: Step[Order], process: Process[Order]) -> None:
    assert_type(step.state, Order)
    assert_type(step.deadline, datetime)
    assert_type(process.state, Order)
    wider: Step[object] = step
    assert_type(wider.state, object)


# ---- Handlers ----


@orders.init
def open_order(step: Step[Order], args: dict[str, str]) -> Intent[Order]:
    return Intent(state=Order(due=Decimal(args["due"])))


@orders.call
async def pay(step: Step[Order], amount: Decimal, *, twice: bool = False) -> Intent[Order, Decimal]:
    return Intent(response=step.state.due - amount)


@orders.call("look")
def look(step: Step[Order]) -> Intent[Order, str] | None:
    return None


@orders.notify
async def tell(step: Step[Order], text: str) -> None: ...


@orders.timeout("expiry")
def expire(step: Step[Order]) -> None: ...


@orders.repair
async def mend(step: Step[Order]) -> Intent[Order] | None:
    return None


@orders.processor
def process(step: Step[Order], args: object) -> None: ...


@plain.call
def anything(step: Step[dict[str, int]], a: int) -> Intent[dict[str, int], int]:
    return Intent(response=step.state["a"] + a)


@orders.upcast_event(from_version=1)
def newer(payload: dict[str, int]) -> dict[str, int]:
    return payload


assert_type(look, Handler[[], str, Intent[Order, str] | None])
assert_type(expire, Handler[[], None, None])
assert_type(anything.response, Codec[int])
assert_type(newer({}), dict[str, int])


async def calls(step: Step[Order]) -> None:
    assert_type(open_order(step, {}), Intent[Order])
    assert_type(await pay(step, Decimal(1)), Intent[Order, Decimal])
    assert_type(await pay(step, amount=Decimal(1), twice=True), Intent[Order, Decimal])
    assert_type(pay.response, Codec[Decimal])
    assert_type(mend.response, Codec[None])
    assert_type(await mend(step), Intent[Order] | None)
    pay.arguments(Decimal(1), twice=True)
    pay.arguments("1")  # type: ignore[arg-type]  # not an amount
    pay.arguments()  # type: ignore[call-arg]  # no amount
    await tell(step, 5)  # type: ignore[arg-type]  # not a text
    process(step, args=None)


async def call(handler: Handler[P, R], process_id: str, *args: P.args, **kwargs: P.kwargs) -> R:
    handler.arguments(*args, **kwargs)
    return handler.response.decode(None)


async def clients() -> None:
    assert_type(await call(pay, "o-1", amount=Decimal(1)), Decimal)
    assert_type(await call(open_order, "o-1", {"due": "1"}), None)
    assert_type(await call(look, "o-1"), str)
    await call(pay, "o-1", amount="1")  # type: ignore[arg-type]  # not an amount


def a_handler_of_another_state(other: Namespace[Order]) -> None:
    @other.call  # type: ignore[arg-type]  # the step of another state
    def wrong(step: Step[int]) -> None: ...


def a_handler_that_returns_no_intent(other: Namespace[Order]) -> None:
    @other.call  # type: ignore[arg-type]  # not an intent
    def wrong(step: Step[Order]) -> int:
        return 5


# ---- Codecs and errors ----

assert_type(Codec(Order).decode(None), Order)
assert_type(Codec(list[int]).decode(None), list[int])
assert_type(Codec().decode(None), Any)
assert_type(Codec(Order | None).decode(None), Any)
assert_type(for_sqlstate("UP001"), type[PgprogError] | None)
Codec(Order).encode({}, field="state", limit=1)  # type: ignore[arg-type]  # not an Order
