import dataclasses
import enum
import json
import math
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field

from pgprog.codec import Codec, Misfit, Numbers, decode, encode
from pgprog.errors import ConfigError, InvalidArgument
from pgprog.texts import check_text

MiB = 1 << 20


def encoded(value: object, **given: Any) -> bytes:
    return encode(value, **{"field": "args", "limit": MiB, **given})


def round_trip(type_: Any, value: object) -> object:
    codec: Codec[Any] = Codec(type_)
    return codec.decode(codec.encode(value, field="state", limit=MiB))


class Colour(enum.Enum):
    RED = "red"


class Item(msgspec.Struct):
    price: Decimal
    ratio: float = 1.0
    note: str | None = None


@dataclasses.dataclass
class Order:
    items: list[Item]
    at: datetime
    day: date
    hour: time
    took: timedelta
    key: uuid.UUID
    blob: bytes
    colour: Colour
    by_number: dict[int, str]
    extra: dict[str, object]


class Model(BaseModel):
    price: Decimal = Decimal(1)
    ratio: float = 1.0
    blob: bytes = b"a"
    day: date | None = None
    items: tuple[int, ...] = ()
    other: int = Field(default=0, alias="otherName")


class Text(BaseModel):
    note: str


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date


ORDER = Order(
    items=[Item(Decimal("4.500"), 0.1, "x"), Item(Decimal("1E+30"))],
    at=datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
    day=date(2030, 1, 1),
    hour=time(1, 2, 3),
    took=timedelta(days=3, microseconds=1),
    key=uuid.UUID(int=7),
    blob=b"\x00\xff",
    colour=Colour.RED,
    by_number={1: "one"},
    extra={"a": [1, 2.5, None, True, {"b": "ü\u2028"}]},
)


# ---- Plain JSON ----


def test_json_is_compact_and_utf8() -> None:
    assert encoded({"a": [1, "ü", None, True]}) == '{"a":[1,"ü",null,true]}'.encode()


@pytest.mark.parametrize("number", [2**63, -(2**64), 10**30, 10**4299])
def test_integers_beyond_64_bits_keep_all_digits(number: float) -> None:
    assert decode(encoded([number])) == [number]


def test_an_integer_with_more_digits_than_python_writes_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"args: no JSON form: .*4300 digits"):
        encoded(10**4300)


def test_no_data_is_none() -> None:
    assert decode(None) is None
    assert decode(b"null") is None


@pytest.mark.parametrize("data", [b"", b"{", b"1 2", b"[1,]", b"[" * 100_000, b"\xff"])
def test_what_is_not_json_is_a_misfit(data: bytes) -> None:
    with pytest.raises(Misfit):
        decode(data)


def test_a_fraction_is_a_float_unless_the_namespace_says_decimal() -> None:
    data = b'[1.10,1,123456789012345678901234567890.5,"1.5"]'

    assert decode(data) == [1.1, 1, 1.2345678901234568e29, "1.5"]
    assert decode(data, numbers="decimal") == [
        Decimal("1.10"),
        1,
        Decimal("123456789012345678901234567890.5"),
        "1.5",
    ]


def test_decimals_of_plain_json_are_written_as_they_were_read() -> None:
    data = b'{"a":[1.10,4.50,1,0.000001]}'

    assert encoded(decode(data, numbers="decimal"), numbers="decimal") == data


def test_mappings_of_any_kind_are_objects() -> None:
    assert encoded([MappingProxyType({"a": 1}), OrderedDict(b=2)]) == b'[{"a":1},{"b":2}]'


# ---- What jsonb cannot hold ----


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("\0", "$"),
        ({"a": {"b": ["", "x\0y"]}}, "$.a.b[1]"),
        ({"a b": {"c\0": 1}}, r"$['a b']['c\x00']"),
        ({"a": "\\\0"}, "$.a"),
        (Item(Decimal(1), note="\0"), "$.note"),
        ([Text(note="\0")], "$[0].note"),
    ],
)
def test_a_nul_is_refused_wherever_it_stands(value: Any, path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        encoded(value)

    assert str(caught.value) == f"args: a NUL character at `{path}`"


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "a\\u0000b\\", "u0000", "\x01"])
def test_text_that_only_looks_like_an_escaped_nul_is_legal(text: Any) -> None:
    data = encoded({text: [text, None]})

    assert decode(data) == {text: [text, None]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("\ud800", "$"),
        ({"a": ["x\udfffy"]}, "$.a[0]"),
        ({"\ud83d": 1}, r"$['\ud83d']"),
        (Item(Decimal(1), note="\ud800"), "$.note"),
    ],
)
def test_a_lone_surrogate_is_refused_wherever_it_stands(value: Any, path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        encoded(value)

    assert str(caught.value).startswith("args: the lone surrogate U+D")
    assert str(caught.value).endswith(f" at `{path}`")


def test_a_lone_surrogate_in_a_model_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"args: the lone surrogate U\+D800 at `\$.note`"):
        encoded(Text.model_construct(note="\ud800"))


def test_characters_outside_the_basic_plane_are_no_surrogates() -> None:
    assert decode(encoded("😀\ud7ff\ue000")) == "😀\ud7ff\ue000"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("place", "path"),
    [
        (lambda n: n, "$"),
        (lambda n: {"a": [None, n]}, "$.a[1]"),
        (lambda n: [Item(Decimal(1), ratio=n)], "$[0].ratio"),
        (lambda n: dataclasses.replace(ORDER, extra={"x": n}), "$.extra.x"),
        (lambda n: Model(ratio=n), "$.ratio"),
        (lambda n: {"m": Model(ratio=n)}, "$.m.ratio"),
    ],
)
def test_a_number_that_json_cannot_say_is_refused_wherever_it_stands(
    number: float, place: Callable[[float], object], path: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        encoded(place(number))

    assert str(caught.value) == f"args: {number} at `{path}`"


def test_null_and_text_about_null_are_legal() -> None:
    value = {"null": [None, "null", "NaN", "Infinity"], "note": Item(Decimal(1))}

    assert json.loads(encoded(value))["null"] == [None, "null", "NaN", "Infinity"]


def test_a_decimal_that_is_no_number_goes_as_text_but_not_as_a_number() -> None:
    assert round_trip(Item, Item(Decimal("Infinity"))) == Item(Decimal("Infinity"))
    with pytest.raises(InvalidArgument, match=r"args: -Infinity at `\$.a`"):
        encoded({"a": Decimal("-Infinity")}, numbers="decimal")


def test_a_decimal_as_a_key_never_makes_broken_json() -> None:
    assert encoded({Decimal("1.5"): 1}) == b'{"1.5":1}'
    with suppress(InvalidArgument):  # msgspec before 0.23 forgets the quotes
        assert json.loads(encoded({Decimal("1.5"): 1}, numbers="decimal")) == {"1.5": 1}


def test_ready_made_json_that_is_broken_is_refused() -> None:
    assert encoded([msgspec.Raw(b'{"a":1}')]) == b'[{"a":1}]'
    with pytest.raises(InvalidArgument, match="args: no JSON form"):
        encoded([msgspec.Raw(b"{a")])


def test_a_model_cannot_smuggle_what_json_cannot_say() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants")
        x: float

    with pytest.raises(InvalidArgument, match=r"args: nan at `\$.x`"):
        encoded(Loose(x=math.nan))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "a value or a key of type object"),
        ({"a": [1j]}, "a value or a key of type complex"),
        (print, "builtin_function_or_method"),
        ({(1, 2): 3}, "a value or a key of type tuple"),
    ],
)
def test_what_has_no_json_form_is_refused_with_its_type(value: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"response: no JSON form: .*{reason}"):
        encoded(value, field="response")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)

    with pytest.raises(InvalidArgument, match=r"args: no JSON form: .*recursion"):
        encoded(value)


# ---- Limits ----


def test_a_value_of_exactly_the_limit_is_taken() -> None:
    assert len(encoded("x" * 98, limit=100)) == 100


def test_a_value_over_the_limit_is_refused_with_both_sizes() -> None:
    with pytest.raises(InvalidArgument) as caught:
        encoded("ü" * 50, field="events[3]", limit=100)

    assert str(caught.value) == "events[3]: 102 bytes, and the limit is 100"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("a\0", "holds a NUL character"),
        ("\udc80", "holds the lone surrogate U+DC80"),
        ("ü" * 151, "has 302 bytes, and the limit is 300"),
        (7, "must be text, not int"),
        (None, "must be text, not NoneType"),
    ],
)
def test_an_id_that_postgresql_cannot_hold_is_refused(text: Any, fault: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_text(text, field="process_id", limit=300)

    assert str(caught.value) == f"process_id {fault}"


def test_an_id_of_exactly_the_limit_is_taken() -> None:
    check_text("ü" * 150, field="process_id", limit=300)


# ---- Types ----


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Order, ORDER),
        (Order | None, ORDER),
        (Order | None, None),
        (list[Item], [Item(Decimal("0.10"))]),
        (Decimal, Decimal("-0.00")),
        (Decimal, Decimal("1.23456789012345678901234567890123456789E-7")),
        (datetime, datetime(2030, 1, 1)),  # noqa: DTZ001 - a naive one stays naive
        (uuid.UUID, uuid.UUID(int=2**127)),
        (bytes, bytes(range(256))),
        (dict[uuid.UUID, list[Decimal]], {uuid.UUID(int=1): [Decimal("1.0")]}),
        (Annotated[int, msgspec.Meta(ge=1)], 10**30),
        (Model, Model(price=Decimal("1.10"), day=ORDER.day, items=(1, 2), otherName=5)),
        (Model | None, Model()),
        (dict[str, list[Model]], {"a": [Model(price=Decimal("0.300"))]}),
        (Strict | None, Strict(day=ORDER.day)),
    ],
)
def test_typed_values_come_back_exactly(type_: Any, value: Any) -> None:
    again = round_trip(type_, value)

    assert again == value
    assert repr(again) == repr(value)


def test_a_typed_decimal_is_read_from_a_number_with_all_its_digits() -> None:
    data = b'{"price":123456789012345678901234567890.12}'

    assert Codec(Item).decode(data).price == Decimal("123456789012345678901234567890.12")


def test_a_typed_float_is_read_from_an_integer_as_jsonb_writes_great_ones() -> None:
    assert repr(Codec(float).decode(b"15" + b"0" * 307)) == "1.5e+308"


@pytest.mark.parametrize("numbers", ["float", "decimal"])
def test_untyped_parts_of_a_type_follow_the_setting(numbers: Numbers) -> None:
    codec = Codec(dict[str, Any], numbers)

    assert codec.decode(b'{"a":1.10}') == {"a": decode(b"1.10", numbers=numbers)}


@pytest.mark.parametrize(
    ("type_", "data", "message"),
    [
        (Item, b'{"price":"1","ratio":"x"}', "Expected `float`, got `str` - at `$.ratio`"),
        (Item, b"[]", "Expected `object`, got `array`"),
        (Item, b"{}", "Object missing required field `price`"),
        (Item, None, "Expected `object`, got `null`"),
        (int, b"1.5", "Expected `int`, got `float`"),
        (
            Model,
            b'{"items":[1,"secret"]}',
            "unable to parse string as an integer - at `$.items[1]`",
        ),
        (list[Model], b'[{"ratio":"secret"}]', "unable to parse string as a number - at `$.ratio`"),
        (Item, b"{", "truncated"),
        (Model, b"{", "Invalid JSON"),
    ],
)
def test_what_does_not_fit_says_where_and_why_but_not_what_it_was(
    type_: Any, data: bytes, message: str
) -> None:
    codec: Codec[Any] = Codec(type_)

    with pytest.raises(Misfit) as caught:
        codec.decode(data)

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        (Item, {"price": 1}, "state: must be Item, not dict"),
        (Item, None, "state: must be Item, not None"),
        (Model, Item(Decimal(1)), "state: must be Model, not Item"),
        (Item | None, 5, "state: must be Item or None, not int"),
        (Annotated[Item, "x"], "x", "state: must be Item, not str"),
        (type(None), 5, "state: must be None, not int"),
    ],
)
def test_a_value_of_another_class_is_refused_before_it_is_stored(
    type_: Any, value: Any, message: str
) -> None:
    codec: Codec[Any] = Codec(type_)

    with pytest.raises(InvalidArgument) as caught:
        codec.encode(value, field="state", limit=MiB)

    assert str(caught.value) == message


def test_plain_json_takes_values_of_any_class() -> None:
    codec: Codec[Any] = Codec(None)

    assert codec.encode(Item(Decimal("1.0")), field="state", limit=MiB).startswith(
        b'{"price":"1.0"'
    )
    assert codec.decode(None) is None


def test_a_type_that_json_cannot_tell_apart_is_refused_when_it_is_declared() -> None:
    with pytest.raises(ConfigError, match="no codec for"):
        Codec(list[int] | set[int])


def test_a_type_that_cannot_be_read_is_a_misfit() -> None:
    with pytest.raises(Misfit, match="complex cannot be read from JSON"):
        Codec(complex).decode(b"1")


def test_what_msgspec_refuses_is_a_value_error() -> None:
    assert issubclass(msgspec.DecodeError, ValueError)  # from 0.21 on, and all of us rely on it
