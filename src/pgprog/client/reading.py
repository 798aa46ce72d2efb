"""From what the database tells to the values that callers get."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from pgprog.codec import Codec
from pgprog.engine.events import events_of
from pgprog.model import (
    Explanation,
    Process,
    ProcessStatus,
    TaskId,
    TaskRecord,
    TaskResult,
    TaskStatus,
    TaskType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgprog.model import Event
    from pgprog.namespace import Namespace

PLAIN: Codec[Any] = Codec()


class _Event(msgspec.Struct):
    event_id: int
    at: datetime
    payload: msgspec.Raw
    metadata: msgspec.Raw
    task_id: int | None = None
    state_version: int | None = None


class RawProcess(msgspec.Struct):
    """The JSON of pgprog.get."""

    namespace: str
    process_id: str
    incarnation: int
    status: ProcessStatus
    previous_status: ProcessStatus | None
    status_changed_at: datetime
    detail: str | None
    corrupted_by: int | None
    state: msgspec.Raw
    state_version: int
    metadata: msgspec.Raw
    created_at: datetime
    last_event_id: int
    version: int
    timers: dict[str, datetime]
    history: list[_Event]


class _Result(msgspec.Struct):
    status: TaskStatus
    response: msgspec.Raw
    error: msgspec.Raw
    version: int | None


_PROCESS = msgspec.json.Decoder(RawProcess)
_EVENTS = msgspec.json.Decoder(list[_Event])
_RESULT = msgspec.json.Decoder(_Result)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def process_of(raw: bytes, *, namespace: Namespace[Any] | None) -> Process[Any]:
    """Return the process in the JSON of pgprog.get, its state typed where *namespace* is known.

    Raises:
        Misfit: The state does not fit the type, or it or an event is newer than *namespace*.
    """
    found = raw_process(raw)
    codec = PLAIN if namespace is None else namespace.plain_codec
    state = bytes(found.state)
    return Process(
        namespace=found.namespace,
        process_id=found.process_id,
        incarnation=found.incarnation,
        status=found.status,
        previous_status=found.previous_status,
        status_changed_at=found.status_changed_at,
        detail=found.detail,
        corrupted_by=None if found.corrupted_by is None else TaskId(found.corrupted_by),
        state=codec.decode(state)
        if namespace is None or state == b"null"
        else namespace.load_state(state, found.state_version),
        state_version=found.state_version if namespace is None else namespace.state_version,
        metadata=codec.decode(bytes(found.metadata)),
        created_at=found.created_at,
        last_event_id=found.last_event_id,
        version=found.version,
        timers=found.timers,
        history=_events(found.history, namespace=namespace),
    )


def raw_process(raw: bytes) -> RawProcess:
    """Return the JSON of pgprog.get with its payloads undecoded."""
    return _PROCESS.decode(raw)


def record_of(row: Mapping[str, Any]) -> TaskRecord:
    """Return a row of pgprog.trace."""
    return TaskRecord(
        task_id=TaskId(row["task_id"]),
        type=TaskType(row["type"]),
        name=row["name"],
        status=TaskStatus(row["status"]),
        attempt=row["attempt"],
        scheduled_at=row["scheduled_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        worker=row["worker"],
        args=PLAIN.decode(row["args"]),
        context=PLAIN.decode(row["context"]),
        idempotency_key=row["idempotency_key"],
        response=PLAIN.decode(row["response"]),
        error=PLAIN.decode(row["error"]),
        retry_at=row["retry_at"],
        events=_events(_EVENTS.decode(row["events"]), namespace=None),
    )


def result_of(task_id: int, raw: bytes) -> TaskResult:
    """Return the result in the JSON of pgprog.result."""
    found = _RESULT.decode(raw)
    return TaskResult(
        task_id=TaskId(task_id),
        status=found.status,
        response=PLAIN.decode(bytes(found.response)),
        error=PLAIN.decode(bytes(found.error)),
        version=found.version,
    )


def explanation_of(reason: str, sentence: str, details: bytes) -> Explanation:
    """Return the row of pgprog.explain."""
    return Explanation(reason=reason, sentence=sentence, details=_OBJECT.decode(details))


def health_of(raw: bytes) -> dict[str, Any]:
    """Return the JSON of pgprog.health."""
    return _OBJECT.decode(raw)


def _events(found: Iterable[_Event], *, namespace: Namespace[Any] | None) -> tuple[Event, ...]:
    rows = (
        (
            event.event_id,
            event.at,
            event.task_id,
            bytes(event.payload),
            bytes(event.metadata),
            event.state_version,
        )
        for event in found
    )
    return events_of(rows, namespace=namespace)
