"""What the twin remembers: namespaces, processes, tasks, keys, workers, and the time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pgprog.errors import NamespaceNotFound, ProcessNotFound
from pgprog.model import ProcessStatus, TaskStatus, TaskType

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping
    from datetime import datetime

    from pgprog.config import NamespaceSettings

TIMER_TYPES = frozenset({TaskType.TIMEOUT, TaskType.REMOVE})
_WAITING_PER_PRIORITY = timedelta(seconds=10)


class Place(StrEnum):
    """Where a task is.

    LATER waits for its run_at; HELD for its retry, and keeps its place; SUSPENDED is a timer of a
    process in error.  What has come due is WAITING from the next claim on.
    """

    WAITING = "waiting"
    LATER = "later"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt that did not end its task; *outcome* is 'retry' or 'lost'."""

    claim_id: int
    attempt: int
    worker_id: int | None
    outcome: str
    started_at: datetime | None
    ended_at: datetime
    retry_at: datetime | None = None
    error: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a task ended; *events* counts those that it wrote, from *first_event_id*."""

    status: TaskStatus
    at: datetime
    claim_id: int | None = None
    version: int | None = None
    response: bytes | None = None
    error: bytes | None = None
    first_event_id: int | None = None
    events: int = 0


@dataclass(slots=True, kw_only=True)
class Task:
    """One thing asked of a process, from its request until it is forgotten; timers too."""

    task_id: int
    namespace: str
    process_id: str
    incarnation: int
    type: TaskType
    name: str | None
    created_at: datetime
    due_at: datetime
    args: bytes | None = None
    context: bytes | None = None
    key: str | None = None
    priority: int = 0
    place: Place = Place.WAITING
    attempt: int = 0
    crashes: int = 0
    worker_id: int | None = None
    claim_id: int | None = None
    begun: bool = False
    started_at: datetime | None = None
    attempts: list[Attempt] = field(default_factory=list)
    end: End | None = None
    _planned_at: datetime | None = None

    def __post_init__(self) -> None:
        self._planned_at = max(self.due_at, self.created_at)

    @property
    def is_timer(self) -> bool:
        """Whether it stands among the timers of its process, and not in its queue."""
        return self.type in TIMER_TYPES

    @property
    def was_lost(self) -> bool:
        """Whether a worker was lost with it: from then on it runs alone."""
        return any(attempt.outcome == "lost" for attempt in self.attempts)

    @property
    def rank(self) -> datetime:
        """What a claim goes by: a step of priority is worth ten seconds, a retry nothing."""
        if self.is_timer or self._planned_at is None:
            return self.due_at
        return self._planned_at - self.priority * _WAITING_PER_PRIORITY


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvent:
    """One fact of a history."""

    event_id: int
    at: datetime
    task_id: int
    payload: bytes
    metadata: bytes | None
    state_version: int = 1


@dataclass(slots=True, kw_only=True)
class Process:
    """One incarnation of a process, with its open tasks.

    *queue* holds init, call, notify and repair by task id, *timers* the timers by their names;
    the running task is in neither.  *broken_by* is what simple_repair needs, as long as it is in
    error.  *changed_at* never goes back.
    """

    namespace: str
    process_id: str
    incarnation: int
    status: ProcessStatus
    status_changed_at: datetime
    created_at: datetime
    changed_at: datetime
    version: int
    previous_status: ProcessStatus | None = None
    detail: str | None = None
    corrupted_by: int | None = None
    broken_by: Task | None = None
    ended_at: datetime | None = None
    state: bytes | None = None
    state_version: int = 1
    metadata: bytes | None = None
    events: list[KeptEvent] = field(default_factory=list)
    queue: dict[int, Task] = field(default_factory=dict)
    timers: dict[str, Task] = field(default_factory=dict)
    running: Task | None = None

    def put_back(self, task: Task) -> None:
        """Give an open task its place among those that wait."""
        if task.is_timer:
            self.timers[task.name or ""] = task
        else:
            self.queue[task.task_id] = task

    def take_out(self, task: Task) -> None:
        """Take a task from where it stands."""
        if self.running is task:
            self.running = None
        elif task.is_timer:
            del self.timers[task.name or ""]
        else:
            del self.queue[task.task_id]

    def open_tasks(self) -> list[Task]:
        """Return all that wait or run: the queue by id, timers, then the running one."""
        waiting = [self.queue[task_id] for task_id in sorted(self.queue)]
        running = [] if self.running is None else [self.running]
        return [*waiting, *self.timers.values(), *running]

    def turn_into(self, status: ProcessStatus, *, at: datetime) -> None:
        """Change the status; nothing happens where it is that already."""
        if self.status is not status:
            self.previous_status = self.status
            self.status = status
            self.status_changed_at = at


@dataclass(slots=True, kw_only=True)
class Space:
    """A namespace with its settings; max_queue is compared with what was *measured* last."""

    name: str
    settings: NamespaceSettings
    paused_at: datetime | None = None
    pause_reason: str | None = None
    measured: int = 0
    measured_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Worker:
    """An incarnation of a worker; *reads* is the newest version of states by namespace, or all."""

    worker_id: int
    name: str
    namespaces: tuple[str, ...]
    lease_until: datetime
    reads: Mapping[str, int] | None = None
    renewals: int = 0

    def may_run(self, process: Process) -> bool:
        """Return whether it serves the namespace and reads the state of a process."""
        name = process.namespace
        newest = process.state_version if self.reads is None else self.reads.get(name, 1)
        return name in self.namespaces and process.state_version <= newest


@dataclass(slots=True, kw_only=True)
class Key:
    """An idempotency key; *holder* is a task, of a put its version, None after a failed call."""

    holder: int | None
    fingerprint: Hashable
    created_at: datetime


@dataclass(slots=True, kw_only=True)
class World:
    """All that the database would hold."""

    now: datetime
    spaces: dict[str, Space] = field(default_factory=dict)
    processes: dict[tuple[str, str], Process] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    keys: dict[tuple[str, str], Key] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    _last_number: int = 0

    def new_number(self) -> int:
        """Return a number that grows and is never used again: for ids, claims and versions."""
        self._last_number += 1
        return self._last_number

    def space(self, namespace: str) -> Space:
        """Return a namespace.

        Raises:
            NamespaceNotFound: There is none of this name.
        """
        if namespace not in self.spaces:
            msg = f"no namespace {namespace}"
            raise NamespaceNotFound(msg, hint="start a worker that serves it, or check the name")
        return self.spaces[namespace]

    def process(self, namespace: str, process_id: str) -> Process:
        """Return a process.

        Raises:
            NamespaceNotFound: There is no such namespace.
            ProcessNotFound: There is no such process.
        """
        self.space(namespace)
        if (namespace, process_id) not in self.processes:
            msg = f"no process {process_id} in namespace {namespace}"
            raise ProcessNotFound(msg)
        return self.processes[namespace, process_id]

    def living(self, incarnation: int) -> Process | None:
        """Return the process of an incarnation, None when it is gone."""
        lives = (p for p in self.processes.values() if p.incarnation == incarnation)
        return next(lives, None)

    def in_space(self, namespace: str) -> Iterator[Process]:
        """Return the processes of a namespace, in the order of their making."""
        return (p for p in self.processes.values() if p.namespace == namespace)

    def running_in(self, namespace: str) -> int:
        """Count what runs in a namespace."""
        return sum(p.running is not None for p in self.in_space(namespace))

    def has_worker(self, process: Process) -> bool:
        """Return whether a live worker may run the tasks of a process."""
        return any(w.may_run(process) and w.lease_until > self.now for w in self.workers.values())

    def new_task(self, process: Process, task_id: int | None = None, **given: Any) -> Task:  # noqa: ANN401 - fields of Task
        """Remember a task that is asked of a process at this moment, and give it its place."""
        task = Task(
            task_id=task_id or self.new_number(),
            namespace=process.namespace,
            process_id=process.process_id,
            incarnation=process.incarnation,
            created_at=self.now,
            **given,
        )
        self.tasks[task.task_id] = task
        process.put_back(task)
        return task
