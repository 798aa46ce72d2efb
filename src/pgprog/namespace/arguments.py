"""Between the args of a task and the parameters of its handler, by the handler's annotations."""

from __future__ import annotations

import inspect
import types
from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    Any,
    NoReturn,
    Optional,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec.structs import asdict

from pgprog.codec import Codec, Misfit, Numbers, is_pydantic
from pgprog.errors import ConfigError
from pgprog.model import Intent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_KEYED = Codec(dict[str, msgspec.Raw])
_PLAIN = Codec()

_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL


class Arguments:
    """The parameters of a handler after its step, and how each is read.

    A second parameter called *args* takes the whole args.  Else the args are an object, each
    parameter is a key of it, and other keys are refused, unless ``**`` stands for them.

    Raises:
        ConfigError: The function cannot be a handler; the message names it and says why.
    """

    def __init__(self, function: Callable[..., object], *, numbers: Numbers) -> None:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        fault = _parameter_fault(parameters)
        if fault is not None:
            msg = f"{name_of(function)} cannot be a handler: {fault}"
            raise ConfigError(msg)
        self._name = name_of(function)
        self._signature = signature.replace(parameters=parameters[1:])
        self._codecs: dict[str, Codec[Any]] = {}
        self._rest: Codec[Any] | None = None
        self._required: list[str] = []
        for parameter in parameters[1:]:
            codec = _codec(parameter.annotation, function=function, numbers=numbers)
            if parameter.kind is parameter.VAR_KEYWORD:
                self._rest = codec
            else:
                self._codecs[parameter.name] = codec
                if parameter.default is parameter.empty:
                    self._required.append(parameter.name)
        self._is_whole = [*self._codecs] == ["args"]
        self._at_once = self._reader_at_once(numbers)

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Return the args of a task that calls the handler with these; defaults are left to it.

        Raises:
            TypeError: The handler cannot be called so.
        """
        bound = self._signature.bind(*args, **kwargs).arguments
        if self._is_whole:
            return bound.get("args")
        given = {name: bound[name] for name in self._codecs if name in bound}
        rest = kwargs if self._rest is not None else {}
        return {**rest, **given}

    def read(self, raw: bytes | None) -> dict[str, object]:
        """Return raw args as keyword arguments; null, the database's or JSON's, is no args.

        Raises:
            Misfit: They do not fit the parameters.
        """
        is_null = raw is None or raw == b"null"
        if self._at_once is not None and not is_null:
            with suppress(Misfit):  # what does not fit is told of below, part by part
                return asdict(self._at_once.decode(raw))
        if is_null and not self._required:
            return {}
        if self._is_whole:
            return {"args": self._decode("args", raw)}
        given = {} if raw is None or is_null else self._keyed(raw)
        if self._rest is None and (unknown := [name for name in given if name not in self._codecs]):
            self._refuse(f"unknown {_list(unknown)}; known are {_list(self._codecs)}")
        if missing := [name for name in self._required if name not in given]:
            self._refuse(f"missing {_list(missing)}")
        return {name: self._decode(name, bytes(value)) for name, value in given.items()}

    def _reader_at_once(self, numbers: Numbers) -> Codec[msgspec.Struct] | None:
        """Return what reads all keys at a third of the price, None where some may be missing.

        A model of pydantic among others would be read twice.
        """
        is_plain = self._rest is None and not self._is_whole and [*self._codecs] == self._required
        if not is_plain or any(is_pydantic(codec.type) for codec in self._codecs.values()):
            return None
        types_ = {name: codec.type for name, codec in self._codecs.items()}
        fields = [(name, Any if type_ is None else type_) for name, type_ in types_.items()]
        return Codec(msgspec.defstruct("Args", fields, forbid_unknown_fields=True), numbers)

    def _keyed(self, raw: bytes) -> dict[str, msgspec.Raw]:
        try:
            return _KEYED.decode(raw)
        except Misfit as e:
            self._refuse(str(e))

    def _decode(self, name: str, raw: bytes | None) -> object:
        try:
            return self._codecs.get(name, self._rest or _PLAIN).decode(raw)
        except Misfit as e:
            msg = f"{name} of {self._name}: {e}"
            raise Misfit(msg) from e

    def _refuse(self, fault: str) -> NoReturn:
        msg = f"args of {self._name}: {fault}"
        raise Misfit(msg)


def response_codec(function: Callable[..., object], *, numbers: Numbers) -> Codec[Any]:
    """Return the codec of what *function* is said to answer, the second part of its `Intent`.

    A response may always be left out, so null fits.  Without an annotation it is plain JSON.

    Raises:
        ConfigError: The annotation cannot be resolved, or is of no type that JSON can hold.
    """
    returned = _resolved(inspect.signature(function).return_annotation, function=function)
    is_union = get_origin(returned) in (Union, types.UnionType)
    for member in get_args(returned) if is_union else (returned,):
        if get_origin(member) is Intent:
            response = get_args(member)[1]
            return _codec(Optional[response], function=function, numbers=numbers)  # noqa: UP045 - a value
    return Codec(types.NoneType if returned is types.NoneType else None, numbers)


def name_of(function: object) -> str:
    """Return the name by which a person finds *function*."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}" if module else name


def _parameter_fault(parameters: list[inspect.Parameter]) -> str | None:
    """Return why a function with these parameters cannot be a handler, or None."""
    if not parameters or parameters[0].kind in (_KEYWORD_ONLY, _VAR_KEYWORD):
        return "its first parameter must be the step"
    for parameter in parameters[1:]:
        if parameter.kind in (_POSITIONAL_ONLY, _VAR_POSITIONAL):
            return f"args come by name, so {parameter.name} cannot be given"
    if parameters[1:] and parameters[1].name == "args" and len(parameters) > 2:
        return f"args takes everything, which leaves nothing for {parameters[2].name}"
    return None


def _codec(annotation: object, *, function: Callable[..., object], numbers: Numbers) -> Codec[Any]:
    """Return the codec for an annotation of *function*; without one, for plain JSON."""
    type_ = _resolved(annotation, function=function)
    is_plain = type_ in (inspect.Parameter.empty, Any, object) or isinstance(type_, TypeVar)
    try:
        return Codec(None if is_plain else type_, numbers)
    except ConfigError as e:
        msg = f"{name_of(function)} cannot be a handler: {e}"
        raise ConfigError(msg) from e


def _resolved(annotation: object, *, function: Callable[..., object]) -> object:
    """Return the type that *annotation* names, in the module of *function* if it is a text.

    One at a time: the step's own annotation is of no interest here and may well be unknown at
    run time.
    """
    if annotation is inspect.Parameter.empty:
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except NameError as e:
        msg = f"{name_of(function)} cannot be a handler: {annotation!r} cannot be resolved: {e}"
        raise ConfigError(msg) from e


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
