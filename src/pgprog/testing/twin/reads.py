"""What anybody may read: a process, its history, its tasks, their answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pgprog.codec import decode
from pgprog.errors import InvalidArgument, TaskNotFound
from pgprog.model import Event, TaskId, TaskRecord, TaskResult, TaskStatus
from pgprog.testing.twin.world import Place

if TYPE_CHECKING:
    from datetime import datetime

    from pgprog.codec import Numbers
    from pgprog.model import Direction
    from pgprog.testing.twin.world import Attempt, KeptEvent, Process, Task, World

_LOST = json.dumps({"error_type": "Lost", "detail": "the worker was lost"}).encode()


def get(
    world: World,
    namespace: str,
    process_id: str,
    max_events: int,
    after: int | None,
    direction: Direction,
) -> dict[str, Any] | None:
    """Return a process as plain values; see `Twin.get`."""
    _check_max_events(max_events)
    process = world.processes.get((namespace, process_id))
    if process is None:
        return None
    numbers = world.spaces[namespace].settings.numbers
    return {
        "namespace": process.namespace,
        "process_id": process.process_id,
        "incarnation": process.incarnation,
        "status": process.status,
        "previous_status": process.previous_status,
        "status_changed_at": process.status_changed_at,
        "detail": process.detail,
        "corrupted_by": process.corrupted_by,
        "state": decode(process.state, numbers=numbers),
        "state_version": process.state_version,
        "metadata": decode(process.metadata, numbers=numbers),
        "created_at": process.created_at,
        "last_event_id": len(process.events),
        "version": process.version,
        "timers": {name: timer.due_at for name, timer in process.timers.items()},
        "history": [
            _shown(event, numbers)
            for event in _ranged(process.events, max_events, after, direction)
        ],
    }


def _shown(event: KeptEvent, numbers: Numbers) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "at": event.at,
        "task_id": event.task_id,
        "payload": decode(event.payload, numbers=numbers),
        "metadata": decode(event.metadata, numbers=numbers),
        "state_version": event.state_version,
    }


def history(
    world: World,
    namespace: str,
    process_id: str,
    after: int | None,
    max_events: int,
    direction: Direction,
) -> list[tuple[int, datetime, int, bytes, bytes | None, int]]:
    """Return (event_id, at, task_id, payload, metadata, state_version); see `Twin.history`."""
    _check_max_events(max_events)
    events = world.process(namespace, process_id).events
    return [
        (e.event_id, e.at, e.task_id, e.payload, e.metadata, e.state_version)
        for e in _ranged(events, max_events, after, direction)
    ]


def trace(world: World, namespace: str, process_id: str) -> list[TaskRecord]:
    """Return the tasks of a process by their ids; see `Twin.trace`."""
    process = world.process(namespace, process_id)
    numbers = world.spaces[namespace].settings.numbers
    records = []
    for task in sorted(world.tasks.values(), key=lambda t: t.task_id):
        if task.incarnation == process.incarnation:
            attempts = [_attempt(world, task, a, numbers) for a in task.attempts]
            records += sorted(
                [*attempts, _record(world, process, task, numbers)],
                key=lambda record: (record.attempt, record.ended_at is None, record.ended_at),
            )
    return records


def result(world: World, task_id: int) -> TaskResult:
    """Return where a task is, and its answer; see `Twin.result`."""
    if task_id not in world.tasks:
        msg = f"no task {task_id}"
        raise TaskNotFound(msg, hint="ended tasks are forgotten after task_retention")
    task = world.tasks[task_id]
    if task.end is None:
        return TaskResult(task_id=TaskId(task_id), status=status_of(world, task))
    numbers = world.spaces[task.namespace].settings.numbers
    return TaskResult(
        task_id=TaskId(task_id),
        status=task.end.status,
        response=decode(task.end.response, numbers=numbers),
        error=_error(task.end.error, numbers),
        version=task.end.version,
    )


def status_of(world: World, task: Task) -> TaskStatus:
    """Return the public status: what is due is blocked while another task of its process runs."""
    if task.end is not None:
        return task.end.status
    if task.place is Place.RUNNING:
        return TaskStatus.RUNNING
    process = world.processes[task.namespace, task.process_id]
    is_behind = process.running is not None and task.place is Place.WAITING
    return TaskStatus.BLOCKED if is_behind and task.due_at <= world.now else TaskStatus.WAITING


def _ranged(
    events: list[KeptEvent], max_events: int, after: int | None, direction: Direction
) -> list[KeptEvent]:
    """Return events above *after* ascending, or below it descending."""
    match direction:
        case "forward":
            return [e for e in events if after is None or e.event_id > after][:max_events]
        case "backward":
            return [e for e in events[::-1] if after is None or e.event_id < after][:max_events]


def _record(world: World, process: Process, task: Task, numbers: Numbers) -> TaskRecord:
    end = task.end
    is_open_timer = task.is_timer and task.place in (Place.WAITING, Place.SUSPENDED)
    is_retried = task.place is Place.HELD or (is_open_timer and task.attempt > 0)
    wrote = []
    if end is not None and end.first_event_id is not None:
        wrote = process.events[end.first_event_id - 1 : end.first_event_id - 1 + end.events]
    return TaskRecord(
        task_id=TaskId(task.task_id),
        type=task.type,
        name=task.name,
        status=status_of(world, task),
        attempt=task.attempt,
        scheduled_at=task.due_at,
        started_at=None if is_open_timer else task.started_at,
        ended_at=None if end is None else end.at,
        worker=_worker(world, task.worker_id),
        args=decode(task.args, numbers=numbers),
        context=decode(task.context, numbers=numbers),
        idempotency_key=task.key,
        response=None if end is None else decode(end.response, numbers=numbers),
        error=None if end is None else _error(end.error, numbers),
        retry_at=task.due_at if is_retried else None,
        events=tuple(_event(event, numbers) for event in wrote),
    )


def _attempt(world: World, task: Task, attempt: Attempt, numbers: Numbers) -> TaskRecord:
    """Return an attempt that did not end its task, as a row of its own."""
    return TaskRecord(
        task_id=TaskId(task.task_id),
        type=task.type,
        name=task.name,
        status=TaskStatus.ERROR,
        attempt=attempt.attempt,
        scheduled_at=task.due_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        worker=_worker(world, attempt.worker_id),
        args=decode(task.args, numbers=numbers),
        context=decode(task.context, numbers=numbers),
        idempotency_key=task.key,
        response=None,
        error=_error(attempt.error or _LOST, numbers),
        retry_at=attempt.retry_at,
    )


def _event(event: KeptEvent, numbers: Numbers) -> Event:
    metadata = decode(event.metadata, numbers=numbers)
    return Event(
        decode(event.payload, numbers=numbers),
        metadata if isinstance(metadata, dict) else None,
        event_id=event.event_id,
        at=event.at,
        task_id=event.task_id,
    )


def _error(raw: bytes | None, numbers: Numbers) -> dict[str, object] | None:
    error = decode(raw, numbers=numbers)
    return error if isinstance(error, dict) else None


def _worker(world: World, worker_id: int | None) -> str | None:
    if worker_id is None:
        return None
    known = world.workers.get(worker_id)
    return str(worker_id) if known is None else known.name


def _check_max_events(max_events: int) -> None:
    if max_events < 0:
        msg = f"max_events is {max_events}, 0 or more are allowed"
        raise InvalidArgument(msg)
