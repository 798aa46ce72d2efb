import functools
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from pydantic import BaseModel

from pgprog.codec import Codec, Misfit
from pgprog.config import NamespaceSettings
from pgprog.errors import ConfigError, InvalidArgument
from pgprog.model import Intent, ProcessStatus, Step, TaskId, TaskType
from pgprog.namespace import Handler, Namespace


class Order(msgspec.Struct):
    due: Decimal
    paid: Decimal = Decimal(0)


class Opening(BaseModel):
    due: Decimal
    note: str = ""


class Access:
    def history(self, **asked: object) -> object:
        raise NotImplementedError

    def transaction(self) -> object:
        raise NotImplementedError


STEP: Step[Any] = Step(
    namespace="orders",
    process_id="o-1",
    task_id=TaskId(1),
    type=TaskType.CALL,
    name="pay",
    args=None,
    context=None,
    attempt=1,
    state=Order(due=Decimal(10)),
    metadata=None,
    status=ProcessStatus.RUNNING,
    last_event_id=0,
    version=1,
    deadline=datetime(2030, 1, 1, tzinfo=UTC),
    _access=Access(),
)


@pytest.fixture
def orders() -> Namespace[Order]:
    return Namespace("orders", state=Order)


def ran(handler: Handler[..., Any, Any], raw: bytes | None) -> Any:
    """Return the first event of what *handler* makes of *raw*."""
    intent = handler.run(STEP, raw)
    assert isinstance(intent, Intent)
    return intent.events[0]


def handler_of(function: Callable[..., Any], *, numbers: str = "float") -> Handler[..., Any]:
    return Namespace("n", numbers=numbers).add(function, type_=TaskType.CALL, name="f")


# ---- Names ----


def test_a_call_and_a_notify_have_the_name_of_their_function(orders: Namespace[Order]) -> None:
    @orders.call
    def pay(step: Step[Order]) -> None: ...

    @orders.notify
    def tell(step: Step[Order]) -> None: ...

    assert (pay.type, pay.name, pay.namespace) == (TaskType.CALL, "pay", "orders")
    assert (tell.type, tell.name) == (TaskType.NOTIFY, "tell")
    assert orders.resolve(TaskType.CALL, "pay") is pay
    assert orders.resolve(TaskType.NOTIFY, "tell") is tell
    assert orders.resolve(TaskType.NOTIFY, "pay") is None
    assert orders.resolve(TaskType.CALL, None) is None


def test_a_name_may_be_given(orders: Namespace[Order]) -> None:
    @orders.call("pay-in")
    def pay(step: Step[Order]) -> None: ...

    assert orders.resolve(TaskType.CALL, "pay-in") is pay
    assert orders.resolve(TaskType.CALL, "pay") is None


def test_an_init_and_a_repair_take_tasks_without_a_name(orders: Namespace[Order]) -> None:
    @orders.init
    def open_order(step: Step[Order]) -> None: ...

    @orders.init("import")
    def import_order(step: Step[Order]) -> None: ...

    @orders.repair
    def mend(step: Step[Order]) -> None: ...

    assert orders.resolve(TaskType.INIT, None) is open_order
    assert orders.resolve(TaskType.INIT, "import") is import_order
    assert orders.resolve(TaskType.INIT, "other") is None
    assert orders.resolve(TaskType.REPAIR, None) is mend


def test_a_timeout_without_a_name_is_that_of_the_default_timer(orders: Namespace[Order]) -> None:
    @orders.timeout
    def expire(step: Step[Order]) -> None: ...

    @orders.timeout("reminder")
    def remind(step: Step[Order]) -> None: ...

    assert expire.name == ""
    assert orders.resolve(TaskType.TIMEOUT, "") is expire
    assert orders.resolve(TaskType.TIMEOUT, None) is expire
    assert orders.resolve(TaskType.TIMEOUT, "reminder") is remind
    assert orders.resolve(TaskType.TIMEOUT, "other") is None


def test_the_processor_takes_what_no_handler_takes_but_never_a_remove(
    orders: Namespace[Order],
) -> None:
    @orders.call
    def pay(step: Step[Order]) -> None: ...

    @orders.processor
    def process(step: Step[Order], args: object) -> Intent[Order, str]:
        return Intent(events=[args], response="x")

    taken = orders.resolve(TaskType.CALL, "other")

    assert taken is not None
    assert (taken.type, taken.name, taken.function) == (TaskType.CALL, "other", process)
    assert ran(taken, b'{"a":1}') == {"a": 1}
    assert orders.resolve(TaskType.CALL, "pay") is pay
    assert orders.resolve(TaskType.REMOVE, None) is None
    assert orders.handlers == (pay,)


def test_one_function_may_take_tasks_of_several_types(orders: Namespace[Order]) -> None:
    @orders.call
    @orders.notify
    def pay(step: Step[Order], amount: Decimal) -> Intent[Order]:
        return Intent(events=[amount])

    told = orders.resolve(TaskType.NOTIFY, "pay")

    assert told is not None
    assert told.function is pay.function
    assert ran(pay, b'{"amount":"1.50"}') == Decimal("1.50")


@pytest.mark.parametrize("name", ["", "a\0", "ü" * 129])
def test_a_namespace_needs_a_name_that_postgresql_can_hold(name: str) -> None:
    with pytest.raises(InvalidArgument, match="namespace"):
        Namespace(name)


def test_the_name_of_an_operation_must_be_one_that_postgresql_can_hold(
    orders: Namespace[Order],
) -> None:
    with pytest.raises(InvalidArgument, match=r"the name of .*expire holds a NUL character"):

        @orders.timeout("a\0")
        def expire(step: Step[Order]) -> None: ...


def test_a_namespace_may_have_a_slash_in_its_name() -> None:
    assert Namespace("shop/orders").name == "shop/orders"


# ---- Two of one thing ----


def test_two_handlers_of_the_same_tasks_are_refused_with_both_names(
    orders: Namespace[Order],
) -> None:
    @orders.call("pay")
    def first(step: Step[Order]) -> None: ...

    with pytest.raises(ConfigError) as caught:

        @orders.call("pay")
        def second(step: Step[Order]) -> None: ...

    message = str(caught.value)
    assert message.startswith("call 'pay' of namespace orders has two handlers: ")
    assert ".first, " in message
    assert message.endswith(".second")


def test_two_processors_are_refused_with_both_names(orders: Namespace[Order]) -> None:
    def first(step: object) -> None: ...
    def second(step: object) -> None: ...

    orders.processor(first)
    with pytest.raises(ConfigError, match=r"two handlers: .*\.first, .*\.second"):
        orders.processor(second)


# ---- Args ----


def test_parameters_are_keys_of_the_args_read_by_their_annotations() -> None:
    def f(
        step: object,
        amount: Decimal,
        at: datetime,
        opening: Opening,
        size: Annotated[int, msgspec.Meta(ge=1)] = 5,
    ) -> Intent[Any]:
        return Intent(events=[(amount, at, opening, size)])

    raw = b'{"amount":1.10,"at":"2030-01-01T00:00:00Z","opening":{"due":"2.50"}}'

    assert ran(handler_of(f), raw) == (
        Decimal("1.10"),
        datetime(2030, 1, 1, tzinfo=UTC),
        Opening(due=Decimal("2.50")),
        5,
    )


def test_a_parameter_called_args_takes_the_whole() -> None:
    def f(step: object, args: Opening) -> Intent[Any]:
        return Intent(events=[args])

    assert ran(handler_of(f), b'{"due":"2.50"}') == Opening(due=Decimal("2.50"))


def test_args_without_an_annotation_are_plain_json_of_any_shape() -> None:
    def f(step, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - the case
        return Intent(events=[args])

    assert ran(handler_of(f), b"[1,1.5]") == [1, 1.5]
    assert ran(handler_of(f), None) is None
    assert ran(handler_of(f, numbers="decimal"), b"1.50") == Decimal("1.50")


@pytest.mark.parametrize("raw", [None, b"null"])
def test_null_is_no_args_and_leaves_defaults_alone(raw: bytes | None) -> None:
    def f(step: object, size: int = 5) -> Intent[Any]:
        return Intent(events=[size])

    def g(step: object, args: dict[str, int] | str = "none") -> Intent[Any]:
        return Intent(events=[args])

    assert ran(handler_of(f), raw) == 5
    assert ran(handler_of(g), raw) == "none"


def test_other_keys_go_where_two_stars_are() -> None:
    def f(step: object, a: int, **rest: Decimal) -> Intent[Any]:
        return Intent(events=[(a, rest)])

    assert ran(handler_of(f), b'{"b":"1.0","a":1}') == (1, {"b": Decimal("1.0")})


def one(step: object, amount: int) -> Intent[Any]:
    return Intent(events=[amount])


def none(step: object) -> None: ...


def whole(step: object, args: dict[str, int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "raw", "message"),
    [
        (one, b'{"amount":1,"amuont":2}', ".one: unknown amuont; known are amount"),
        (none, b'{"a":1,"b":2}', ".none: unknown a, b; known are none"),
        (one, b"{}", ".one: missing amount"),
        (one, None, ".one: missing amount"),
        (one, b"[1]", ".one: Expected `object`, got `array`"),
        (one, b'{"amount":"1"}', ".one: Expected `int`, got `str`"),
        (whole, b'{"a":"1"}', ".whole: Expected `int`, got `str` - at `$[...]`"),
        (whole, None, ".whole: Expected `object`, got `null`"),
    ],
)
def test_args_that_do_not_fit_are_a_misfit_and_the_handler_is_not_called(
    function: Callable[..., Any], raw: bytes | None, message: str
) -> None:
    with pytest.raises(Misfit) as caught:
        handler_of(function).run(STEP, raw)

    assert message in str(caught.value)


def test_a_client_binds_what_it_calls_with_to_the_keys_of_the_args() -> None:
    handler = handler_of(lambda step, a, b=2, **rest: None)

    assert handler.arguments(1) == {"a": 1}
    assert handler.arguments(1, b=3, c=4) == {"a": 1, "b": 3, "c": 4}


def test_a_client_gives_the_whole_to_a_handler_that_takes_it(orders: Namespace[Order]) -> None:
    @orders.call
    def pay(step: Step[Order], args: Opening | None = None) -> None: ...

    opening = Opening(due=Decimal(1))

    assert pay.arguments(opening) is opening
    assert pay.arguments(args=opening) is opening
    assert pay.arguments() is None


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"amount": 1})])
def test_a_client_cannot_call_a_handler_as_python_could_not(
    args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    with pytest.raises(TypeError):
        handler_of(one).arguments(*args, **kwargs)


# ---- What cannot be a handler ----


def no_step() -> None: ...
def step_by_name(*, step: object) -> None: ...
def only_positional(step: object, a: int, /) -> None: ...
def starred(step: object, *rest: int) -> None: ...
def args_and_more(step: object, args: dict[str, int], b: int) -> None: ...
def unresolved(step: "Unknown", a: "Missing") -> None: ...  # type: ignore[name-defined] # noqa: F821
def unreadable(step: object, a: list[int] | set[int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_step, "no_step cannot be a handler: its first parameter must be the step"),
        (step_by_name, "its first parameter must be the step"),
        (only_positional, "args come by name, so a cannot be given"),
        (starred, "args come by name, so rest cannot be given"),
        (args_and_more, "args takes everything, which leaves nothing for b"),
        (unresolved, "'Missing' cannot be resolved"),
        (unreadable, "unreadable cannot be a handler: no codec for"),
    ],
)
def test_a_function_that_cannot_be_a_handler_is_refused_when_it_is_declared(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        handler_of(function)

    assert message in str(caught.value)


def test_the_annotation_of_the_step_need_not_be_known_at_run_time(orders: Namespace[Order]) -> None:
    def f(step: "Unknown", a: "Decimal") -> "Intent[Order, Decimal]":  # type: ignore[name-defined] # noqa: F821
        return Intent(events=[a])

    assert ran(handler_of(f), b'{"a":"1.50"}') == Decimal("1.50")


# ---- Functions of either colour ----


async def test_sync_and_async_functions_are_equal(orders: Namespace[Order]) -> None:
    @orders.call
    async def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
        return Intent(response=amount)

    coroutine = pay.run(STEP, b'{"amount":"2.50"}')

    assert pay.is_async
    assert inspect.isawaitable(coroutine)
    assert await coroutine == Intent(response=Decimal("2.50"))
    assert await pay(STEP, Decimal(1)) == Intent(response=Decimal(1))


def test_a_handler_is_called_like_its_function(orders: Namespace[Order]) -> None:
    @orders.call
    def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
        """Pay some."""
        return Intent(response=step.state.due - amount)

    assert pay(STEP, Decimal(1)) == Intent(response=Decimal(9))
    assert pay(STEP, amount=Decimal(1)) == Intent(response=Decimal(9))
    assert (inspect.getdoc(pay), pay.is_async) == ("Pay some.", False)
    assert list(inspect.signature(pay).parameters) == ["step", "amount"]


def test_a_partial_function_can_be_a_handler(orders: Namespace[Order]) -> None:
    handler = orders.add(functools.partial(one, amount=3), type_=TaskType.CALL, name="f")

    assert ran(handler, None) == 3


# ---- Responses ----


def decimal_response(step: object) -> Intent[Order, Decimal]:
    return Intent()


def optional_response(step: object) -> Intent[Order, Decimal] | None:
    return None


def no_response(step: object) -> Intent[Order]:
    return Intent()


def nothing(step: object) -> None: ...


def any_response(step: object) -> Intent:
    return Intent()


@pytest.mark.parametrize(
    ("function", "raw", "response"),
    [
        (decimal_response, b'"1.50"', Decimal("1.50")),
        (decimal_response, None, None),
        (optional_response, b"1.50", Decimal("1.50")),
        (no_response, None, None),
        (nothing, None, None),
        (any_response, b'{"a":1}', {"a": 1}),
    ],
)
def test_a_response_is_read_by_the_annotation_of_the_handler(
    function: Callable[..., Any], raw: bytes | None, response: object
) -> None:
    assert handler_of(function).response.decode(raw) == response


@pytest.mark.parametrize("function", [no_response, nothing])
def test_a_response_of_a_handler_that_says_it_has_none_is_refused(
    function: Callable[..., Any],
) -> None:
    with pytest.raises(InvalidArgument, match="response: must be None, not int"):
        handler_of(function).response.encode(5, field="response", limit=100)


# ---- State ----


def test_a_state_comes_back_exactly(orders: Namespace[Order]) -> None:
    state = Order(due=Decimal("1.10"))

    assert orders.load_state(orders.encode_state(state), 1) == state
    assert orders.load_state(None, 1) is None


def test_a_state_of_another_class_or_size_is_refused() -> None:
    small: Namespace[Any] = Namespace("n", state=dict, limits={"state_bytes": 10})

    with pytest.raises(InvalidArgument, match="state: 13 bytes, and the limit is 10"):
        small.encode_state({"a": "12345"})
    with pytest.raises(InvalidArgument, match="state: must be Order, not dict"):
        Namespace[Any]("orders", state=Order).encode_state({"due": 1})


def test_an_old_state_is_upcast_version_by_version() -> None:
    orders = Namespace("orders", state=Order, state_version=3)

    @orders.upcast(from_version=2)
    def to_three(state: dict[str, Any]) -> Order:
        return Order(due=Decimal(state["due"]) / 100)

    @orders.upcast(from_version=1)
    def to_two(state: dict[str, Any]) -> dict[str, Any]:
        return {"due": state["cents"]}

    assert orders.load_state(b'{"cents":150}', 1) == Order(due=Decimal("1.5"))
    assert orders.load_state(b'{"due":150}', 2) == Order(due=Decimal("1.5"))
    assert orders.load_state(b'{"due":"1.5"}', 3) == Order(due=Decimal("1.5"))
    assert to_two({"cents": 1}) == {"due": 1}


def test_an_old_event_is_upcast_likewise() -> None:
    orders = Namespace("orders", state_version=2)

    @orders.upcast_event(from_version=1)
    def to_two(payload: dict[str, Any]) -> dict[str, Any]:
        return {"new": payload["old"]}

    assert orders.load_event({"old": 1}, 1) == {"new": 1}
    assert orders.load_event({"new": 1}, 2) == {"new": 1}


def test_a_state_without_a_way_to_this_version_is_a_misfit() -> None:
    orders = Namespace("orders", state=Order, state_version=3)
    orders.upcast(from_version=1)(dict)

    with pytest.raises(Misfit, match="no upcast from version 2 of the state of namespace orders"):
        orders.load_state(b"{}", 1)
    with pytest.raises(Misfit, match=r"version 4 of .* is after the latest here, 3"):
        orders.load_state(b"{}", 4)


def test_an_upcast_that_misses_the_type_is_a_misfit() -> None:
    orders = Namespace("orders", state=Order, state_version=2)
    orders.upcast(from_version=1)(lambda state: {"due": "much"})

    with pytest.raises(Misfit, match=r"at `\$.due`"):
        orders.load_state(b"{}", 1)


@pytest.mark.parametrize("version", [0, 2, 3])
def test_an_upcast_needs_a_version_after_it(version: int) -> None:
    orders = Namespace("orders", state_version=2)

    with pytest.raises(ConfigError, match="the latest version is 2"):
        orders.upcast(from_version=version)(dict)


def test_two_upcasts_of_one_version_are_refused() -> None:
    orders = Namespace("orders", state_version=2)
    orders.upcast(from_version=1)(dict)

    with pytest.raises(ConfigError, match=r"two upcasts: builtins\.dict, builtins\.list"):
        orders.upcast(from_version=1)(list)


# ---- Settings ----


def test_settings_are_given_in_code() -> None:
    orders = Namespace("orders", step_timeout="5s", max_queue=7, retry={"max_attempts": 9})

    assert orders.settings.step_timeout == timedelta(seconds=5)
    assert orders.settings.max_queue == 7
    assert orders.settings.retry.max_attempts == 9


def test_settings_that_are_wrong_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Namespace("orders", step_timeot="5s", max_queue=0)

    assert str(caught.value).splitlines() == [
        "2 faults in Namespace('orders'):",
        "  step_timeot: unknown; did you mean step_timeout?",
        "  max_queue: 0 is not a whole number from 1 to 1000000000",
    ]


def test_the_same_handlers_can_run_under_other_settings() -> None:
    orders = Namespace("orders", state=Order, state_version=2, max_queue=5)
    orders.upcast(from_version=1)(lambda state: {"due": 1})

    @orders.call
    def pay(step: Step[Order], args: object) -> Intent[Order]:
        return Intent(events=[args])

    orders.processor(one)
    other = orders.with_settings(NamespaceSettings(numbers="decimal"))
    again = other.resolve(TaskType.CALL, "pay")

    assert (orders.settings.max_queue, other.settings.max_queue) == (5, 100_000)
    assert again is not None
    assert ran(again, b"1.50") == Decimal("1.50")
    assert ran(pay, b"1.50") == 1.5
    assert other.resolve(TaskType.INIT, None) is not None
    assert other.load_state(b"{}", 1) == Order(due=Decimal(1))


def test_a_namespace_gives_its_codec() -> None:
    assert isinstance(Namespace("n").state_codec, Codec)
