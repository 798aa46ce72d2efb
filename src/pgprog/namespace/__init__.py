"""A namespace in code: a kind of process, its state and the handlers of its tasks."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, overload

from typing_extensions import TypeVar

from pgprog.codec import Codec, decode, encode
from pgprog.config import NamespaceSettings
from pgprog.encryption import check_open
from pgprog.errors import ConfigError
from pgprog.model import Intent, Step, TaskType
from pgprog.namespace.arguments import Arguments, name_of, response_codec
from pgprog.namespace.upcasts import Upcasts
from pgprog.texts import NAME_BYTES, check_text

S = TypeVar("S")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
A_co = TypeVar("A_co", covariant=True, default=object)


class Handler(Generic[P, R_co, A_co]):
    """A function with the tasks it takes: those of one type and name of its namespace.

    Calling it calls the function.  *P* are the parameters after the step, *R_co* is the type of
    the response and *A_co* what the function returns: an intent, None, or a coroutine of these.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        namespace: str,
        type_: TaskType,
        name: str | None,
        arguments: Arguments,
        response: Codec[R_co],
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.namespace = namespace
        self.type = type_
        self.name = name
        self.is_async = inspect.iscoroutinefunction(function)
        self.response = response
        self._arguments = arguments

    def __call__(self, step: Step[Any], *args: P.args, **kwargs: P.kwargs) -> A_co:
        """Return what the function makes of *step* and its args."""
        returned: A_co = self.function(step, *args, **kwargs)
        return returned

    def __repr__(self) -> str:
        return f"<{self.type} {self.name!r} of {self.namespace}: {name_of(self.function)}>"

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> object:
        """Return the args of a task that calls the function with these.

        They are a dict with a key a parameter, or the value itself where the function takes the
        whole as *args*.

        Raises:
            TypeError: The function cannot be called so.
        """
        return self._arguments.bind(args, kwargs)

    def run(
        self, step: Step[Any], raw_args: bytes | None
    ) -> Intent[Any, Any] | Awaitable[Intent[Any, Any] | None] | None:
        """Call the function for *step* with the args of its task, read by its annotations.

        Raises:
            Misfit: The args do not fit; the function was not called.
        """
        kwargs = self._arguments.read(raw_args)
        returned: Intent[Any, Any] | Awaitable[Intent[Any, Any] | None] | None
        returned = self.function(step, **kwargs)
        return returned


class Decorator(Generic[S]):
    """Makes a function the handler of one type of task: ``@ns.call`` or ``@ns.call("name")``."""

    def __init__(self, namespace: Namespace[S], type_: TaskType, name: str | None = None) -> None:
        self._namespace = namespace
        self._type = type_
        self._name = name

    @overload
    def __call__(self, target: str) -> Decorator[S]: ...

    @overload
    def __call__(
        self, target: Callable[Concatenate[Step[S], P], Coroutine[Any, Any, None]]
    ) -> Handler[P, None, Coroutine[Any, Any, None]]: ...

    @overload
    def __call__(
        self, target: Callable[Concatenate[Step[S], P], Coroutine[Any, Any, Intent[S, R]]]
    ) -> Handler[P, R, Coroutine[Any, Any, Intent[S, R]]]: ...

    @overload
    def __call__(
        self, target: Callable[Concatenate[Step[S], P], Coroutine[Any, Any, Intent[S, R] | None]]
    ) -> Handler[P, R, Coroutine[Any, Any, Intent[S, R] | None]]: ...

    @overload
    def __call__(
        self, target: Callable[Concatenate[Step[S], P], None]
    ) -> Handler[P, None, None]: ...

    @overload
    def __call__(
        self, target: Callable[Concatenate[Step[S], P], Intent[S, R]]
    ) -> Handler[P, R, Intent[S, R]]: ...

    @overload
    def __call__(
        self, target: Callable[Concatenate[Step[S], P], Intent[S, R] | None]
    ) -> Handler[P, R, Intent[S, R] | None]: ...

    def __call__(self, target: str | Callable[..., Any]) -> Decorator[S] | Handler[..., Any, Any]:
        """Name the tasks, or take the function."""
        if isinstance(target, str):
            return Decorator(self._namespace, self._type, target)
        return self._namespace.add(target, type_=self._type, name=self._name)


class Namespace(Generic[S]):
    """A kind of process: the type of its state, its handlers, and defaults of its settings.

    *state* is a dataclass, a msgspec struct, an attrs class or a pydantic model; None is plain
    JSON.  *state_version* grows when the stored form changes, with an `upcast` from the last one.
    Settings are those of `NamespaceSettings`, with durations as timedeltas or as texts (``"30s"``).

    Raises:
        ConfigError: A setting is wrong; the message lists all that are.
        InvalidArgument: The name is empty, too long, or no text for PostgreSQL.
    """

    @overload
    def __init__(
        self, name: str, *, state: type[S], state_version: int = 1, **settings: object
    ) -> None: ...

    @overload  # plain JSON, and unions, which are no type[S]
    def __init__(
        self: Namespace[Any],
        name: str,
        *,
        state: object = None,
        state_version: int = 1,
        **settings: object,
    ) -> None: ...

    def __init__(
        self, name: str, *, state: object = None, state_version: int = 1, **settings: object
    ) -> None:
        check_text(name, field="namespace", limit=NAME_BYTES)
        self.name = name
        self.original: Namespace[Any] = self  # what child processes import: see origins
        self.origin: str | None = None
        self.settings = NamespaceSettings.from_json(settings, where=f"Namespace({name!r})")
        self.state_codec: Codec[Any] = Codec(state, self.settings.numbers)
        self.plain_codec: Codec[Any] = Codec(None, self.settings.numbers)
        self.state_version = state_version
        self._handlers: dict[tuple[str, str | None], Handler[..., Any]] = {}
        self._fallback: functools.partial[Handler[..., Any]] | None = None
        self._upcasts = Upcasts(f"the state of namespace {name}", latest=state_version)
        self._event_upcasts = Upcasts(f"events of namespace {name}", latest=state_version)

    @property
    def init(self) -> Decorator[S]:
        """Decorate the handler of init tasks without a name, or of that name."""
        return Decorator(self, TaskType.INIT)

    @property
    def call(self) -> Decorator[S]:
        """Decorate the handler of call tasks of the function's name, or of the name given."""
        return Decorator(self, TaskType.CALL)

    @property
    def notify(self) -> Decorator[S]:
        """Decorate the handler of notify tasks of the function's name, or of the name given."""
        return Decorator(self, TaskType.NOTIFY)

    @property
    def repair(self) -> Decorator[S]:
        """Decorate the handler of repair tasks without a name, or of that name."""
        return Decorator(self, TaskType.REPAIR)

    @property
    def timeout(self) -> Decorator[S]:
        """Decorate the handler of the timer of the default name, ``''``, or of the name given."""
        return Decorator(self, TaskType.TIMEOUT)

    def processor(self, function: F) -> F:
        """Decorate the function that takes every step that no handler takes.

        It stays a plain function: there is no one operation that a client could call it by.

        Raises:
            ConfigError: There is another, or the function cannot be one.
        """
        if self._fallback is not None:
            self._refuse_second(function, first=self._fallback.args[0], what="any step")
        self._fallback = self._bound(function)
        return function

    def upcast(self, *, from_version: int) -> Callable[[F], F]:
        """Decorate the function that turns a state of *from_version* into the next version.

        It takes plain JSON and returns plain JSON or, to the last version, a state.

        Raises:
            ConfigError: There is another, or no version comes after it.
        """
        return functools.partial(self._upcasts.add, version=from_version)

    def upcast_event(self, *, from_version: int) -> Callable[[F], F]:
        """Decorate the function that turns an event's payload, plain JSON, into the next version.

        Unlike a state, payloads of a version without such a function stay as they are.

        Raises:
            ConfigError: There is another, or no version comes after it.
        """
        return functools.partial(self._event_upcasts.add, version=from_version)

    def add(
        self, function: Callable[..., Any], *, type_: TaskType, name: str | None = None
    ) -> Handler[..., Any]:
        """Return the handler that *function* is made for tasks of one type and name.

        Without *name*: of a call and a notify the function's own, of a timeout the default
        timer's, of an init and a repair that of tasks without a name.

        Raises:
            ConfigError: These tasks have a handler, or the function cannot be one.
            InvalidArgument: The name is empty, too long, or no text for PostgreSQL.
        """
        if isinstance(function, Handler):
            function = function.function
        if name is None and type_ in (TaskType.CALL, TaskType.NOTIFY):
            name = function.__name__
        key = _key(type_, name)
        if name:
            check_text(name, field=f"the name of {name_of(function)}", limit=NAME_BYTES)
        if key in self._handlers:
            what = f"{type_} {key[1]!r}"
            self._refuse_second(function, first=self._handlers[key].function, what=what)
        self._handlers[key] = self._bound(function)(type_=type_, name=key[1])
        return self._handlers[key]

    def resolve(self, type_: str, name: str | None) -> Handler[..., Any] | None:
        """Return what takes a task: its handler, else the processor, else None.

        A remove is the engine's: nothing takes it.
        """
        handler = self._handlers.get(_key(type_, name))
        if handler is None and self._fallback is not None and type_ != TaskType.REMOVE:
            return self._fallback(type_=TaskType(type_), name=name)
        return handler

    @property
    def handlers(self) -> tuple[Handler[..., Any], ...]:
        """The handlers in the order of their decoration, without the processor."""
        return tuple(self._handlers.values())

    def with_settings(self, settings: NamespaceSettings) -> Namespace[S]:
        """Return a namespace with the same handlers under other settings."""
        other: Namespace[S] = Namespace(
            self.name,
            state=self.state_codec.type,
            state_version=self.state_version,
            **settings.to_json(),
        )
        for handler in self.handlers:
            other.add(handler.function, type_=handler.type, name=handler.name)
        if self._fallback is not None:
            other.processor(self._fallback.args[0])
        other.original, other.origin = self.original, self.origin
        other._upcasts = self._upcasts
        other._event_upcasts = self._event_upcasts
        return other

    def encode_state(self, state: S) -> bytes:
        """Return *state* as it is stored, at `state_version`.

        Raises:
            InvalidArgument: It is of another type, has no JSON form, or is too big.
        """
        limit = self.settings.limits.state_bytes
        return self.state_codec.encode(state, field="state", limit=limit)

    def load_state(self, raw: bytes | None, version: int) -> S | None:
        """Return a stored state, upcast from *version*; None where there is none yet.

        Raises:
            Misfit: It does not fit the type, or there is no way from its version to this one.
        """
        if raw is None:
            return None
        check_open(raw, what="it")
        if version != self.state_version:
            numbers = self.settings.numbers
            latest = self._upcasts.apply(decode(raw, numbers=numbers), version=version)
            raw = encode(latest, field="upcast state", limit=sys.maxsize, numbers=numbers)
        state: S = self.state_codec.decode(raw)
        return state

    def load_event(self, payload: object, version: int) -> object:
        """Return the plain *payload* of an event, upcast from *version*.

        Raises:
            Misfit: Its version is after this one.
        """
        if version == self.state_version:
            return payload
        return self._event_upcasts.apply_known(payload, version=version)

    def _bound(self, function: Callable[..., Any]) -> functools.partial[Handler[..., Any]]:
        """Return a `Handler` that lacks only its type and name."""
        numbers = self.settings.numbers
        return functools.partial(
            Handler,
            function,
            namespace=self.name,
            arguments=Arguments(function, numbers=numbers),
            response=response_codec(function, numbers=numbers),
        )

    def _refuse_second(self, second: object, *, first: object, what: str) -> NoReturn:
        both = f"{name_of(first)}, {name_of(second)}"
        msg = f"{what} of namespace {self.name} has two handlers: {both}"
        raise ConfigError(msg)


def _key(type_: str, name: str | None) -> tuple[str, str | None]:
    """Return where a handler is kept: a timer always has a name, be it the empty one."""
    return type_, name or "" if type_ == TaskType.TIMEOUT else name
