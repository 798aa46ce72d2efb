"""What the round trips of a worker tell its metrics: once a batch, not once a task."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgprog.store.rows import Outcome, Then

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from pgprog.metrics import Metrics
    from pgprog.metrics.instruments import Series
    from pgprog.store.rows import Claimed, Completed, Completion, RawRequest

_TIMERS = frozenset({"timeout", "remove"})
_OUTCOMES = {
    Outcome.FINISHED: "finished",
    Outcome.REJECTED: "rejected",
    Outcome.RETRY: "retry",
    Outcome.BROKEN: "error",
    Outcome.FAILED: "error",
    Outcome.CRITICAL: "error",
}
_ENDED = frozenset({"done", "already"})


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
    """Count a claim for the namespaces of which it brought something, or for all it looked at."""
    metrics.clock.hear(told_at)
    brought = {(task.namespace, task.type in _TIMERS) for task in tasks}
    if not brought:
        brought = {(namespace, is_timer) for namespace in served for is_timer in (False, True)}
    for namespace, is_timer in brought:
        scanning = metrics.timers_scanning if is_timer else metrics.calls_scanning
        scanning[namespace,].observe(seconds)


def measure_requests(metrics: Metrics, requests: Sequence[RawRequest], *, seconds: float) -> None:
    """Count a batch of requests, each for itself."""
    counts: dict[tuple[str, str], int] = {}
    for request in requests:
        key = (request.namespace, request.type)
        counts[key] = counts.get(key, 0) + 1
    for key, count in counts.items():
        metrics.request_preparing[key].observe(seconds, count)


def measure_completions(
    metrics: Metrics,
    batch: Sequence[Completion],
    completed: Sequence[Completed],
    *,
    seconds: float,
) -> None:
    """Count the ends of steps that are committed, and those whose claim is lost."""
    counts: dict[tuple[str, str, Outcome], int] = {}
    for completion, each in zip(batch, completed, strict=True):
        claimed = completion.claimed
        if each.outcome in _ENDED:
            key = (claimed.namespace, claimed.type, completion.outcome)
            counts[key] = counts.get(key, 0) + 1
            if completion.then is Then.REMOVE:
                metrics.process_removing[claimed.namespace,].observe(seconds)
        elif each.outcome != "busy":
            metrics.claims_lost.add(claimed.namespace)
    for (namespace, type_, outcome), count in counts.items():
        name = _OUTCOMES[outcome]
        metrics.task_completion[namespace, name].observe(seconds, count)
        if outcome is Outcome.RETRY:
            metrics.retries.add(namespace, type_, by=count)
        else:
            metrics.tasks.add(namespace, type_, name, by=count)
