"""What is asked of processes: init, call, notify, repair, and their idempotency keys (I7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pgprog.codec import decode
from pgprog.errors import (
    IdempotencyConflict,
    InvalidArgument,
    PgprogError,
    ProcessExists,
    ProcessFinished,
    ProcessInError,
    ProcessNotInError,
    QueueFull,
)
from pgprog.model import ProcessStatus, TaskType
from pgprog.store.rows import Submitted
from pgprog.testing.twin.order import earliest_timers
from pgprog.testing.twin.world import Key, Place, Process, Task
from pgprog.texts import NAME_BYTES, check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from pgprog.model import Limits
    from pgprog.store.rows import Claimed, RawRequest
    from pgprog.testing.twin.world import Space, World

_MOST_PRIORITY = 1_000_000
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_MEASURED_WITHIN = timedelta(minutes=5)


def submit(world: World, request: RawRequest) -> int:
    """Put one request into the queue; see `Twin.submit`."""
    space = world.space(request.namespace)
    check(request, space.settings.limits)
    asked = (
        request.type,
        request.name,
        request.process_id,
        comparable(decode_exactly(request.args)),
    )
    key = Keyring(world, request.namespace, request.process_id, request.idempotency_key)
    if (known := key.known(asked)) is not None:
        return known.holder or 0
    if request.type != TaskType.REPAIR:
        _check_room(space, now=world.now)
    task_id = world.new_number()
    if request.type == TaskType.INIT:
        process = _new_process(world, request, task_id)
    else:
        process = world.process(request.namespace, request.process_id)
        check_status(process, TaskType(request.type))
    due_at = max(request.run_at or world.now, world.now)
    world.new_task(
        process,
        task_id,
        type=TaskType(request.type),
        name=request.name,
        due_at=due_at,
        args=request.args,
        context=request.context,
        key=request.idempotency_key,
        priority=request.priority,
        place=Place.LATER if due_at > world.now else Place.WAITING,
    )
    key.bind(task_id, asked)
    return task_id


def start(
    world: World,
    requests: Sequence[RawRequest],
    max_starts: int,
    may_run: Callable[[Process], bool],
    begin: Callable[[Task], Claimed],
) -> list[Submitted]:
    """Take requests, each with its own outcome; *begin* starts those whose process stands free."""
    made: list[Submitted] = []
    fresh: list[tuple[int, Task]] = []
    for request in requests:
        known = set(world.tasks)
        try:
            task_id = submit(world, request)
        except PgprogError as e:
            made.append(Submitted(e.sqlstate or "", str(e), 0, None))
            continue
        made.append(Submitted("known" if task_id in known else "queued", None, task_id, None))
        if task_id not in known:
            fresh.append((len(made) - 1, world.tasks[task_id]))
    free = [(pos, task) for pos, task in fresh if _stands_free(world, task, may_run)]
    free.sort(key=lambda each: each[1].incarnation)
    for pos, task in free[:max_starts]:
        made[pos] = Submitted("started", None, task.task_id, begin(task))
    return made


@dataclass(frozen=True, slots=True)
class Keyring:
    """The key of one request; without a key all is new."""

    world: World
    namespace: str
    process_id: str
    key: str | None

    def known(self, asked: Hashable) -> Key | None:
        """Return what the key was bound to, None when it is free.

        Raises:
            IdempotencyConflict: It belongs to another operation, process or args.
        """
        if self.key is None or (self.namespace, self.key) not in self.world.keys:
            return None
        found = self.world.keys[self.namespace, self.key]
        if found.fingerprint != asked:
            told = f"idempotency key {self.key} in namespace {self.namespace}"
            msg = f"{told} belongs to another request"
            raise IdempotencyConflict(msg)
        return found

    def bind(self, holder: int | None, asked: Hashable) -> None:
        """Give the key to a request that was taken; one that was refused keeps none."""
        if self.key is not None:
            bound = Key(holder=holder, fingerprint=asked, created_at=self.world.now)
            self.world.keys[self.namespace, self.key] = bound


def check(request: RawRequest, limits: Limits) -> None:
    """Look at the values of a request.

    Raises:
        InvalidArgument: One is out of its range; the message names it.
    """
    check_names(request.process_id, request.idempotency_key, limits)
    faults = {
        "name": request.name is not None and not 1 <= len(request.name.encode()) <= NAME_BYTES,
        "args": len(request.args or b"") > limits.args_bytes,
        "context": len(request.context or b"") > limits.context_bytes,
        "priority": abs(request.priority) > _MOST_PRIORITY,
        "run_at": request.run_at is not None and not _EARLIEST <= request.run_at <= _LATEST,
    }
    for field, is_fault in faults.items():
        if is_fault:
            msg = f"{field} is out of its range: {getattr(request, field)!r}"
            raise InvalidArgument(msg)


def check_names(process_id: str, key: str | None, limits: Limits) -> None:
    """Look at the id and the key of a request.

    Raises:
        InvalidArgument: One is empty or too long.
    """
    check_text(process_id, field="process_id", limit=limits.id_bytes)
    if key is not None:
        check_text(key, field="idempotency_key", limit=limits.key_bytes)


def check_status(process: Process, type_: TaskType) -> None:
    """Look at whether a process takes such a task: the specification's table of operations."""
    told = f"process {process.process_id} in namespace {process.namespace}"
    match process.status:
        case ProcessStatus.ERROR if type_ is not TaskType.REPAIR:
            msg = f"{told} is in error"
            raise ProcessInError(msg)
        case status if type_ is TaskType.REPAIR and status is not ProcessStatus.ERROR:
            msg = f"{told} is {status}, not in error"
            raise ProcessNotInError(msg)
        case ProcessStatus.FINISHED:
            msg = f"{told} is finished"
            raise ProcessFinished(msg)
        case _:
            pass


def decode_exactly(data: bytes | None) -> object:
    """Return plain JSON with all digits of its numbers."""
    return decode(data, numbers="decimal")


def comparable(plain: object) -> Hashable:
    """Return JSON as jsonb compares it: spelling and the order of keys do not matter, 1 is 1.0."""
    match plain:
        case bool():
            return ("truth", plain)
        case dict():
            return frozenset((name, comparable(value)) for name, value in plain.items())
        case list() | tuple():
            return tuple(comparable(value) for value in plain)
        case datetime():
            return plain.isoformat()
        case _:
            return (
                plain if isinstance(plain, str | int | float) or plain is None else _number(plain)
            )


def _number(plain: object) -> Hashable:
    assert plain.__hash__ is not None  # noqa: S101 - a Decimal
    return plain


def _check_room(space: Space, *, now: datetime) -> None:
    """Refuse by what was measured lately; where the lowest are dropped, only more is full."""
    settings = space.settings
    room = settings.max_queue + (settings.on_full == "drop_lowest")
    if space.measured_at is None or space.measured_at <= now - _MEASURED_WITHIN:
        return
    if space.measured >= room:
        msg = (
            f"the queue of namespace {space.name} is full: {space.measured} tasks wait,"
            f" at most {settings.max_queue} are allowed"
        )
        raise QueueFull(msg)


def _new_process(world: World, request: RawRequest, task_id: int) -> Process:
    name = (request.namespace, request.process_id)
    if name in world.processes:
        msg = f"process {request.process_id} in namespace {request.namespace} exists"
        raise ProcessExists(msg)
    process = Process(
        namespace=request.namespace,
        process_id=request.process_id,
        incarnation=task_id,
        status=ProcessStatus.INIT,
        status_changed_at=world.now,
        created_at=world.now,
        changed_at=world.now,
        version=world.new_number(),
    )
    world.processes[name] = process
    return process


def _stands_free(world: World, task: Task, may_run: Callable[[Process], bool]) -> bool:
    """Return whether a new task may be started where it arrives."""
    process = world.processes[task.namespace, task.process_id]
    space = world.spaces[task.namespace]
    due_status = {TaskType.INIT: ProcessStatus.INIT, TaskType.REPAIR: ProcessStatus.ERROR}
    overdue = [
        timer
        for timer in earliest_timers(process, now=world.now)
        if timer.due_at <= world.now - space.settings.timer_patience
    ]
    before = [t for t in process.queue.values() if t.due_at <= world.now or t.place is Place.HELD]
    return (
        may_run(process)
        and task.due_at <= world.now
        and process.running is None
        and min(t.task_id for t in before) == task.task_id
        and not overdue
        and space.paused_at is None
        and space.settings.concurrency is None
        and process.status is due_status.get(task.type, ProcessStatus.RUNNING)
    )
