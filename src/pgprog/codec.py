"""JSON in and out, exactly, and only such JSON as PostgreSQL's jsonb can hold.

Dataclasses, msgspec structs, attrs classes and pydantic models go through unharmed, with Decimal,
datetime, UUID and bytes (base64) in them.  A pydantic model is written and read by its own rules;
pydantic itself is never imported.  A pydantic dataclass is treated as any other dataclass.

What is refused before it is sent: NUL characters and lone surrogates, which jsonb cannot hold;
NaN and the infinities, which JSON cannot say; what has no JSON form; what is too big.
"""

from __future__ import annotations

import dataclasses
import types
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    Protocol,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    overload,
)

import msgspec

from pgprog.errors import ConfigError, InvalidArgument
from pgprog.texts import text_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Numbers = Literal["float", "decimal"]

T = TypeVar("T")


class Misfit(ValueError):  # noqa: N818 - a word of its own; the message carries the reason
    """JSON that does not fit the type it is read as; the message says where and why."""


def encode(value: object, *, field: str, limit: int, numbers: Numbers = "float") -> bytes:
    """Return *value* as compact JSON in UTF-8 that jsonb takes as it is.

    Decimals are written as strings; or as numbers when *numbers* is ``"decimal"``, the setting
    under which plain JSON is read back with Decimals.  Integers may have up to 4 300 digits.

    Raises:
        InvalidArgument: The value has no such form or has more than *limit* bytes; the message
            begins with *field* and says where in the value the fault is.
    """
    try:
        data = _ENCODERS[numbers].encode(value)
        _SKIMMER.decode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as e:
        msg = f"{field}: {_first_fault(value, numbers) or f'no JSON form: {e}'}"
        raise InvalidArgument(msg) from e
    if len(data) > limit:
        msg = f"{field}: {len(data)} bytes, and the limit is {limit}"
        raise InvalidArgument(msg)
    # msgspec writes NaN as null and NUL as an escape.  Both marks may also be innocent, so what
    # holds one is looked at value by value; nearly everything is done after two searches.
    if (b"null" in data or b"\\u0000" in data) and (fault := _first_fault(value, numbers)):
        msg = f"{field}: {fault}"
        raise InvalidArgument(msg)
    return data


def encode_all(
    values: Sequence[object], *, field: str, limit: int, numbers: Numbers = "float"
) -> list[bytes]:
    """Return each of *values* as `encode` does, at a third of its price where all are plain.

    Raises:
        InvalidArgument: For the first that `encode` refuses.
    """
    try:
        datas = [*map(_ENCODERS[numbers].encode, values)]
        deque(map(_SKIMMER.decode, datas), maxlen=0)
        whole, longest = b"".join(datas), max(map(len, datas), default=0)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass  # `encode` says which it is, and why
    else:
        if longest <= limit and b"null" not in whole and b"\\u0000" not in whole:
            return datas
    return [encode(value, field=field, limit=limit, numbers=numbers) for value in values]


def decode(data: bytes | None, *, numbers: Numbers = "float") -> object:
    """Return plain JSON as dicts, lists, strings, numbers, booleans and None.

    No data is None, as SQL's null is.  A number with a fraction becomes a float, or a Decimal
    with all its digits when *numbers* says so.  jsonb keeps a number's value and not its form:
    ``1e16`` comes back as an integer, and only a type makes it a float again.

    Raises:
        Misfit: The data is not JSON.
    """
    if data is None:
        return None
    try:
        return _DECODERS[numbers].decode(data)
    except (ValueError, RecursionError) as e:
        raise Misfit(str(e)) from e


class Codec(Generic[T]):
    """Write and read values of one type; None stands for plain JSON.

    A type is a class with fields (dataclass, msgspec struct, attrs, pydantic model), a scalar,
    or a generic type of these.  One codec may be used by many threads at once.

    Raises:
        ConfigError: Values of this type cannot be told apart in JSON.
    """

    @overload
    def __init__(self, type_: type[T], numbers: Numbers = "float") -> None: ...

    @overload  # plain JSON, and unions, which are no type[T]
    def __init__(self: Codec[Any], type_: object = None, numbers: Numbers = "float") -> None: ...

    def __init__(self, type_: object = None, numbers: Numbers = "float") -> None:
        self.type = type_
        self.numbers = numbers
        self._classes = None if type_ is None else _classes_with_fields(type_)
        self._read: Callable[[bytes], T] = _reader(Any if type_ is None else type_, numbers)

    def encode(self, value: T, *, field: str, limit: int) -> bytes:
        """Return *value* as `encode` does, after a look at its class.

        A dict where a class with fields is due would be written without complaint and could not
        be read again.

        Raises:
            InvalidArgument: The value is not of this type, or `encode` refuses it.
        """
        if self._classes is not None and not isinstance(value, self._classes):
            due = " or ".join(_shown(c) for c in self._classes)
            msg = f"{field}: must be {due}, not {_shown(type(value))}"
            raise InvalidArgument(msg)
        return encode(value, field=field, limit=limit, numbers=self.numbers)

    def decode(self, data: bytes | None) -> T:
        """Return the value; no data reads as JSON's null.

        Raises:
            Misfit: The data does not fit the type.
        """
        try:
            return self._read(b"null" if data is None else data)
        except (ValueError, RecursionError) as e:
            raise Misfit(_reason(e)) from e


class _PydanticModel(Protocol):
    """What is used of pydantic's BaseModel."""

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> object: ...

    def model_dump(self, *, mode: str, by_alias: bool, round_trip: bool) -> object: ...

    def model_dump_json(self, *, by_alias: bool, round_trip: bool) -> str: ...


def is_pydantic(class_: object) -> TypeGuard[type[_PydanticModel]]:
    """Return whether a type is read by pydantic's rules, which are not msgspec's."""
    return isinstance(class_, type) and hasattr(class_, "model_validate_json")


def _is_pydantic_instance(value: object) -> TypeGuard[_PydanticModel]:
    return is_pydantic(type(value))


def _reader(type_: object, numbers: Numbers) -> Callable[[bytes], Any]:
    """Return the function that reads JSON as *type_*."""
    if is_pydantic(type_):
        return type_.model_validate_json
    encoder = _ENCODERS[numbers]

    def read_custom(class_: type, plain: object) -> object:
        if class_ is object:  # which msgspec does not take for Any
            return plain
        # From JSON and not from the plain value: pydantic reads dates, bytes and tuples from
        # JSON by other rules than from Python.
        if is_pydantic(class_):
            try:
                return class_.model_validate_json(encoder.encode(plain))
            except ValueError as e:
                raise ValueError(_reason(e)) from e
        msg = f"{class_.__qualname__} cannot be read from JSON"
        raise TypeError(msg)

    float_hook = Decimal if numbers == "decimal" else None
    try:
        return msgspec.json.Decoder(type_, dec_hook=read_custom, float_hook=float_hook).decode
    except TypeError as e:
        msg = f"no codec for {type_!r}: {e}"
        raise ConfigError(msg) from e


def _reason(error: Exception) -> str:
    """Return where and why reading failed, without the input, which pydantic would repeat."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    return "; ".join(f"{e['msg']} - at `{_path(e['loc'])}`" for e in errors())


def _path(location: tuple[str | int, ...]) -> str:
    path = "$"
    for part in location:
        path = _under(path, part)
    return path


def _under(path: str, part: object) -> str:
    return (
        f"{path}.{part}" if isinstance(part, str) and part.isidentifier() else f"{path}[{part!r}]"
    )


def _classes_with_fields(type_: object) -> tuple[type, ...] | None:
    """Return the classes whose instances *type_* takes, None if it takes other things too."""
    origin = get_origin(type_)
    if origin is Annotated:
        return _classes_with_fields(get_args(type_)[0])
    if origin in (Union, types.UnionType):
        members = [_classes_with_fields(member) for member in get_args(type_)]
        return None if None in members else tuple(c for m in members if m for c in m)
    class_ = type_ if origin is None else origin
    if not isinstance(class_, type):
        return None
    has_fields = (
        class_ is type(None)
        or dataclasses.is_dataclass(class_)
        or issubclass(class_, msgspec.Struct)
        or is_pydantic(class_)
        or hasattr(class_, "__attrs_attrs__")
    )
    return (class_,) if has_fields else None


def _shown(class_: type) -> str:
    return "None" if class_ is type(None) else class_.__name__


def _first_fault(value: object, numbers: Numbers) -> str | None:
    """Return what jsonb cannot hold in *value* and where, or None."""
    kept = (Decimal,) if numbers == "decimal" else ()
    try:
        plain = msgspec.to_builtins(value, enc_hook=_as_plain, builtin_types=kept)
    except (TypeError, ValueError, RecursionError):
        return None
    for path, leaf in _leaves(plain):
        match leaf:
            case str():
                fault = text_fault(leaf)
            case float() if not isfinite(leaf):
                fault = str(leaf)
            case Decimal() if not leaf.is_finite():
                fault = str(leaf)
            case _:
                fault = None
        if fault is not None:
            return f"{fault} at `{path}`"
    return None


def _leaves(plain: object) -> Iterator[tuple[str, object]]:
    """Yield the keys and the scalars of *plain* with their paths, in no special order."""
    pending = [("$", plain)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                under = _under(path, key)
                yield under, key
                pending.append((under, item))
        elif isinstance(value, list | tuple):
            pending.extend((f"{path}[{i}]", item) for i, item in enumerate(value))
        else:
            yield path, value


def _as_json(value: object) -> object:
    """Return a form of *value* that msgspec can write, for what it does not know."""
    if _is_pydantic_instance(value):
        return msgspec.Raw(value.model_dump_json(by_alias=True, round_trip=True).encode())
    if isinstance(value, Mapping):
        return dict(value)
    msg = f"a value or a key of type {type(value).__qualname__}"
    raise TypeError(msg)


def _as_plain(value: object) -> object:
    """Return a form of *value* in which a NaN is still one."""
    if _is_pydantic_instance(value):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    if isinstance(value, msgspec.Raw):
        return _DECODERS["float"].decode(value)
    return _as_json(value)


_ENCODERS: dict[Numbers, msgspec.json.Encoder] = {
    "float": msgspec.json.Encoder(enc_hook=_as_json),
    "decimal": msgspec.json.Encoder(enc_hook=_as_json, decimal_format="number"),
}
_DECODERS: dict[Numbers, msgspec.json.Decoder[object]] = {
    "float": msgspec.json.Decoder(),
    "decimal": msgspec.json.Decoder(float_hook=Decimal),
}
# Reads over JSON without building values: what msgspec was given ready-made (Raw, a model's own
# JSON) and Decimals as numbers (NaN, keys) may have made it something else.
_SKIMMER = msgspec.json.Decoder(msgspec.Raw)
