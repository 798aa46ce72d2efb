"""Whose turn it is in a process: I1 and I2.

Of what was asked of a process the smallest id goes first: among those that are due, and those that
wait for their retry, which hold their place.  An init goes before all others.  Timers go when none
of these waits, the earliest first; one that is overdue past patience goes before a task that came
after it was due.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pgprog.model import ProcessStatus, TaskType
from pgprog.testing.twin.world import Place

if TYPE_CHECKING:
    from datetime import datetime

    from pgprog.config import NamespaceSettings
    from pgprog.testing.twin.world import Process, Task, World


class Way(StrEnum):
    """What a claim does with a task whose turn it is.

    BREAK: it crashed its workers too often.  REMOVE: the timer removes its process.  REFUSE: a
    repair of a process that is not in error.
    """

    START = "start"
    BREAK = "break"
    REMOVE = "remove"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Turn:
    """A task and what a claim does with it."""

    task: Task
    way: Way


def turns(process: Process, settings: NamespaceSettings, *, now: datetime) -> list[Turn]:
    """Return what may be next: nothing, one task, or several timers that are due at one moment."""
    return turns_with(process, first_task(process, now=now), settings, now=now)


def turns_with(
    process: Process, task: Task | None, settings: NamespaceSettings, *, now: datetime
) -> list[Turn]:
    """Return the same where *task* is the first of the queue."""
    if process.running is not None:
        return []
    timers = earliest_timers(process, now=now)
    if timers and process.status is ProcessStatus.RUNNING:
        due_at = timers[0].due_at
        if task is None or (due_at <= now - settings.timer_patience and due_at < task.created_at):
            return [Turn(timer, _way(timer, process, settings)) for timer in timers]
    if task is None or is_held(task, now=now):
        return []
    is_mendable = process.status is not ProcessStatus.INIT or task.type is TaskType.INIT
    way = _way(task, process, settings)
    return [Turn(task, way)] if is_mendable or way is Way.REFUSE else []


def first_task(process: Process, *, now: datetime) -> Task | None:
    """Return the task that the others wait behind, due or held for its retry."""
    in_order = [t for t in _queued(process) if t.due_at <= now or t.place is Place.HELD]
    if (
        process.status is ProcessStatus.INIT
        and in_order
        and in_order[0].type is not TaskType.REPAIR
    ):
        in_order.sort(key=lambda t: t.type is not TaskType.INIT)
    return in_order[0] if in_order else None


def first_fit(process: Process, *, now: datetime) -> Task | None:
    """Return the same, past what a claim refuses: repairs where nothing is broken."""
    is_broken = process.status is ProcessStatus.ERROR
    fit = [
        t
        for t in _queued(process)
        if (t.due_at <= now or t.place is Place.HELD) and (t.type is TaskType.REPAIR) == is_broken
    ]
    if process.status is ProcessStatus.INIT:
        fit.sort(key=lambda t: t.type is not TaskType.INIT)
    return fit[0] if fit else None


def earliest_timers(process: Process, *, now: datetime) -> list[Task]:
    """Return the due timers of the earliest time."""
    due = [t for t in process.timers.values() if t.place is Place.WAITING and t.due_at <= now]
    earliest = min((t.due_at for t in due), default=None)
    return sorted((t for t in due if t.due_at == earliest), key=lambda t: t.task_id)


def patience_ends(
    process: Process, settings: NamespaceSettings, *, now: datetime
) -> datetime | None:
    """Return when a due timer goes before the task in retry that it waits behind."""
    task = first_task(process, now=now)
    timers = earliest_timers(process, now=now)
    if process.running is not None or task is None or not timers or not is_held(task, now=now):
        return None
    due_at = timers[0].due_at
    return due_at + settings.timer_patience if due_at < task.created_at else None


def is_held(task: Task, *, now: datetime) -> bool:
    """Return whether it waits for its retry."""
    return task.place is Place.HELD and task.due_at > now


def chained(world: World, process: Process) -> list[Task]:
    """Return what a completion may go on with, without a claim; several are timers of one moment.

    Left to the claim: what was tried before, which may have to run alone; repairs; timers that
    remove; and all of a process in which something came due that no claim has seen.
    """
    now = world.now
    queued = [t for t in _queued(process) if t.place is not Place.LATER]
    timers = earliest_timers(process, now=now)
    if any(t.place is Place.LATER and t.due_at <= now for t in process.queue.values()):
        return []
    if any(timer.type is TaskType.REMOVE for timer in timers):
        return []
    if queued and (queued[0].place is Place.HELD or queued[0].type is TaskType.REPAIR):
        return []
    return [t for t in (queued[:1] or timers) if t.attempt == 0]


def join_the_waiting(process: Process, *, now: datetime) -> None:
    """Let what has come due wait for its turn."""
    for task in process.queue.values():
        if task.place in (Place.LATER, Place.HELD) and task.due_at <= now:
            task.place = Place.WAITING


def _queued(process: Process) -> list[Task]:
    return [process.queue[task_id] for task_id in sorted(process.queue)]


def _way(task: Task, process: Process, settings: NamespaceSettings) -> Way:
    if task.type is TaskType.REMOVE:
        return Way.REMOVE
    if task.type is TaskType.REPAIR and process.status is not ProcessStatus.ERROR:
        return Way.REFUSE
    return Way.BREAK if task.crashes >= settings.max_crashes else Way.START
