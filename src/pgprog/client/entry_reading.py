"""From what the cache keeps to the values that callers get, and from JSON to what it keeps."""

from __future__ import annotations

from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any

from pgprog.cache.entries import Entry, EventRow, ProcessRow
from pgprog.client.reading import PLAIN, raw_process
from pgprog.engine.events import events_of
from pgprog.model import Process, ProcessStatus, TaskId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from pgprog.cache.snapshots import Snapshot
    from pgprog.namespace import Namespace

_new = object.__new__
_set = object.__setattr__


def process_from(
    entry: Entry,
    namespace: Namespace[Any] | None,
    events: Sequence[EventRow],
    lag: float | None,
) -> Process[Any]:
    """Return a process of its own for one caller; *lag* is None when it was read just now.

    Making a dataclass of 18 fields takes longer than everything else: its fields are prepared once
    for an entry, and copied.  The state is decoded when it is looked at.

    Raises:
        Misfit: The state does not fit the type, or it or an event is newer than *namespace*.
    """
    form = entry.form
    if form is None or form[0] is not namespace:
        unread = _unread(entry.row, namespace)
        unread()  # what does not fit is told by the read, not by a look at the state
        fields = _fields_of(entry.row, namespace)
        form = entry.form = (namespace, fields | {"_unread_state": unread})
    fields = form[1].copy()
    fields["timers"] = {**entry.timers}
    return _completed(fields, entry.row, namespace, events, lag)


def process_told(
    row: ProcessRow,
    timers: Mapping[str, datetime],
    namespace: Namespace[Any] | None,
    events: Sequence[EventRow],
    lag: float | None,
) -> Process[Any]:
    """Return the process of an answer that nobody else is given; the rest is as in `process_from`.

    Raises:
        Misfit: As there.
    """
    fields = _fields_of(row, namespace)
    fields["state"] = _unread(row, namespace)()
    fields["timers"] = timers
    return _completed(fields, row, namespace, events, lag)


def entry_from(raw: bytes, *, snapshot: Snapshot, as_of: float) -> Entry:
    """Return what the cache keeps of the JSON of pgprog.get, with its newest events first."""
    found = raw_process(raw)
    row = ProcessRow(
        found.namespace,
        found.process_id,
        found.incarnation,
        found.status,
        found.previous_status,
        found.status_changed_at.astimezone(UTC),
        found.detail,
        found.corrupted_by,
        _or_none(bytes(found.state)),
        found.state_version,
        _or_none(bytes(found.metadata)),
        found.created_at.astimezone(UTC),
        found.last_event_id,
        found.version,
    )
    events = [
        EventRow(
            event.event_id,
            event.at.astimezone(UTC),
            event.task_id or 0,
            bytes(event.payload),
            _or_none(bytes(event.metadata)),
            event.state_version or 1,
        )
        for event in reversed(found.history)
    ]
    timers = {name: due_at.astimezone(UTC) for name, due_at in found.timers.items()}
    return Entry(row, events, timers, snapshot=snapshot, as_of=as_of)


def _completed(
    fields: dict[str, Any],
    row: ProcessRow,
    namespace: Namespace[Any] | None,
    events: Sequence[EventRow],
    lag: float | None,
) -> Process[Any]:
    if lag is not None:
        fields["source"] = "cache"
        fields["lag"] = lag
    if row.metadata is not None:
        fields["metadata"] = _codec(namespace).decode(_bytes(row.metadata))
    if events:
        fields["history"] = events_of(map(_parts, events), namespace=namespace)
    process: Process[Any] = _new(Process)
    _set(process, "__dict__", fields)
    return process


def _unread(row: ProcessRow, namespace: Namespace[Any] | None) -> Callable[[], Any]:
    """Return what decodes the state."""
    state = _bytes(row.state)
    if namespace is None or state is None:
        return partial(_codec(namespace).decode, state)
    return partial(namespace.load_state, state, row.state_version)


def _fields_of(row: ProcessRow, namespace: Namespace[Any] | None) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "process_id": row.process_id,
        "incarnation": row.incarnation,
        "status": ProcessStatus(row.status),
        "previous_status": row.previous_status and ProcessStatus(row.previous_status),
        "status_changed_at": row.status_changed_at,
        "detail": row.detail,
        "corrupted_by": None if row.corrupted_by is None else TaskId(row.corrupted_by),
        "state_version": row.state_version if namespace is None else namespace.state_version,
        "metadata": None,
        "created_at": row.created_at,
        "last_event_id": row.last_event_id,
        "version": row.version,
        "history": (),
        "source": "postgresql",
        "lag": 0.0,
    }


def _codec(namespace: Namespace[Any] | None) -> Any:  # noqa: ANN401 - a codec of JSON
    return PLAIN if namespace is None else namespace.plain_codec


def _bytes(value: object) -> bytes | None:
    """Return a payload, which in an entry is never left out."""
    return value if isinstance(value, bytes) else None


def _or_none(raw: bytes) -> bytes | None:
    return None if raw == b"null" else raw


def _parts(event: EventRow) -> tuple[object, ...]:
    return (
        event.event_id,
        event.at,
        event.task_id,
        event.payload,
        event.metadata,
        event.state_version,
    )
