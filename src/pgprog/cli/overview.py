"""What `pgprog top` shows, as tables of words: for a screen, a pipe or a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgprog.cli.output import age, short
from pgprog.store.sight import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgprog.store.rows import NamespaceStats
    from pgprog.store.sight import Sight

_DETAIL = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under their names; *alarms* are those of them that want attention.

    Columns of *spare* are left out where there is no room, the first of them first.
    """

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[object]]
    alarms: frozenset[int] = frozenset()
    spare: Sequence[str] = ()


def tables(sight: Sight) -> list[Table]:
    """Return namespaces, what needs attention first, then workers and errors."""
    return [_namespaces(sight), _workers(sight), _errors(sight)]


def plain(sight: Sight) -> dict[str, Any]:
    """Return the same as JSON has it: durations in seconds."""
    return {
        "now": sight.now,
        "took": sight.took,
        "namespaces": [
            {
                **each._asdict(),
                "oldest_due_age": None
                if each.oldest_due_age is None
                else each.oldest_due_age.total_seconds(),
                "ended_per_second": sight.rates.get(each.namespace, Rate()).ended,
                "failed_per_second": sight.rates.get(each.namespace, Rate()).failed,
            }
            for each in sight.namespaces
        ],
        "workers": list(sight.workers),
        "failures": list(sight.failures),
    }


def _namespaces(sight: Sight) -> Table:
    ordered = sorted(sight.namespaces, key=_urgency)
    names = ("namespace", "waiting", "due for", "running", "blocked", "timers")
    rates = [sight.rates.get(each.namespace, Rate()) for each in ordered]
    rows = [
        (
            each.namespace,
            each.waiting,
            None if each.oldest_due_age is None else short(each.oldest_due_age),
            each.running,
            each.blocked,
            each.timers,
            f"{rate.ended:.1f}",
            f"{rate.failed:.1f}",
            each.errors,
            each.workers,
            _state(each),
        )
        for each, rate in zip(ordered, rates, strict=True)
    ]
    alarms = (
        _state(each) is not None or rate.failed > 0
        for each, rate in zip(ordered, rates, strict=True)
    )
    return Table(
        title="namespaces",
        names=(*names, "ended/s", "failed/s", "in error", "workers", "state"),
        rows=rows,
        alarms=_where(alarms),
        spare=("timers", "blocked", "running", "ended/s", "workers", "in error", "failed/s"),
    )


def _urgency(each: NamespaceStats) -> tuple[bool, float, int, str]:
    due = 0.0 if each.oldest_due_age is None else -each.oldest_due_age.total_seconds()
    return _state(each) is None, due, -each.running, each.namespace


def _state(each: NamespaceStats) -> str | None:
    """Return what keeps a namespace from moving, None if nothing does."""
    if each.is_paused:
        return "paused"
    if each.oldest_due_age is not None and not each.workers:
        return "no worker"
    if each.max_queue is not None and each.waiting + each.blocked >= each.max_queue:
        return "full"
    if each.concurrency is not None and each.running >= each.concurrency and each.oldest_due_age:
        return "at its limit"
    return None


def _workers(sight: Sight) -> Table:
    rows = [
        (
            each.worker_id,
            each.name,
            ", ".join(each.namespaces),
            age(each.started_at, now=sight.now),
            f"{each.lease_left.total_seconds():.0f}s",
            each.running,
            None if each.oldest_started_at is None else age(each.oldest_started_at, now=sight.now),
        )
        for each in sight.workers
    ]
    return Table(
        title="workers",
        names=("worker", "name", "namespaces", "up", "lease", "running", "oldest step"),
        rows=rows,
        alarms=_where(each.lease_left.total_seconds() < 0 for each in sight.workers),
        spare=("up", "oldest step", "worker"),
    )


def _errors(sight: Sight) -> Table:
    rows = [
        (
            each.namespace,
            f"{each.failed} of {each.ended}",
            each.error_type,
            (each.detail or "")[:_DETAIL],
        )
        for each in sight.failures
    ]
    names = ("namespace", "failed lately", "most by", "detail")
    return Table(title="errors", names=names, rows=rows)


def _where(alarms: Iterable[bool]) -> frozenset[int]:
    return frozenset(number for number, is_alarm in enumerate(alarms) if is_alarm)
