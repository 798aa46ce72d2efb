"""From what a handler returned or raised to the completion of its step; values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pgprog.codec import Misfit, encode
from pgprog.errors import (
    CriticalError,
    InvalidArgument,
    PermanentError,
    Reject,
    StepError,
    TransientError,
)
from pgprog.model import (
    UNCHANGED,
    Event,
    Finish,
    Intent,
    Remove,
    SetTimer,
    TaskType,
    UnsetTimer,
)
from pgprog.store.rows import Claimed, Completion, NewEvent, Outcome, Then, TimerChange
from pgprog.texts import check_text, plain_text
from pgprog.times import plain_duration, plain_instant

if TYPE_CHECKING:
    from pgprog.config import NamespaceSettings
    from pgprog.namespace import Handler, Namespace

_NAME_BYTES = 256
_DETAIL_LETTERS = 4000
# What timestamptz and the interval of a timer take without overflow.
_LATEST = datetime(9998, 12, 31, tzinfo=UTC)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = timedelta(days=365 * 7000)


class StepTimeout(TransientError):  # noqa: N818 - the name that operators see
    """The handler ran over the step time-out of its namespace."""

    @classmethod
    def over(cls, timeout: timedelta) -> StepTimeout:
        """Return the error of a handler that ran over *timeout*."""
        return cls(f"the handler ran over {timeout.total_seconds():g} s")


def after_success(
    claimed: Claimed, returned: object, *, namespace: Namespace[Any], handler: Handler[..., Any]
) -> Completion:
    """Return what the intent asks for; None changes nothing.

    Raises:
        InvalidArgument: It is no intent, or a part of it cannot be stored; the message names it.
    """
    if returned is not None and not isinstance(returned, Intent):
        msg = f"the handler returned {type(returned).__name__}; an Intent or None is needed"
        raise InvalidArgument(msg)
    intent: Intent[Any, Any] = Intent() if returned is None else returned
    settings = namespace.settings
    limits = settings.limits
    events = _events(intent.events, settings=settings)
    state = None if intent.state is UNCHANGED else namespace.encode_state(intent.state)
    if state is None and events:
        state = _upcast(claimed, namespace=namespace)
    response = None
    if intent.response is not None:
        response = handler.response.encode(
            intent.response, field="response", limit=limits.response_bytes
        )
    return Completion(
        claimed=claimed,
        outcome=Outcome.FINISHED,
        state=state,
        state_version=namespace.state_version,
        metadata=_metadata(intent.metadata, field="metadata", settings=settings),
        response=response,
        then=_then(intent.then),
        events=events,
        timers=_timers(intent.timers),
    )


def _upcast(claimed: Claimed, *, namespace: Namespace[Any]) -> bytes | None:
    """Return the state to store with events that are newer than it, None where none are.

    The version of a state is what keeps old workers away from a process: they could not read the
    events either.
    """
    if claimed.state is None or claimed.state_version == namespace.state_version:
        return None
    return namespace.encode_state(namespace.load_state(claimed.state, claimed.state_version))


def after_failure(
    claimed: Claimed, error: BaseException, *, settings: NamespaceSettings, random: float
) -> Completion:
    """Return how a step ends whose handler raised *error*; *random* is for the jitter.

    A rejection leaves the process untouched, and so do args that do not fit their handler.  For
    timeout and notify, where nobody waits, both are permanent.  A critical error also pauses the
    namespace, in the same commit.
    """
    is_asked = claimed.type not in (TaskType.TIMEOUT, TaskType.NOTIFY)
    if isinstance(error, Reject | Misfit) and is_asked:
        payload = error.payload if isinstance(error, Reject) else str(error)
        try:
            rejection = encode(
                {"rejected": payload},
                field="the payload of Reject",
                limit=settings.limits.response_bytes,
                numbers=settings.numbers,
            )
        except Exception as e:  # noqa: BLE001 - how a payload is written is application code, too
            return after_failure(claimed, e, settings=settings, random=random)
        return Completion(claimed=claimed, outcome=Outcome.REJECTED, error=rejection)
    try:
        delay = _delay(claimed, error, settings=settings, random=random)
    except InvalidArgument as e:
        return after_failure(claimed, e, settings=settings, random=random)
    told = _told(error, attempt=claimed.attempt)
    if delay is not None:
        return Completion(claimed=claimed, outcome=Outcome.RETRY, error=told, retry_after=delay)
    end = Outcome.CRITICAL if isinstance(error, CriticalError) else _end(claimed, settings=settings)
    return Completion(claimed=claimed, outcome=end, error=told)


def after_data_fault(
    claimed: Claimed, fault: Exception, *, settings: NamespaceSettings
) -> Completion:
    """Return the end of a step whose completion the database could not store."""
    told = _told(fault, attempt=claimed.attempt)
    return Completion(claimed=claimed, outcome=_end(claimed, settings=settings), error=told)


def due_in(completion: Completion) -> float | None:
    """Return in how many seconds the completion makes something due, None if it does not.

    Times that were given as instants are counted by our own clock: the result is a hint.
    """
    if completion.retry_after is not None:
        return 0.0  # of what waits behind it some may go now, and the claim tells of the rest
    delays = [timer.after for timer in completion.timers if timer.after is not None]
    instants = [timer.at for timer in completion.timers if timer.at is not None]
    delays += [at - datetime.now(UTC) for at in instants]
    return min(delays).total_seconds() if delays else None


def text_of(given: object) -> str:
    """Return what an error of the application says, as text that jsonb takes."""
    try:
        text = str(given)
    except Exception as e:  # noqa: BLE001 - application code: anything may come
        text = f"{type(given).__name__} cannot be told: {type(e).__name__}"
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def _delay(
    claimed: Claimed, error: BaseException, *, settings: NamespaceSettings, random: float
) -> timedelta | None:
    """Return the wait before the next attempt, None where there is none."""
    if isinstance(error, StepError | Misfit) and not isinstance(error, TransientError):
        return None
    code = getattr(error, "code", None)  # of a stranger's error it may be anything
    delay = settings.retry_for(TaskType(claimed.type)).next_delay(
        failures=claimed.attempt,
        error_type=type(error).__name__,
        code=code if isinstance(code, str) else None,
        random=random,
    )
    if delay is not None and isinstance(error, TransientError) and error.retry_after is not None:
        return _retry_after(error.retry_after)
    return delay


def _retry_after(given: object) -> timedelta:
    if not isinstance(given, timedelta):
        msg = f"retry_after: must be a timedelta, not {type(given).__name__}"
        raise InvalidArgument(msg)
    return min(max(plain_duration(given), timedelta()), _LONGEST)


def _end(claimed: Claimed, *, settings: NamespaceSettings) -> Outcome:
    """Return whether a failed task breaks its process."""
    is_call_let_off = claimed.type == TaskType.CALL and settings.on_call_error == "reject"
    if claimed.type == TaskType.REPAIR or is_call_let_off:
        return Outcome.FAILED
    return Outcome.BROKEN


def _told(error: BaseException, *, attempt: int) -> bytes:
    """Return what waiters and operators are told of *error*, as JSON that jsonb takes."""
    told: dict[str, object] = {
        "error_type": type(error).__name__,
        "detail": text_of(error)[:_DETAIL_LETTERS],
        "attempt": attempt,
    }
    if isinstance(error, PermanentError) and error.code is not None:
        told["code"] = text_of(error.code)[:_DETAIL_LETTERS]
    return encode(told, field="error", limit=1 << 20)


def _events(events: object, *, settings: NamespaceSettings) -> tuple[NewEvent, ...]:
    limits = settings.limits
    listed = _listed(events, field="events")
    if len(listed) > limits.events:
        msg = f"events: {len(listed)} events, and the limit is {limits.events}"
        raise InvalidArgument(msg)
    made = []
    for number, given in enumerate(listed):
        field = f"events[{number}]"
        payload, metadata = given, None
        if isinstance(given, Event):
            payload = given.payload
            if given.metadata is not None:
                metadata = _metadata(given.metadata, field=f"{field}.metadata", settings=settings)
        encoded = encode(payload, field=field, limit=limits.event_bytes, numbers=settings.numbers)
        made.append(NewEvent(encoded, metadata))
    return tuple(made)


def _metadata(metadata: object, *, field: str, settings: NamespaceSettings) -> bytes | None:
    """Return metadata as JSON, null where they are cleared, None where they stay."""
    if metadata is UNCHANGED:
        return None
    if metadata is not None and not isinstance(metadata, Mapping):
        msg = f"{field}: must be a mapping or None, not {type(metadata).__name__}"
        raise InvalidArgument(msg)
    limit = settings.limits.event_bytes
    return encode(metadata, field=field, limit=limit, numbers=settings.numbers)


def _timers(timers: object) -> tuple[TimerChange, ...]:
    """Return one change a timer name: of several the last counts."""
    changes: dict[str, TimerChange] = {}
    for number, timer in enumerate(_listed(timers, field="timers")):
        field = f"timers[{number}]"
        match timer:
            case SetTimer():
                change = TimerChange(timer.name, timer.at, timer.after, timer.remove)
            case UnsetTimer():
                change = TimerChange(timer.name, None, None, False)  # noqa: FBT003 - a field
            case _:
                msg = f"{field}: must be SetTimer or UnsetTimer, not {type(timer).__name__}"
                raise InvalidArgument(msg)
        if change.name != "":
            check_text(change.name, field=f"{field}.name", limit=_NAME_BYTES)
        _check_truth(change.remove, field=f"{field}.remove")
        _check_time(change, field=field)
        name = plain_text(change.name)
        changes[name] = change._replace(
            name=name,
            at=None if change.at is None else plain_instant(change.at),
            after=None if change.after is None else plain_duration(change.after),
        )
    return tuple(changes.values())


def _check_truth(value: object, *, field: str) -> None:
    if not isinstance(value, bool):
        msg = f"{field}: must be True or False, not {type(value).__name__}"
        raise InvalidArgument(msg)


def _check_time(change: TimerChange, *, field: str) -> None:
    if change.at is not None and not _EARLIEST <= change.at <= _LATEST:
        msg = f"{field}.at: {change.at.isoformat()} is not between the years 1970 and 9998"
        raise InvalidArgument(msg)
    if change.after is not None and abs(change.after) > _LONGEST:
        msg = f"{field}.after: {change.after} is over 7000 years"
        raise InvalidArgument(msg)


def _then(then: object) -> Then:
    match then:
        case None:
            return Then.GO_ON
        case Finish():
            return Then.FINISH
        case Remove():
            return Then.REMOVE
        case _:
            msg = f"then: must be Finish(), Remove() or None, not {then!r}"
            raise InvalidArgument(msg)


def _listed(values: object, *, field: str) -> Sequence[object]:
    if isinstance(values, list | tuple):  # nearly always, and what is asked below costs more
        return values
    if not isinstance(values, Sequence) or isinstance(values, str | bytes | bytearray):
        msg = f"{field}: must be a list, not {type(values).__name__}"
        raise InvalidArgument(msg)
    return values
