"""What callers ask for, checked and encoded before anything is sent."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pgprog.codec import Codec, encode, encode_all
from pgprog.errors import InvalidArgument, PgprogError
from pgprog.model import Limits, Request, TaskType
from pgprog.namespace import Handler, Namespace
from pgprog.store.rows import RawRequest
from pgprog.texts import MOST_ID_BYTES, NAME_BYTES, check_text, plain_text
from pgprog.times import plain_instant
from pgprog.tracing import sent_context
from pgprog.tracing.spans import requesting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgprog.codec import Numbers


Payload = Literal["args", "context"]

PLAIN: Codec[Any] = Codec()

ASKED = (TaskType.INIT, TaskType.CALL, TaskType.NOTIFY, TaskType.REPAIR)

# Where the namespace is unknown, only the database knows its limits.
_UNKNOWN = Limits(id_bytes=MOST_ID_BYTES, key_bytes=MOST_ID_BYTES)
_MOST_PRIORITY = 1_000_000
_FOR_EVER_SECONDS = 1 << 40  # there are greater integers than a float holds
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
    if request.type not in ASKED:
        msg = f"type is {request.type!r}, init, call, notify or repair are asked for"
        raise InvalidArgument(msg)
    if request.type == TaskType.REPAIR and request.run_at is not None:
        msg = "run_at: a repair is for now"
        raise InvalidArgument(msg)
    limits = limits_of(namespace)
    check_text(request.namespace, field="namespace", limit=NAME_BYTES)
    check_text(request.process_id, field="process_id", limit=limits.id_bytes)
    if request.name is not None:
        check_text(request.name, field="name", limit=NAME_BYTES)
    if request.idempotency_key is not None:
        check_text(request.idempotency_key, field="idempotency_key", limit=limits.key_bytes)
    return RawRequest(
        str(request.type),
        plain_text(request.namespace),
        plain_text(request.process_id),
        encoded(request.args, field="args", namespace=namespace),
        None if request.name is None else plain_text(request.name),
        None if request.idempotency_key is None else plain_text(request.idempotency_key),
        sent_context(encoded(request.context, field="context", namespace=namespace)),
        checked_priority(request.priority),
        checked_run_at(request.run_at),
    )


def limits_of(namespace: Namespace[Any] | None) -> Limits:
    """Return the limits of ids and keys, the greatest where the namespace is not known."""
    return _UNKNOWN if namespace is None else namespace.settings.limits


def raw_or_fault(request: Request, *, namespace: Namespace[Any] | None) -> RawRequest | PgprogError:
    """Return what `raw_request` returns or raises, for one of many; its span ends with that.

    Others may have been sent: nothing is raised, whatever the code of a payload raises.
    """
    try:
        with requesting(request):
            return raw_request(request, namespace=namespace)
    except PgprogError as e:
        return e
    except Exception as e:  # noqa: BLE001 - how a payload is written is application code, too
        fault = InvalidArgument(f"{type(e).__name__} as it was written: {e}")
        fault.__cause__ = e
        return fault


def listed(requests: Iterable[Request]) -> list[Request]:
    """Return requests, before any is sent.

    Raises:
        TypeError: One of them is something else.
    """
    found = [*requests]
    given: list[object] = [*found]
    for number, each in enumerate(given):
        if not isinstance(each, Request):
            msg = f"requests[{number}] is {type(each).__name__}, a Request is needed"
            raise TypeError(msg)
    return found


def encoded(value: object, *, field: Payload, namespace: Namespace[Any] | None) -> bytes | None:
    """Return a payload as JSON, None for None.

    Raises:
        InvalidArgument: It has no such form, or too many bytes.
    """
    if value is None:
        return None
    limit, numbers = _form(field, namespace)
    return encode(value, field=field, limit=limit, numbers=numbers)


def encoded_all(
    values: Sequence[object], *, field: Payload, namespace: Namespace[Any] | None
) -> Sequence[bytes]:
    """Return payloads as JSON, of which none is None.

    Raises:
        InvalidArgument: One has no such form, or too many bytes.
    """
    limit, numbers = _form(field, namespace)
    return encode_all(values, field=field, limit=limit, numbers=numbers)


def checked_priority(priority: object) -> int:
    """Return a priority that is one.

    Raises:
        InvalidArgument: It is no whole number, or out of its range.
    """
    if (
        not isinstance(priority, int)
        or isinstance(priority, bool)
        or not -_MOST_PRIORITY <= priority <= _MOST_PRIORITY
    ):
        msg = f"priority is {priority!r}, -{_MOST_PRIORITY} to {_MOST_PRIORITY} are allowed"
        raise InvalidArgument(msg)
    return priority


def checked_run_at(run_at: object) -> datetime | None:
    """Return a time that tasks may be due at.

    Raises:
        InvalidArgument: It is no aware datetime, or out of its range.
    """
    if run_at is None:
        return None
    if not isinstance(run_at, datetime) or run_at.utcoffset() is None:
        msg = f"run_at is {run_at!r}, a datetime with a time zone is needed"
        raise InvalidArgument(msg)
    if not _EARLIEST <= run_at <= _LATEST:
        msg = f"run_at is {run_at.isoformat()}, a time from 1970 to 9998 is needed"
        raise InvalidArgument(msg)
    return plain_instant(run_at)


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
    return float(min(seconds, _FOR_EVER_SECONDS)) if isinstance(seconds, int) else seconds


def _form(field: Payload, namespace: Namespace[Any] | None) -> tuple[int, Numbers]:
    """Return how many bytes a payload may have, and how its decimals are written."""
    if namespace is None:
        return sys.maxsize, "float"
    settings = namespace.settings
    limits = settings.limits
    return (limits.args_bytes if field == "args" else limits.context_bytes), settings.numbers
