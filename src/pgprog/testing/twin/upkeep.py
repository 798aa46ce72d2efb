"""Pause and resume, sizes of queues, and what time takes away."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pgprog.model import ProcessStatus, TaskType
from pgprog.testing.twin.ends import cancel_tasks, remove_process
from pgprog.testing.twin.world import Place

if TYPE_CHECKING:
    from pgprog.testing.twin.world import Task, World

_DROPPED_TYPES = (TaskType.CALL, TaskType.NOTIFY, TaskType.REPAIR)
_DROPPED_PLACES = (Place.WAITING, Place.LATER)
# No sooner than a configuration may say.
_KEY_FLOOR = timedelta(minutes=1)
_TASK_FLOOR = timedelta(hours=1)


def pause(world: World, namespace: str, reason: str | None) -> bool:
    """Let no task start; return whether the namespace ran before."""
    space = world.space(namespace)
    was_running = space.paused_at is None
    space.paused_at = space.paused_at or world.now
    space.pause_reason = reason
    return was_running


def resume(world: World, namespace: str) -> bool:
    """Let tasks start again; return whether the namespace was paused."""
    space = world.space(namespace)
    was_paused = space.paused_at is not None
    space.paused_at = space.pause_reason = None
    return was_paused


def measure_queues(world: World) -> None:
    """Count the tasks that wait; where the namespace says so, drop the lowest of too many."""
    for space in world.spaces.values():
        waiting = [t for p in world.in_space(space.name) for t in p.queue.values()]
        surplus = len(waiting) - space.settings.max_queue
        dropped: list[Task] = []
        if space.settings.on_full == "drop_lowest" and surplus > 0:
            lowest = sorted(
                (t for t in waiting if t.type in _DROPPED_TYPES and t.place in _DROPPED_PLACES),
                key=lambda t: (t.rank, t.task_id),
                reverse=True,
            )
            dropped = lowest[:surplus]
        for task in dropped:
            process = world.processes[task.namespace, task.process_id]
            cancel_tasks(world, process, [task], cause="queue full")
        space.measured, space.measured_at = len(waiting) - len(dropped), world.now


def maintain(world: World, *, task_retention: timedelta, key_ttl: timedelta) -> None:
    """Forget what is old: keys, finished processes, ended tasks with their answers."""
    now = world.now
    key_ttl, task_retention = max(key_ttl, _KEY_FLOOR), max(task_retention, _TASK_FLOOR)
    world.keys = {n: k for n, k in world.keys.items() if k.created_at >= now - key_ttl}
    for process in list(world.processes.values()):
        retention = world.spaces[process.namespace].settings.retention
        is_finished = process.status is ProcessStatus.FINISHED and process.ended_at is not None
        if is_finished and process.ended_at is not None and process.ended_at < now - retention:
            remove_process(world, process, cause="removed")
    world.tasks = {
        task_id: task
        for task_id, task in world.tasks.items()
        if task.end is None or task.end.at >= now - task_retention
    }
