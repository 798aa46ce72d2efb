"""The end of a step, all in one commit: I3, I4 and I6."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from pgprog.model import ProcessStatus, TaskStatus, TaskType
from pgprog.store.rows import Completed, Outcome, Then
from pgprog.testing.twin.claims import start_task
from pgprog.testing.twin.ends import (
    break_process,
    cancel_tasks,
    end_task,
    finish_process,
    remove_process,
)
from pgprog.testing.twin.order import chained
from pgprog.testing.twin.repairs import restore_timers
from pgprog.testing.twin.world import TIMER_TYPES, Attempt, End, KeptEvent, Place, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.store.rows import Claimed, Completion, TimerChange
    from pgprog.testing.twin.world import Process, Space, World

# What may be followed by the next task of the process at once.
_IN_LIFE = (ProcessStatus.INIT, ProcessStatus.RUNNING)


def complete(
    world: World, worker_id: int, batch: Sequence[Completion], chains: Sequence[bool]
) -> list[Completed]:
    """End steps; see `Twin.complete`."""
    ended = [_end_step(world, completion) for completion in batch]
    freed = Counter(
        completion.claimed.namespace
        for completion, became in zip(batch, ended, strict=True)
        if became.outcome == "done" and not _is_held(completion)
    )
    # In a namespace at its limit others come first.
    has_room = {name: _has_room(world.spaces[name], freed, world=world) for name in freed}
    for pos, (completion, is_chain) in enumerate(zip(batch, chains, strict=True)):
        if is_chain and ended[pos].outcome == "done" and _goes_on(completion):
            claimed = completion.claimed
            following = _chain(world, worker_id, claimed) if has_room[claimed.namespace] else None
            ended[pos] = ended[pos]._replace(next_=following)
    return ended


def _end_step(world: World, completion: Completion) -> Completed:
    claimed = completion.claimed
    process = world.living(claimed.incarnation)
    task = None if process is None else process.running
    if process is None or task is None or task.claim_id != claimed.claim_id:
        return _late(world, claimed)
    outcome = completion.outcome
    if outcome is Outcome.CRITICAL:
        _pause(world, process, completion)
        outcome = Outcome.BROKEN
    if outcome is Outcome.BROKEN and process.status is ProcessStatus.ERROR:
        outcome = Outcome.FAILED  # a failing repair changes nothing
    match outcome:
        case Outcome.FINISHED:
            return _finish(world, process, task, completion)
        case Outcome.RETRY:
            return _retry(world, process, task, completion)
        case Outcome.BROKEN:
            return _break(world, process, task, completion)
        case _:
            return _leave(world, process, task, completion)


def _late(world: World, claimed: Claimed) -> Completed:
    """Answer a completion whose claim is over: its own earlier try, or it was taken away."""
    task = world.tasks.get(claimed.task_id)
    if task is not None and task.end is not None and task.end.claim_id == claimed.claim_id:
        return Completed("already", task.end.version, None)
    retried = [] if task is None else [a for a in task.attempts if a.outcome == "retry"]
    if any(attempt.claim_id == claimed.claim_id for attempt in retried):
        return Completed("already", None, None)
    return Completed("lost", None, None)


def _finish(world: World, process: Process, task: Task, completion: Completion) -> Completed:
    """Commit what the intent asks for."""
    at = max(world.now, process.changed_at)
    process.version = world.new_number()
    first = len(process.events) + 1
    _end(process, task, completion, world=world, status=TaskStatus.FINISHED)
    for number, event in enumerate(completion.events, first):
        process.events.append(
            KeptEvent(
                event_id=number,
                at=at,
                task_id=task.task_id,
                payload=event.payload,
                metadata=event.metadata,
                state_version=completion.state_version,
            )
        )
    if process.status is ProcessStatus.ERROR:
        is_mute = completion.then is Then.GO_ON and not completion.timers
        restore_timers(world, process, rerun=is_mute)
    process.detail = process.corrupted_by = process.broken_by = process.ended_at = None
    process.changed_at = at
    if completion.state is not None:
        process.state = completion.state
    if process.state is None or completion.state is not None:
        process.state_version = completion.state_version
    if completion.metadata is not None:
        process.metadata = None if completion.metadata == b"null" else completion.metadata
    is_last = completion.then is Then.FINISH
    process.turn_into(ProcessStatus.FINISHED if is_last else ProcessStatus.RUNNING, at=at)
    _set_timers(world, process, task, completion.timers)
    version = process.version
    if completion.then is Then.FINISH:
        finish_process(world, process)
    if completion.then is Then.REMOVE:
        remove_process(world, process, cause="removed")
    return Completed("done", version, None)


def _retry(world: World, process: Process, task: Task, completion: Completion) -> Completed:
    """Let a task wait for its next attempt: one of the queue keeps its place, a timer does not."""
    due_at = world.now + (completion.retry_after or timedelta())
    task.attempts.append(
        Attempt(
            claim_id=completion.claimed.claim_id,
            attempt=task.attempt,
            worker_id=task.worker_id,
            outcome="retry",
            started_at=task.started_at,
            ended_at=world.now,
            retry_at=due_at,
            error=completion.error,
        )
    )
    process.running = None
    task.worker_id = task.claim_id = None
    task.due_at = due_at
    task.place = Place.WAITING if task.is_timer else Place.HELD
    process.put_back(task)
    return Completed("done", process.version, None)


def _break(world: World, process: Process, task: Task, completion: Completion) -> Completed:
    process.version = world.new_number()
    _end(process, task, completion, world=world, status=TaskStatus.ERROR)
    break_process(world, process, task, detail=_detail(completion))
    return Completed("done", process.version, None)


def _leave(world: World, process: Process, task: Task, completion: Completion) -> Completed:
    """End a task that leaves its process as it was; of an init it is absent again."""
    is_rejected = completion.outcome is Outcome.REJECTED
    status = TaskStatus.FINISHED if is_rejected else TaskStatus.ERROR
    _end(process, task, completion, world=world, status=status)
    if task.type is TaskType.INIT:
        remove_process(world, process, cause="init rejected")
    return Completed("done", process.version, None)


def _end(
    process: Process, task: Task, completion: Completion, *, world: World, status: TaskStatus
) -> None:
    """End the task of a step; events are its own only where it changes the process."""
    writes = len(completion.events) if completion.outcome is Outcome.FINISHED else 0
    end = End(
        status=status,
        at=world.now,
        claim_id=completion.claimed.claim_id,
        version=process.version,
        response=completion.response,
        error=completion.error,
        first_event_id=len(process.events) + 1 if writes else None,
        events=writes,
    )
    end_task(process, task, end)


def _set_timers(world: World, process: Process, task: Task, changes: Sequence[TimerChange]) -> None:
    """Set and unset timers: of several changes to one name the last counts, the others stay."""
    last = {change.name: change for change in changes}
    gone = [process.timers[name] for name in last if name in process.timers]
    cancel_tasks(world, process, gone, cause="replaced")
    for name, change in sorted(last.items()):
        after = None if change.after is None else world.now + change.after
        due_at = after if change.at is None else change.at
        if due_at is not None:
            world.new_task(
                process,
                type=TaskType.REMOVE if change.remove else TaskType.TIMEOUT,
                name=name,
                due_at=due_at,
                context=task.context,
            )


def _chain(world: World, worker_id: int, ended: Claimed) -> Claimed | None:
    """Start the next task of the process, if its worker lives and nothing stands against it."""
    process = world.living(ended.incarnation)
    worker = world.workers.get(worker_id)
    is_alive = worker is not None and worker.lease_until > world.now
    if process is None or process.status not in _IN_LIFE or not is_alive:
        return None
    following = chained(world, process)
    return start_task(world, worker_id, process, following[0]) if following else None


def _has_room(space: Space, freed: Counter[str], *, world: World) -> bool:
    limit = space.settings.concurrency
    is_full = limit is not None and world.running_in(space.name) + freed[space.name] >= limit
    return space.paused_at is None and not is_full


def _goes_on(completion: Completion) -> bool:
    """Return whether more may follow: not after an end, a repair, or a task that is held."""
    is_end = completion.outcome in (Outcome.BROKEN, Outcome.CRITICAL)
    was_broken = completion.claimed.status == ProcessStatus.ERROR
    return completion.then is Then.GO_ON and not (_is_held(completion) or is_end or was_broken)


def _is_held(completion: Completion) -> bool:
    is_timer = completion.claimed.type in TIMER_TYPES
    return completion.outcome is Outcome.RETRY and not is_timer


def _pause(world: World, process: Process, completion: Completion) -> None:
    """Pause the namespace; one that is paused already keeps its time and reason."""
    space = world.spaces[process.namespace]
    if space.paused_at is None:
        space.paused_at = world.now
        space.pause_reason = _detail(completion)


def _detail(completion: Completion) -> str | None:
    if completion.error is None:
        return None
    detail = json.loads(completion.error).get("detail")
    return None if detail is None else str(detail)
