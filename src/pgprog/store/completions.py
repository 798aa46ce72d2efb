"""The statement that ends steps, its parameters packed, its rows read.

Apart from `EngineStore`, because a step with a transaction of its own ends on its own connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgprog.model import ProcessStatus
from pgprog.store.packing import bigints, booleans, instants, integers, jsonbs, texts
from pgprog.store.rows import Claimed, Completed, Completion, Outcome, Then

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from pgprog.store.window import Window

COMPLETE: Final = f"select * from pgprog_engine.complete({', '.join(['%s'] * 23)})"  # noqa: S608

_MICROSECOND = 1_000_000


def parameters(
    worker_id: int, batch: Sequence[Completion], *, chains: Sequence[bool]
) -> tuple[object, ...]:
    """Return the parameters of `COMPLETE`; *chains* says where a next task is wanted."""
    claimed = [completion.claimed for completion in batch]
    events = [
        (pos, number, event)
        for pos, completion in enumerate(batch, 1)
        for number, event in enumerate(completion.events, 1)
    ]
    timers = [
        (pos, timer) for pos, completion in enumerate(batch, 1) for timer in completion.timers
    ]
    return (
        worker_id,
        bigints([task.task_id for task in claimed]),
        bigints([task.claim_id for task in claimed]),
        bigints([task.incarnation for task in claimed]),
        integers([completion.outcome for completion in batch]),
        jsonbs([completion.state for completion in batch]),
        integers([completion.state_version for completion in batch]),
        jsonbs([completion.metadata for completion in batch]),
        jsonbs([completion.response for completion in batch]),
        jsonbs([completion.error for completion in batch]),
        bigints([_microseconds(completion.retry_after) for completion in batch]),
        integers([completion.then for completion in batch]),
        booleans(chains),
        integers([len(completion.events) for completion in batch]),
        integers([pos for pos, _, _ in events]),
        integers([number for _, number, _ in events]),
        jsonbs([event.payload for _, _, event in events]),
        jsonbs([event.metadata for _, _, event in events]),
        integers([pos for pos, _ in timers]),
        texts([timer.name for _, timer in timers]),
        instants([timer.at for _, timer in timers]),
        bigints([_microseconds(timer.after) for _, timer in timers]),
        booleans([timer.remove for _, timer in timers]),
    )


def results(batch: Sequence[Completion], rows: Iterable[Any]) -> list[Completed]:
    """Return what became of each completion, in the order of *batch*."""
    outcomes = [""] * len(batch)
    versions: list[int | None] = [None] * len(batch)
    nexts: list[Claimed | None] = [None] * len(batch)
    told: list[datetime | None] = [None] * len(batch)
    for pos, outcome, version, *task in rows:
        if outcome == "next":
            nexts[pos - 1] = _following(batch[pos - 1], version, *task)
            told[pos - 1] = task[-1]
        else:
            outcomes[pos - 1] = outcome
            versions[pos - 1] = version
    return [Completed(*each) for each in zip(outcomes, versions, nexts, told, strict=True)]


def _following(
    ended: Completion,
    version: int,
    task_id: int,
    claim_id: int,
    type_: str,
    *rest: Any,  # noqa: ANN401 - columns of a row
) -> Claimed:
    """Return the next task with the process as *ended* left it."""
    before = ended.claimed
    name, attempt, created_at, due_at, args, context, changed_at = rest
    finished = ended.outcome is Outcome.FINISHED
    kept = not finished or ended.state is None
    # A process without a state has the version of its last step.
    is_dated = finished and (ended.state is not None or before.state is None)
    metadata = before.metadata
    if finished and ended.metadata is not None:
        metadata = None if ended.metadata == b"null" else ended.metadata
    return Claimed(
        task_id,
        claim_id,
        before.incarnation,
        before.namespace,
        before.process_id,
        type_,
        name,
        attempt,
        created_at,
        due_at,
        args,
        context,
        ProcessStatus.RUNNING if finished and ended.then is Then.GO_ON else before.status,
        ended.state_version if is_dated else before.state_version,
        before.state if kept else ended.state,
        metadata,
        before.last_event_id + (len(ended.events) if finished else 0),
        version,
        window=_window(ended, at=changed_at) if finished else before.window,
    )


def _window(ended: Completion, *, at: datetime) -> Window | None:
    """Return the window of the next task: the events of *ended* are the newest now."""
    before = ended.claimed
    if before.window is None:
        return None
    return before.window.grown(
        ended.events, at=at, task_id=before.task_id, state_version=ended.state_version
    )


def _microseconds(duration: timedelta | None) -> int | None:
    if duration is None:
        return None
    return (duration.days * 86_400 + duration.seconds) * _MICROSECOND + duration.microseconds
