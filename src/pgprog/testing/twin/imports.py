"""Processes that come from elsewhere: put takes what get gives."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pgprog.codec import encode
from pgprog.errors import InvalidArgument, ProcessExists
from pgprog.model import ProcessStatus, TaskType
from pgprog.testing.twin.requests import Keyring, check_names, comparable
from pgprog.testing.twin.world import KeptEvent, Place, Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.model import Limits
    from pgprog.testing.twin.world import World

_KEYS = frozenset(
    {"namespace", "process_id", "incarnation", "version", "timers", "history", "last_event_id"}
    | {"status", "previous_status", "status_changed_at", "detail", "corrupted_by", "created_at"}
    | {"state", "state_version", "metadata"}
)
_STATUSES = ("running", "error", "finished")


def put(world: World, process: Mapping[str, Any], idempotency_key: str | None) -> int:
    """Import a process with its whole history; see `Twin.put`."""
    namespace, process_id = str(process.get("namespace")), str(process.get("process_id") or "")
    settings = world.space(namespace).settings
    check_names(process_id, idempotency_key, settings.limits)
    if (fault := _fault(process)) is not None:
        msg = f"process {process_id} in namespace {namespace} cannot be imported: {fault}"
        raise InvalidArgument(msg)
    asked = ("put", process_id, comparable(dict(process)))
    key = Keyring(world, namespace, process_id, idempotency_key)
    if (known := key.known(asked)) is not None:
        return known.holder or 0
    if (namespace, process_id) in world.processes:
        msg = f"process {process_id} in namespace {namespace} exists"
        raise ProcessExists(msg)

    made = _made(world, process, settings.limits)
    world.processes[namespace, process_id] = made
    is_broken = made.status is ProcessStatus.ERROR
    for name, at in sorted((process.get("timers") or {}).items()):
        world.new_task(
            made,
            type=TaskType.TIMEOUT,
            name=name,
            due_at=_time(at),
            place=Place.SUSPENDED if is_broken else Place.WAITING,
        )
    key.bind(made.version, asked)
    return made.version


def _made(world: World, process: Mapping[str, Any], limits: Limits) -> Process:
    """Return a process with an incarnation and a version of its own."""
    events = [_event(raw, limit=limits.event_bytes) for raw in process.get("history") or ()]
    status = ProcessStatus(process["status"])
    return Process(
        namespace=process["namespace"],
        process_id=process["process_id"],
        incarnation=world.new_number(),
        status=status,
        previous_status=_status(process.get("previous_status")),
        status_changed_at=_time(process.get("status_changed_at") or world.now),
        created_at=_time(process.get("created_at") or world.now),
        changed_at=max([world.now, *(event.at for event in events[-1:])]),
        version=world.new_number(),
        detail=process.get("detail"),
        corrupted_by=process.get("corrupted_by"),
        ended_at=None if status is ProcessStatus.RUNNING else world.now,
        state=_json(process.get("state"), limit=limits.state_bytes),
        state_version=process.get("state_version") or 1,
        metadata=_json(process.get("metadata"), limit=limits.event_bytes),
        events=events,
    )


def _fault(process: Mapping[str, Any]) -> str | None:
    """Say what is wrong with it: the history must be whole, 1 to n, and never go back."""
    history = process.get("history") or ()
    if unknown := set(process) - _KEYS:
        return f"unknown key {min(unknown)}"
    if process.get("status") not in _STATUSES:
        return f"status is {process.get('status')}, running, error or finished is needed"
    if process["status"] == "finished" and process.get("timers"):
        return "a finished process has timers"
    if process.get("last_event_id", len(history)) != len(history):
        return f"last_event_id is {process['last_event_id']}, history has {len(history)} events"
    return _history_fault(history)


def _history_fault(history: Sequence[Mapping[str, Any]]) -> str | None:
    before: datetime | None = None
    for number, event in enumerate(history, 1):
        if event.get("event_id") != number:
            return f"event {number} of history has event_id {event.get('event_id')}"
        if event.get("at") is None or event.get("task_id") is None:
            return f"event {number} has no at, or no task_id"
        at = _time(event["at"])
        if before is not None and at < before:
            return f"event {number} is earlier than the one before it"
        before = at
    return None


def _event(raw: Mapping[str, Any], *, limit: int) -> KeptEvent:
    return KeptEvent(
        event_id=raw["event_id"],
        at=_time(raw["at"]),
        task_id=raw["task_id"],
        payload=encode(raw.get("payload"), field="payload", limit=limit, numbers="decimal"),
        metadata=_json(raw.get("metadata"), limit=limit),
        state_version=raw.get("state_version") or 1,
    )


def _json(plain: object, *, limit: int) -> bytes | None:
    if plain is None:
        return None
    return encode(plain, field="a part of the process", limit=limit, numbers="decimal")


def _status(status: str | None) -> ProcessStatus | None:
    return None if status is None else ProcessStatus(status)


def _time(given: str | datetime) -> datetime:
    return datetime.fromisoformat(given) if isinstance(given, str) else given
