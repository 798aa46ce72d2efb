"""Mending processes in error; the repair with a handler is an ordinary task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgprog.errors import ProcessNotInError, TaskNotFound
from pgprog.model import ProcessStatus, TaskType
from pgprog.testing.twin.ends import cancel_tasks
from pgprog.testing.twin.requests import Keyring, check_names
from pgprog.testing.twin.world import Place, Task

if TYPE_CHECKING:
    from pgprog.testing.twin.world import Process, World


def simple_repair(
    world: World, namespace: str, process_id: str, idempotency_key: str | None
) -> int | None:
    """Mend a process without repair code; see `Twin.simple_repair`."""
    check_names(process_id, idempotency_key, world.space(namespace).settings.limits)
    asked = ("simple_repair", process_id)
    key = Keyring(world, namespace, process_id, idempotency_key)
    if (known := key.known(asked)) is not None:
        return known.holder
    process = world.process(namespace, process_id)
    if process.status is not ProcessStatus.ERROR:
        msg = f"process {process_id} in namespace {namespace} is {process.status}, not in error"
        raise ProcessNotInError(msg)
    failed = process.broken_by
    if failed is None or process.previous_status is None:
        msg = f"task {process.corrupted_by} that broke process {process_id} is not known here"
        raise TaskNotFound(msg, hint="repair it with the repair handler of its namespace")

    repairs = [
        t for t in process.open_tasks() if t.type is TaskType.REPAIR and t.place is not Place.LATER
    ]
    cancel_tasks(world, process, repairs, cause="process not in error")
    restore_timers(world, process, rerun=False)
    at = max(world.now, process.changed_at)
    process.turn_into(process.previous_status, at=at)
    process.changed_at = at
    process.version = world.new_number()
    process.detail = process.corrupted_by = process.broken_by = process.ended_at = None
    task = None if failed.type is TaskType.CALL else _again(world, process, failed)
    holder = None if task is None else task.task_id
    key.bind(holder, asked)
    return holder


def restore_timers(world: World, process: Process, *, rerun: bool) -> None:
    """Give back suspended timers; with *rerun* the timer that broke the process is due again."""
    for timer in process.timers.values():
        timer.place = Place.WAITING
    failed = process.broken_by
    if rerun and failed is not None and failed.type is TaskType.TIMEOUT:
        _again(world, process, failed)


def _again(world: World, process: Process, failed: Task) -> Task:
    """Ask again for what failed, as a new task without a key that is due now."""
    return world.new_task(
        process,
        type=failed.type,
        name=failed.name,
        due_at=world.now,
        args=failed.args,
        context=failed.context,
        priority=failed.priority,
    )
