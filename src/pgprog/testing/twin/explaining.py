"""The one reason why a process is not moving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgprog.model import Explanation, ProcessStatus, TaskType
from pgprog.testing.twin.order import Way, first_fit, is_held, turns_with
from pgprog.testing.twin.world import Place

if TYPE_CHECKING:
    from pgprog.testing.twin.order import Turn
    from pgprog.testing.twin.world import Process, Task, World


def explain(world: World, namespace: str, process_id: str) -> Explanation:
    """Name the reason; see `Twin.explain`."""
    process = world.process(namespace, process_id)
    task = first_fit(process, now=world.now)
    if process.running is not None:
        running = process.running
        return _told("running", f"{running.type} {running.task_id} runs", task=running)
    if process.status is ProcessStatus.ERROR and task is None:
        told = f"in error by task {process.corrupted_by}: {process.detail}"
        return _told("error", told, task_id=process.corrupted_by)
    if process.status is ProcessStatus.FINISHED:
        return _told("nothing to do", "finished")
    # What a claim refuses ends in it, and the claim goes on.
    settings = world.spaces[namespace].settings
    if possible := turns_with(process, task, settings, now=world.now):
        return _why_not_now(world, possible[0])
    return _why_it_waits(world, process, task)


def _why_it_waits(world: World, process: Process, task: Task | None) -> Explanation:
    """Say what it waits for; nothing of it could start."""
    if task is not None and is_held(task, now=world.now):
        told = f"{task.type} {task.task_id} has its attempt {task.attempt + 1} at {task.due_at}"
        return _told("retry", told, task=task, at=task.due_at.isoformat())
    later = [t for t in process.queue.values() if t.place is Place.LATER and t.due_at > world.now]
    later.sort(key=lambda t: (_is_behind_init(process, t), t.due_at, t.task_id))
    if task is not None and later:
        told = f"{task.type} {task.task_id} is blocked by init {later[0].task_id}"
        return _told(
            "blocked", told, task=task, blocked_by=later[0].task_id, at=later[0].due_at.isoformat()
        )
    timers = [t for t in process.timers.values() if t.place is not Place.SUSPENDED]
    timers.sort(key=lambda t: (t.due_at, t.task_id))
    if later and (not timers or later[0].due_at <= timers[0].due_at):
        told = f"{later[0].type} {later[0].task_id} is due at {later[0].due_at}"
        return _told("later", told, task=later[0], at=later[0].due_at.isoformat())
    if timers:
        told = f"timer {timers[0].name!r} is due at {timers[0].due_at}"
        reason = "retry" if timers[0].attempt > 0 else "timer"
        return _told(reason, told, task=timers[0], at=timers[0].due_at.isoformat())
    return _told("nothing to do", "no task and no timer waits")


def _why_not_now(world: World, turn: Turn) -> Explanation:
    """Say what stands against a task whose turn it is; nothing, where it is ready."""
    task = turn.task
    space = world.spaces[task.namespace]
    limit = space.settings.concurrency
    count = world.running_in(task.namespace)
    if space.paused_at is not None:
        told = f"namespace {space.name} is paused: {space.pause_reason or 'no reason given'}"
        return _told("paused", told, task=task)
    if not world.has_worker(world.processes[task.namespace, task.process_id]):
        return _told("no worker", f"no live worker serves namespace {space.name}", task=task)
    if limit is not None and count >= limit:
        return _told("limit", f"{count} tasks run, the concurrency is {limit}", task=task)
    if turn.way is Way.BREAK:
        told = f"{task.type} {task.task_id} crashed its workers {task.crashes} times"
        return _told("crashed", told, task=task)
    return _told("ready", f"{task.type} {task.task_id} is due, the next claim takes it", task=task)


def _is_behind_init(process: Process, task: Task) -> bool:
    return process.status is ProcessStatus.INIT and task.type is not TaskType.INIT


def _told(
    reason: str, sentence: str, *, task: Task | None = None, **details: object
) -> Explanation:
    named = {} if task is None else {"task_id": task.task_id, "type": task.type}
    runnable = {"runnable": reason == "ready"}
    return Explanation(reason=reason, sentence=sentence, details={**named, **details, **runnable})
