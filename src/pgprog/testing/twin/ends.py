"""How tasks and processes end: I8, every end tells its waiter the true cause."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pgprog.errors import TaskNotFound
from pgprog.model import ProcessStatus, TaskStatus, TaskType
from pgprog.testing.twin.world import End, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgprog.testing.twin.world import Process, Task, World

_DETAIL_LETTERS = 500


def end_task(process: Process, task: Task, end: End) -> None:
    """End an open task."""
    process.take_out(task)
    task.place = Place.ENDED
    task.end = end
    task.claim_id = None


def cancel_tasks(world: World, process: Process, tasks: Iterable[Task], *, cause: str) -> None:
    """End open tasks as cancelled."""
    error = json.dumps({"cause": cause}).encode()
    for task in tasks:
        if task.place is not Place.RUNNING:
            task.started_at = None
        end_task(process, task, End(status=TaskStatus.CANCELLED, at=world.now, error=error))


def break_process(world: World, process: Process, task: Task, *, detail: str | None) -> None:
    """Put a process in error for *task*, which has failed: what waits is told, timers rest."""
    at = max(world.now, process.changed_at)
    process.turn_into(ProcessStatus.ERROR, at=at)
    process.changed_at = at
    process.detail = detail
    process.corrupted_by = task.task_id
    process.broken_by = task
    process.ended_at = world.now
    for timer in process.timers.values():
        timer.place = Place.SUSPENDED
    cause = "process broken" if detail is None else f"process broken: {detail[:_DETAIL_LETTERS]}"
    others = [t for t in process.queue.values() if t.type is not TaskType.REPAIR]
    cancel_tasks(world, process, others, cause=cause)


def break_crashed(world: World, process: Process, task: Task) -> None:
    """End a task that crashed its workers too often; a repair breaks nothing by that."""
    told = {"error_type": "Crashed", "detail": "zombie detected", "attempt": task.attempt}
    error = json.dumps(told).encode()
    end_task(process, task, End(status=TaskStatus.ERROR, at=world.now, error=error))
    if task.type is not TaskType.REPAIR:
        process.version = world.new_number()
        break_process(world, process, task, detail="zombie detected")


def finish_process(world: World, process: Process) -> None:
    """Cancel all that waits for a process that has finished."""
    process.ended_at = world.now
    cancel_tasks(world, process, process.open_tasks(), cause="process finished")


def remove_process(world: World, process: Process, *, cause: str) -> None:
    """Remove a process at once; its open tasks, the running one too, end as cancelled."""
    del world.processes[process.namespace, process.process_id]
    cancel_tasks(world, process, process.open_tasks(), cause=cause)


def fire_removal(world: World, process: Process, timer: Task) -> None:
    """Let a timer remove its process; no handler is called."""
    timer.attempt += 1
    timer.started_at = world.now
    end_task(process, timer, End(status=TaskStatus.FINISHED, at=world.now))
    remove_process(world, process, cause="removed")


def cancel(world: World, task_id: int) -> bool:
    """End a task that has not started; see `Twin.cancel`."""
    if task_id not in world.tasks:
        msg = f"no task {task_id}"
        raise TaskNotFound(msg, hint="ended tasks are forgotten after task_retention")
    task = world.tasks[task_id]
    process = world.living(task.incarnation)
    if process is None or task.place in (Place.ENDED, Place.RUNNING):
        return False
    if task.type is TaskType.INIT:
        remove_process(world, process, cause="cancelled")
    else:
        cancel_tasks(world, process, [task], cause="cancelled")
    return True
