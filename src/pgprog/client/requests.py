"""What callers ask for, checked and encoded before anything is sent."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from pgprog.codec import Codec, check_text, encode
from pgprog.errors import InvalidArgument, PgprogError
from pgprog.model import Limits, Request, TaskType
from pgprog.namespace import Handler, Namespace
from pgprog.store.rows import RawRequest
from pgprog.tracing import sent_context

if TYPE_CHECKING:
    from collections.abc import Mapping


PLAIN: Codec[Any] = Codec()

_ASKED = (TaskType.INIT, TaskType.CALL, TaskType.NOTIFY, TaskType.REPAIR)

_DEFAULTS = Limits()
_MOST_PRIORITY = 1_000_000
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9998, 12, 31, tzinfo=UTC)


class Options(TypedDict, total=False):
    """What may be said of a request beside its args: see `Request`.

    *timeout*, in seconds or as a timedelta, bounds the wait for the answer, or for the queue.
    """

    name: str | None
    idempotency_key: str | None
    context: object
    priority: int
    run_at: datetime | None
    timeout: float | timedelta | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, how its answer is read, and how long the caller waits."""

    request: Request
    response: Codec[Any] = PLAIN
    timeout: float | timedelta | None = None


def raw_request(request: Request, *, namespace: Namespace[Any] | None = None) -> RawRequest:
    """Return *request* as it is sent, under the limits of *namespace* where it is known.

    Otherwise only the database knows them, and checks.

    Raises:
        InvalidArgument: A value cannot be taken; the message names it.
    """
    if request.type not in _ASKED:
        msg = f"type is {request.type!r}, init, call, notify or repair are asked for"
        raise InvalidArgument(msg)
    if request.type == TaskType.REPAIR and request.run_at is not None:
        msg = "run_at: a repair is for now"
        raise InvalidArgument(msg)
    limits = _DEFAULTS if namespace is None else namespace.settings.limits
    check_text(request.namespace, field="namespace", limit=_DEFAULTS.id_bytes)
    check_text(request.process_id, field="process_id", limit=limits.id_bytes)
    if request.name is not None:
        check_text(request.name, field="name", limit=_DEFAULTS.id_bytes)
    if request.idempotency_key is not None:
        check_text(request.idempotency_key, field="idempotency_key", limit=limits.key_bytes)
    args_limit = sys.maxsize if namespace is None else limits.args_bytes
    context_limit = sys.maxsize if namespace is None else limits.context_bytes
    return RawRequest(
        str(request.type),
        request.namespace,
        request.process_id,
        _encoded(request.args, field="args", limit=args_limit, namespace=namespace),
        request.name,
        request.idempotency_key,
        sent_context(
            _encoded(request.context, field="context", limit=context_limit, namespace=namespace)
        ),
        _priority(request.priority),
        _run_at(request.run_at),
    )


def raw_or_fault(request: Request, *, namespace: Namespace[Any] | None) -> RawRequest | PgprogError:
    """Return what `raw_request` returns or raises, for one of many."""
    try:
        return raw_request(request, namespace=namespace)
    except PgprogError as e:
        return e


def asked(
    type_: str,
    target: object,
    process_id: str,
    args: tuple[Any, ...],
    options: Mapping[str, Any],
) -> Asked:
    """Return what is asked of *target*: a handler, with its own arguments, or a namespace.

    Raises:
        InvalidArgument: The handler takes tasks of another type.
        TypeError: It cannot be called so, or there is no such option.
    """
    if isinstance(target, Handler):
        if target.type != type_:
            msg = f"{target!r} takes {target.type} tasks, not {type_}"
            raise InvalidArgument(msg)
        bound = target.arguments(*args, **options)
        request = Request(type_, target.namespace, process_id, bound, name=target.name)
        return Asked(request, response=target.response)
    name = target.name if isinstance(target, Namespace) else target
    given = {key: value for key, value in options.items() if key != "timeout"}
    request = Request(type_, name, process_id, *args, **given)  # type: ignore[arg-type] # checked
    return Asked(request, timeout=options.get("timeout"))


def seconds_of(timeout: float | timedelta | None, *, default: float) -> float:
    """Return a time-out in seconds; None is *default*.

    Raises:
        InvalidArgument: It is negative, or no number.
    """
    if timeout is None:
        return default
    seconds: object = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if not isinstance(seconds, int | float) or not seconds >= 0:
        msg = f"timeout is {timeout!r}, a number of seconds from 0 is needed"
        raise InvalidArgument(msg)
    return float(seconds)


def _encoded(
    value: object, *, field: str, limit: int, namespace: Namespace[Any] | None
) -> bytes | None:
    if value is None:
        return None
    numbers = "float" if namespace is None else namespace.settings.numbers
    return encode(value, field=field, limit=limit, numbers=numbers)


def _priority(priority: object) -> int:
    if (
        not isinstance(priority, int)
        or isinstance(priority, bool)
        or not -_MOST_PRIORITY <= priority <= _MOST_PRIORITY
    ):
        msg = f"priority is {priority!r}, -{_MOST_PRIORITY} to {_MOST_PRIORITY} are allowed"
        raise InvalidArgument(msg)
    return priority


def _run_at(run_at: object) -> datetime | None:
    if run_at is None:
        return None
    if not isinstance(run_at, datetime) or run_at.utcoffset() is None:
        msg = f"run_at is {run_at!r}, a datetime with a time zone is needed"
        raise InvalidArgument(msg)
    if not _EARLIEST <= run_at <= _LATEST:
        msg = f"run_at is {run_at.isoformat()}, a time from 1970 to 9998 is needed"
        raise InvalidArgument(msg)
    return run_at
