"""What the round trips of a worker tell its metrics: once a batch, where the meaning allows it.

What is done for each task is done by functions of C: all of this takes 2 to 3 µs of the 90 that
Python spends on a task.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import compress
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Any, NamedTuple

from pgprog.errors import NamespaceNotFound
from pgprog.store.columns import labels_of
from pgprog.store.rows import Claimed, Completed, Completion, Outcome, Submitted, Then

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pgprog.metrics import Metrics
    from pgprog.metrics.instruments import Series
    from pgprog.store.rows import RawRequest

_TIMERS = frozenset({"timeout", "remove"})
_OUTCOMES = {
    Outcome.FINISHED: "finished",
    Outcome.REJECTED: "rejected",
    Outcome.RETRY: "retry",
    Outcome.BROKEN: "error",
    Outcome.FAILED: "error",
    Outcome.CRITICAL: "error",
}
# Looking up a member of an enum costs more than all the rest.
_FINISHED, _REMOVE = Outcome.FINISHED, Then.REMOVE
_ENDED = frozenset({"done", "already"})
_UNKNOWN = NamespaceNotFound.sqlstate


def _getter(row: type[NamedTuple], *fields: str) -> Callable[[NamedTuple], Any]:
    return itemgetter(*(row._fields.index(field) for field in fields))


_namespace_of = _getter(Claimed, "namespace")
_type_of = _getter(Claimed, "type")
_labels_of = _getter(Claimed, "namespace", "type")
_due_of = _getter(Claimed, "due_at")
_claim_of = _getter(Completion, "claimed")
_outcome_of = _getter(Completion, "outcome")
_then_of = _getter(Completion, "then")
_became = _getter(Completed, "outcome")
_next_of = _getter(Completed, "next_")
_outcome_of_request = _getter(Submitted, "outcome")
_claim_of_request = _getter(Submitted, "claimed")


@contextmanager
def timed(series: Series) -> Iterator[None]:
    """Measure what the block takes, if it succeeds."""
    began_at = time.monotonic()
    yield
    series.observe(time.monotonic() - began_at)


def measure_claim(
    metrics: Metrics,
    tasks: Sequence[Claimed],
    *,
    served: Iterable[str],
    told_at: datetime,
    seconds: float,
) -> None:
    """Count a claim for the namespaces of which it brought something, or for all it looked at.

    *told_at* is a time of the database, as the due times are.
    """
    brought = _measure_waits(metrics, tasks, [told_at] * len(tasks))
    scans = {(namespace, type_ in _TIMERS) for namespace, type_ in brought}
    if not scans:
        scans = {(namespace, is_timer) for namespace in served for is_timer in (False, True)}
    for namespace, is_timer in scans:
        scanning = metrics.timers_scanning if is_timer else metrics.calls_scanning
        scanning[namespace,].observe(seconds)


def measure_requests(
    metrics: Metrics,
    requests: Sequence[RawRequest],
    submitted: Sequence[Submitted],
    *,
    seconds: float,
) -> None:
    """Count a batch of requests, each for itself; those that start here wait for nothing.

    What names no namespace is left out: anybody may make names up, and each is kept for ever.
    """
    outcomes = [*map(_outcome_of_request, submitted)]
    if _UNKNOWN in outcomes:
        pairs = zip(requests, outcomes, strict=True)
        requests = [request for request, outcome in pairs if outcome != _UNKNOWN]
    for key, count in Counter(labels_of(requests)).items():
        metrics.request_preparing[key].observe(seconds, count)
    started = [*filter(None, map(_claim_of_request, submitted))]
    for key, count in _counted(started).items():
        metrics.task_wait[key].observe(0.0, count)


def measure_completions(
    metrics: Metrics,
    batch: Sequence[Completion],
    completed: Sequence[Completed],
    *,
    seconds: float,
) -> None:
    """Count the ends of steps that are committed, those whose claim is lost, and next tasks."""
    plain = _plain(batch, completed)
    for key, count in _counted(plain).items():
        metrics.task_completion[key[0], "finished"].observe(seconds, count)
        metrics.tasks.add(*key, "finished", by=count)
        metrics.task_processing[key].sort()
    if len(plain) < len(batch):
        known = {*map(id, plain)}
        for ended, became in zip(batch, completed, strict=True):
            if id(ended.claimed) not in known:
                _measure_other(metrics, ended, became.outcome, seconds=seconds)
    if [*map(_next_of, completed)].count(None) < len(completed):
        next_ = [(each.next_, each.told_at) for each in completed if each.next_ is not None]
        started = [(task, at) for task, at in next_ if at is not None]
        _measure_waits(metrics, [task for task, _ in started], [at for _, at in started])


def _plain(batch: Sequence[Completion], completed: Sequence[Completed]) -> list[Claimed]:
    """Return the claims of steps that are finished and leave their process: all, nearly always."""
    count = len(batch)
    if (
        [*map(_became, completed)].count("done") == count
        and [*map(_outcome_of, batch)].count(_FINISHED) == count
        and _REMOVE not in map(_then_of, batch)
    ):
        return [*map(_claim_of, batch)]
    return [
        ended.claimed
        for ended, became in zip(batch, completed, strict=True)
        if ended.outcome is _FINISHED and became.outcome == "done" and ended.then is not _REMOVE
    ]


def _measure_other(
    metrics: Metrics, completion: Completion, became: str, *, seconds: float
) -> None:
    """Count an end that is rarer than a finished step that leaves its process."""
    namespace, type_ = key = _labels_of(completion.claimed)
    if became in _ENDED:
        outcome = _OUTCOMES[completion.outcome]
        metrics.task_completion[namespace, outcome].observe(seconds)
        metrics.task_processing[key].sort()
        if completion.outcome is Outcome.RETRY:
            metrics.retries.add(*key)
        else:
            metrics.tasks.add(namespace, type_, outcome)
        if completion.then is Then.REMOVE:
            metrics.process_removing[namespace,].observe(seconds)
    elif became != "busy":
        metrics.claims_lost.add(namespace)


def _measure_waits(
    metrics: Metrics, started: Sequence[Claimed], at: Sequence[datetime]
) -> set[tuple[str, str]]:
    """Measure from when tasks were due to when they were started; return their labels."""
    waits = [*map(timedelta.total_seconds, map(sub, at, map(_due_of, started)))]
    found = {*_counted(started)}
    for key in found:
        own = waits
        if len(found) > 1:
            own = [*compress(waits, map(key.__eq__, map(_labels_of, started)))]
        metrics.task_wait[key].observe_all(own)
        if key[1] in _TIMERS:
            metrics.timer_lateness[key[0],].observe_all(own)
    return found


def _counted(rows: Sequence[Claimed]) -> dict[tuple[str, str], int]:
    """Return how many there are of each namespace and type.

    Most batches are of one of each.  That is seen without a tuple for each task: these would wake
    the garbage collector, which costs more than all the rest.
    """
    if rows:
        namespaces, types = [*map(_namespace_of, rows)], [*map(_type_of, rows)]
        if namespaces.count(namespaces[0]) == types.count(types[0]) == len(rows):
            return {(namespaces[0], types[0]): len(rows)}
    return Counter(map(_labels_of, rows))
