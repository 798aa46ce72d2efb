"""Plain data read into frozen dataclasses, with all its faults found at once.

The dataclasses are the schema.  A field's annotation says what it takes, and its range in words:
``Annotated[timedelta, "1s to 10m"]``; an int whose range has bytes (``"1KiB to 1GiB"``) is a size.
"""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache
from math import isfinite
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NoReturn,
    Protocol,
    Self,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from pgprog.config.units import format_duration, parse_duration, parse_size
from pgprog.errors import ConfigError
from pgprog.texts import text_fault
from pgprog.times import plain_duration

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FAULTY = object()
_SECRET = ("dsn", "direct_dsn")  # a fault in them is told without them: they may hold a password

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """How one value is read, and the words for what it may be.

    *parse* raises ValueError or TypeError for anything else.
    """

    words: str
    parse: Callable[[object], object]


@runtime_checkable
class Section(Protocol):
    """A class that reads itself, for a section that is not laid out as its fields are."""

    @classmethod
    def read_section(cls, raw: object, *, path: str, reader: Reader) -> Self | None:
        """Return the section, or None after telling *reader* its faults."""
        ...


class Reader:
    """Reads values and collects faults; each tells path, value and what is allowed."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._origins: Mapping[str, str] = {}

    def add_fault(self, path: str, fault: str) -> None:
        """Note that the value at *path* is wrong."""
        origin = f" (from {self._origins[path]})" if path in self._origins else ""
        self.faults.append(f"{path}{origin}: {fault}" if path else fault)

    def add_unknown(self, path: str, *, known: Iterable[str]) -> None:
        """Note that nothing is called as *path* ends; what comes closest is suggested."""
        close = difflib.get_close_matches(path.rpartition(".")[2], known, n=1)
        advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        self.add_fault(path, f"unknown; {advice}")

    def checked(self, value: T | None, *, where: str) -> T:
        """Return *value*, if it was read without a fault.

        Raises:
            ConfigError: There are faults; the message lists them all, one a line.
        """
        if value is None or self.faults:
            count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
            msg = "\n  ".join([f"{count} in {where}:", *self.faults])
            raise ConfigError(msg)
        return value

    def read(
        self, class_: type[D], plain: Mapping[str, object], *, origins: Mapping[str, str]
    ) -> D | None:
        """Return a *class_* from the whole of *plain*, None if there are faults.

        *origins* says where the value at a path came from, if not from its place in the file.
        """
        self._origins = origins
        return self.read_fields(class_, plain, path="")

    def read_fields(
        self, class_: type[D], raw: object, *, path: str, besides: tuple[str, ...] = ()
    ) -> D | None:
        """Return a *class_* from a mapping of its fields, None if there are faults.

        An instance is taken for a mapping of its own fields, and null for an empty one.  Keys
        named in *besides* belong here but are read elsewhere.
        """
        plain = self._section(raw, path=path)
        if plain is None:
            return None
        before = len(self.faults)
        hints = hints_of(class_)
        for key in plain:
            if key not in hints and key not in besides:
                self.add_unknown(_under(path, str(key)), known=(*besides, *hints))
        values = {
            name: self._read(hint, plain[name], path=_under(path, name))
            for name, hint in hints.items()
            if name in plain
        }
        # The class compares its own fields even when a section among them has faults.
        built = None if _FAULTY in values.values() else self._build(class_, values, path=path)
        return built if len(self.faults) == before else None

    def _build(self, class_: type[D], values: Mapping[str, Any], *, path: str) -> D | None:
        try:
            return class_(**values)
        except ConfigError as e:
            self.add_fault(path, str(e))
            return None

    def _section(self, raw: object, *, path: str) -> Mapping[Any, object] | None:
        match raw:
            case None:
                return {}
            case Mapping():
                return raw
            case _ if dataclasses.is_dataclass(raw) and not isinstance(raw, type):
                return _fields_of(raw)
            case _:
                self.add_fault(path, f"{_shown(raw)} is not a section with keys")
                return None

    def _read(self, hint: object, raw: object, *, path: str) -> object:
        if isinstance(hint, type) and issubclass(hint, Section):
            return hint.read_section(raw, path=path, reader=self)
        if is_section(hint):
            return self.read_fields(hint, raw, path=path)
        if get_origin(hint) is Mapping:
            return self._read_mapping(get_args(hint), raw, path=path)
        return self._read_scalar(scalar_of(hint), raw, path=path)

    def _read_scalar(self, scalar: Scalar, raw: object, *, path: str) -> object:
        is_secret = path in _SECRET
        try:
            value = scalar.parse(raw)
        except (TypeError, ValueError):
            is_hidden = is_secret and isinstance(raw, list | Mapping)
            shown = f"a {type(raw).__name__}" if is_hidden else _shown(raw)
            self.add_fault(path, f"{shown} is not {scalar.words}")
            return _FAULTY
        if is_secret and isinstance(value, str) and (character := text_fault(value)) is not None:
            self.add_fault(path, f"it holds {character}")  # libpq would read no further, or nothing
            return _FAULTY
        return value

    def _read_mapping(
        self, hints: tuple[object, ...], raw: object, *, path: str
    ) -> Mapping[Any, object] | None:
        plain = self._section(raw, path=path)
        if plain is None:
            return None
        key_hint, item_hint = hints
        items = {}
        for key, item in plain.items():
            under = _under(path, str(key))
            items[self._read(key_hint, key, path=under)] = self._read(item_hint, item, path=under)
        return items


def to_plain(value: object) -> object:
    """Return *value* as JSON would have it, in the form that a `Reader` reads.

    Fields that are None are left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: to_plain(v) for k, v in _fields_of(value).items() if v is not None}
    match value:
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case frozenset():
            return sorted(value)
        case timedelta():
            return format_duration(value)
        case StrEnum():
            return value.value
        case _:
            return value


@cache
def hints_of(class_: type) -> Mapping[str, object]:
    """Return the annotations of the fields of *class_*, with their ranges."""
    return get_type_hints(class_, include_extras=True)


def is_section(hint: object) -> TypeGuard[type[DataclassInstance]]:
    """Tell whether a field of this annotation is a section with keys of its own."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


@cache
def scalar_of(hint: object) -> Scalar:
    """Return how a value of the annotation *hint* is read."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _ranged(args[0], args[1])
    if origin is Literal:
        return _choice({arg: arg for arg in args})
    if origin in (Union, types.UnionType):
        return _either([scalar_of(arg) for arg in args])
    if origin is frozenset:
        return Scalar("a list of texts", _texts)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _choice({member.value: member for member in hint})
    return _PLAIN[hint]


def _ranged(type_: object, span: str) -> Scalar:
    """Return how a number, size or duration within *span*, ``least to most``, is read."""
    words, read = ("a size", _size) if span.endswith("B") else _MEASURES[type_]
    least, most = (_amount(read(_bound(end))) for end in span.split(" to "))

    def parse(raw: object) -> object:
        value = read(raw)
        return value if least <= _amount(value) <= most else _refuse()

    return Scalar(f"{words} from {span}", parse)


def _bound(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _amount(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _either(scalars: list[Scalar]) -> Scalar:
    """Return how what one of *scalars* takes is read."""

    def parse(raw: object) -> object:
        for scalar in scalars:
            try:
                return scalar.parse(raw)
            except (TypeError, ValueError):
                continue
        return _refuse()

    return Scalar(" or ".join(scalar.words for scalar in scalars), parse)


def _choice(members: Mapping[str, object]) -> Scalar:
    def parse(raw: object) -> object:
        return members[raw] if isinstance(raw, str) and raw in members else _refuse()

    return Scalar(" or ".join(members), parse)


def _texts(raw: object) -> frozenset[str]:
    if isinstance(raw, str | Mapping) or not isinstance(raw, Iterable):
        _refuse()
    return frozenset(_text(item) for item in raw)


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else _refuse()


def _truth(raw: object) -> bool:
    return raw if isinstance(raw, bool) else _refuse()


def _whole(raw: object) -> int:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else _refuse()


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not isfinite(raw):
        _refuse()
    return float(raw)


def _duration(raw: object) -> timedelta:
    return plain_duration(raw) if isinstance(raw, timedelta) else parse_duration(_text(raw))


def _size(raw: object) -> int:
    return parse_size(raw) if isinstance(raw, str) else _whole(raw)


def _nothing(raw: object) -> None:
    if raw is not None:
        _refuse()


def _refuse() -> NoReturn:
    """Refuse a value; the words of its scalar say what it should be."""
    raise ValueError


_MEASURES: Mapping[object, tuple[str, Callable[[object], float | timedelta]]] = {
    int: ("a whole number", _whole),
    float: ("a number", _number),
    timedelta: ("a duration", _duration),
}
_PLAIN: Mapping[object, Scalar] = {
    str: Scalar("text", _text),
    bool: Scalar("true or false", _truth),
    type(None): Scalar("null", _nothing),
}


def _fields_of(value: DataclassInstance) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _under(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(raw: object) -> str:
    return format_duration(plain_duration(raw)) if isinstance(raw, timedelta) else reprlib.repr(raw)
