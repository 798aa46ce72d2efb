"""The figures of a run, and the least that it must have done to prove anything."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.checker import Breach
    from tests.chaos.evidence import Evidence
    from tests.chaos.run import Outcome

_SHOWN = 30
_LOGGED = (
    "claim_lost",
    "claims_lost",
    "steps_cancelled",
    "claims_handed_back",
    "worker_collected",
    "incarnation_ended",
    "transaction_lost",
)


@dataclass(frozen=True)
class Minimum:
    name: str
    wanted: int
    reached: int

    @property
    def is_reached(self) -> bool:
        return self.reached >= self.wanted


# For fifteen minutes; of a shorter run its share.
_WANTED = {
    "operations": 100_000,
    "faults": 200,
    "kills inside a step": 100,
    "late completions refused": 20,
    "answers lost": 10,
    "database restarts": 5,
}
_FULL_SECONDS = 900.0


def counts(evidence: Evidence, outcome: Outcome, logs: Path) -> dict[str, int]:
    """Return how much was done, under the names of the minimums."""
    faults = outcome.figures.faults
    return {
        "operations": len(evidence.ops) + len(evidence.reads),
        "faults": sum(faults.values()),
        "kills inside a step": len(outcome.figures.kills),
        "late completions refused": worker_events(logs)["claim_lost"],
        "answers lost": sum(n for kind, n in faults.items() if kind.startswith("lose")),
        "database restarts": faults["restart PostgreSQL"],
    }


def minimums(counted: dict[str, int], seconds: float) -> list[Minimum]:
    share = min(1.0, seconds / _FULL_SECONDS)
    return [Minimum(name, int(wanted * share), counted[name]) for name, wanted in _WANTED.items()]


def worker_events(logs: Path) -> Counter[str]:
    """Return how often workers logged which event."""
    found: Counter[str] = Counter()
    for path in logs.glob("worker*.stderr"):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                found[json.loads(line).get("event", "")] += 1
    return found


def recoveries(evidence: Evidence, outcome: Outcome) -> list[tuple[float, int]]:
    """Return (seconds, task) from each kill to the next attempt of a step that it cut.

    Not of timers, which wait for their turn behind calls.
    """
    began: dict[tuple[int, int], float] = {}
    for run in evidence.runs.values():
        if run.began["type"] != "timeout":
            began[run.began["task"], run.began["attempt"]] = run.began["mono"]
    found = [
        (began[task, attempt + 1] - kill.mono, task)
        for kill in outcome.figures.kills
        for task, attempt in kill.steps
        if (task, attempt + 1) in began
    ]
    return sorted(found)


def waits(evidence: Evidence) -> list[float]:
    """Return the seconds from the end of each task to the moment its waiter heard of it."""
    heard = [
        op.told["wall"] - max(evidence.tasks[op.task].ended_at, op.acked["wall"])
        for op in evidence.ops.values()
        if op.told is not None and op.acked is not None and op.task in evidence.tasks
    ]
    return sorted(heard)


def lines(evidence: Evidence, outcome: Outcome, breaches: list[Breach], logs: Path) -> list[str]:
    """Return the report."""
    counted = counts(evidence, outcome, logs)
    ends = Counter(task.status for task in evidence.tasks.values())
    events = worker_events(logs)
    logged = ", ".join(f"{events[name]} {name}" for name in _LOGGED)
    rate = counted["operations"] / outcome.seconds
    load = f"{outcome.seconds:.0f} s of load, {counted['operations']} operations ({rate:.0f}/s)"
    found = [
        f"{load}, drained in {outcome.drained_in:.1f} s",
        f"{len(evidence.tasks)} tasks: " + ", ".join(f"{n} {name}" for name, n in ends.items()),
        f"{len(evidence.runs)} runs of handlers, {len(evidence.rows['attempts'])} other attempts",
        f"{counted['faults']} faults:",
        *(f"  {count:4} {kind}" for kind, count in sorted(outcome.figures.faults.items())),
        f"programs that ended by themselves and were replaced: {outcome.deaths}",
        f"workers logged: {logged}",
    ]
    if recovered := recoveries(evidence, outcome):
        seconds = [each for each, _ in recovered]
        found.append(
            f"recovery from a kill to the next attempt: median {median(seconds):.1f} s,"
            f" slowest {seconds[-1]:.1f} s (task {recovered[-1][1]}), of {len(seconds)}"
        )
    if heard := waits(evidence):
        found.append(
            f"waiters heard of the end after {median(heard) * 1000:.0f} ms (median),"
            f" {heard[int(len(heard) * 0.99)]:.2f} s (99 of 100), {heard[-1]:.1f} s (slowest)"
        )
    for each in minimums(counted, outcome.seconds):
        word = "reached" if each.is_reached else "MISSED "
        found.append(f"{word} {each.name}: {each.reached} of {each.wanted}")
    by_invariant = Counter(breach.invariant for breach in breaches)
    found.append(f"{len(breaches)} violations {dict(by_invariant) if breaches else ''}".rstrip())
    found += [f"  {breach}" for breach in breaches[:_SHOWN]]
    return found
