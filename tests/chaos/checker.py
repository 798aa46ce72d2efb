"""Proves I1 to I8 of a finished run from its evidence; each breach names its invariant and ids.

What is provable here, and from what:

I1  committed and recorded attempts of one incarnation do not overlap in the database; two runs of
    handlers overlap only where the earlier one's claim had been taken away before the later began,
    or an operator had ended the later one's task under it.
I2  what was known to be committed started before anything that was asked later; init is first.
I3  state, events, answer, timers and the application's rows of a step tell the same.
I4  no attempt that was recorded as lost committed anything; no task ended twice.
I5  each acknowledged task ended; nothing is left; what was rolled back does not exist.
I6  events are 1 to n, in the order of time, and are still what was read of them before.
I7  one task and one end for a key; another request under it was refused.
I8  each waiter heard the end that is in the table.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.chaos.evidence import Evidence, Op, Run

ASKED = ("call", "notify", "repair")
TIMERS = ("timeout", "remove")
# A task for later joins the order when a claim finds it due.
_DUE_SLACK = 1.0
# A float of seconds since 1970 has 0.3 µs.
_SAME = 1e-5


class Breach(NamedTuple):
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def check(evidence: Evidence) -> list[Breach]:
    """Return all breaches; an empty list proves the run."""
    return [Breach(invariant, what) for invariant, prove in CHECKS for what in prove(evidence)]


# ---- I1 ----


def attempts_do_not_overlap(evidence: Evidence) -> Iterator[str]:
    spans: dict[int, list[tuple[float, float, int]]] = defaultdict(list)
    for task in evidence.tasks.values():
        if task.claim_id is not None:
            spans[task.incarnation].append((task.started_at, task.ended_at, task.task_id))
    for attempt in evidence.rows["attempts"]:
        task = evidence.tasks.get(attempt.task_id)
        if task is not None and attempt.started_at is not None:
            span = (attempt.started_at, attempt.ended_at, attempt.task_id)
            spans[task.incarnation].append(span)
    for incarnation, listed in spans.items():
        listed.sort()
        for (_, ended, one), (started, _, other) in itertools.pairwise(listed):
            if started < ended - _SAME:
                yield (
                    f"tasks {one} and {other} of incarnation {incarnation} ran at once:"
                    f" {other} began {ended - started:.6f} s before the end of {one}"
                )


def runs_overlap_only_after_a_loss(evidence: Evidence) -> Iterator[str]:
    lost = {
        (a.task_id, a.attempt): a.ended_at for a in evidence.rows["attempts"] if a.outcome == "lost"
    }
    again = Counter((run.began["task"], run.began["attempt"]) for run in evidence.runs.values())
    runs: dict[int, list[Run]] = defaultdict(list)
    for run in evidence.runs.values():
        task = evidence.tasks.get(run.began["task"])
        if task is not None:
            runs[task.incarnation].append(run)
    for listed in runs.values():
        listed.sort(key=lambda run: float(run.began["mono"]))
        for number, earlier in enumerate(listed):
            for later in listed[number + 1 :]:
                if later.began["mono"] >= earlier.last:
                    break
                if not _was_taken(evidence, lost, again, earlier, later):
                    one, other = earlier.began, later.began
                    yield (
                        f"run {one['run']} of task {one['task']} attempt {one['attempt']} held its"
                        f" claim when run {other['run']} of task {other['task']} began,"
                        f" process {one['process']}"
                    )


def _was_taken(
    evidence: Evidence,
    lost: dict[tuple[int, int], float],
    again: Counter[tuple[int, int]],
    earlier: Run,
    later: Run,
) -> bool:
    """Return whether one of both claims had been taken away when *later* began.

    Of the later one only where an operator ended its task: a worker whose lease is over may begin
    nothing.
    """
    one, other = earlier.began, later.began
    lost_at = lost.get((one["task"], one["attempt"]))
    if lost_at is not None and lost_at <= other["wall"]:
        return True
    for run in (one, other):
        task = evidence.tasks[run["task"]]
        if task.status == "cancelled" and task.ended_at <= other["wall"]:
            return True  # ended under its worker: by a remove, or a repair by a simple repair
    # Handed back by its own worker, with no attempt burned: the same attempt began again.
    return again[one["task"], one["attempt"]] > 1


# ---- I2 ----


def nothing_overtakes(evidence: Evidence) -> Iterator[str]:
    known, starts = _known(evidence), _starts(evidence)
    for tasks in evidence.by_incarnation.values():
        waiting: list[Any] = []
        for task in (task for task in tasks if task.type in ASKED):  # by id
            yield from (
                f"task {task.task_id} started while task {before.task_id} was waiting,"
                f" process {task.process_id}"
                for started_at in starts[task.task_id]
                for before in waiting
                if known[before.task_id] < started_at < before.ended_at - _SAME
            )
            if task.task_id in known:
                # Only one that is not over yet can be overtaken by those to come.
                waiting = [w for w in waiting if w.ended_at > task.created_at - 5]
                waiting.append(task)


def _known(evidence: Evidence) -> dict[int, float]:
    """Return from when on each acknowledged task was known to be committed, and due."""
    known: dict[int, float] = {}
    for op in evidence.ops.values():
        if op.acked is not None and op.task is not None:
            at = float(op.acked["wall"])
            if op.asked.get("later") is not None:
                at = max(at, op.asked["wall"] + op.asked["later"]) + _DUE_SLACK
            known[op.task] = min(at, known.get(op.task, at))
    return known


def _starts(evidence: Evidence) -> dict[int, list[float]]:
    """Return when the attempts of each task started."""
    starts: dict[int, list[float]] = defaultdict(list)
    for attempt in evidence.rows["attempts"]:
        if attempt.started_at is not None:
            starts[attempt.task_id].append(attempt.started_at)
    for task in evidence.tasks.values():
        if task.claim_id is not None:
            starts[task.task_id].append(task.started_at)
    return starts


def init_is_first(evidence: Evidence) -> Iterator[str]:
    for incarnation, tasks in evidence.by_incarnation.items():
        begun = [
            t.ended_at
            for t in tasks
            if t.type in ("init", "repair") and t.status == "finished" and t.claim_id is not None
        ]
        for task in tasks:
            if task.type in ("init", "repair") or task.claim_id is None:
                continue
            if not begun or task.started_at < min(begun) - _SAME:
                yield f"task {task.task_id} started before the init {incarnation} was finished"


def lanes_keep_their_order(evidence: Evidence) -> Iterator[str]:
    """Check by logs alone: handlers began in the order in which a lane asked."""
    began: dict[int, float] = {}
    for run in evidence.runs.values():
        task = evidence.tasks.get(run.began["task"])
        response = None if task is None else task.response
        if response is not None and response["run"] == run.began["run"]:
            began[run.began["task"]] = run.began["mono"]
    asked: dict[tuple[int, str], dict[int, int]] = defaultdict(dict)
    for op in evidence.ops.values():
        task = evidence.tasks.get(op.task or 0)
        if task is not None and op.asked.get("by") and task.task_id in began:
            asked[task.incarnation, op.asked["by"]].setdefault(op.asked["seq"], task.task_id)
    for (incarnation, by), tasks in asked.items():
        ordered = [tasks[seq] for seq in sorted(tasks)]
        for one, other in itertools.pairwise(ordered):
            if began[one] > began[other]:
                yield (
                    f"task {other} began before task {one}, which {by} had asked earlier,"
                    f" incarnation {incarnation}"
                )


# ---- I3 ----


def state_agrees(evidence: Evidence) -> Iterator[str]:
    steps = Counter(
        task.incarnation for task in evidence.tasks.values() if task.response is not None
    )
    for process in evidence.rows["processes"]:
        state = process.state or {"steps": 0, "events": 0}
        if state["events"] != process.last_event_id:
            yield (
                f"the state of {process.process_id} counts {state['events']} events,"
                f" last_event_id is {process.last_event_id}"
            )
        if state["steps"] != steps[process.incarnation]:
            yield (
                f"the state of {process.process_id} counts {state['steps']} steps,"
                f" {steps[process.incarnation]} were answered"
            )
    for seen in evidence.reads:
        state = seen["state"] or {"events": 0}
        if state["events"] != seen["last_event_id"]:
            yield f"a read of {seen['process']} saw {seen['last_event_id']} events and {state}"


def answers_agree(evidence: Evidence) -> Iterator[str]:
    for task in evidence.tasks.values():
        if task.response is None:
            if task.events:
                yield f"task {task.task_id} has {task.events} events and no answer"
            continue
        if task.response["task"] != task.task_id:
            yield f"task {task.task_id} has the answer of task {task.response['task']}"
        last = task.first_event_id + task.events - 1
        if task.response["events"] != last:
            yield (
                f"task {task.task_id} answered {task.response['events']} events,"
                f" its last event is {last}"
            )
        if task.response["run"] not in evidence.runs:
            yield f"the answer of task {task.task_id} is of no run of a handler"


def events_agree(evidence: Evidence) -> Iterator[str]:
    living = {process.incarnation for process in evidence.rows["processes"]}
    for event in evidence.rows["events"]:
        task = evidence.tasks.get(event.task_id)
        if event.incarnation not in living or task is None:
            continue
        first = task.first_event_id or 0
        is_of_it = (
            task.response is not None
            and task.incarnation == event.incarnation
            and task.response["run"] == event.run
            and first <= event.event_id < first + task.events
        )
        if not is_of_it:
            yield (
                f"event {event.event_id} of incarnation {event.incarnation} is not what"
                f" task {event.task_id} committed"
            )


def timers_agree(evidence: Evidence) -> Iterator[str]:
    named = {
        (task.incarnation, task.name)
        for task in [*evidence.tasks.values(), *evidence.rows["timers"]]
        if getattr(task, "type", "timeout") == "timeout"
    }
    for incarnation, name in named:
        setter = evidence.tasks.get(int(name[1:]))
        if setter is not None and setter.response is None:
            yield f"task {setter.task_id} set a timer and committed nothing else ({incarnation})"


def payments_agree(evidence: Evidence) -> Iterator[str]:
    paid: dict[int, list[Any]] = defaultdict(list)
    for payment in evidence.rows["payments"]:
        paid[payment.task_id].append(payment)
    for task in evidence.tasks.values():
        if (task.name or "").startswith("pay"):
            runs = [payment.run for payment in paid.pop(task.task_id, [])]
            wanted = [] if task.response is None else [task.response["run"]]
            if runs != wanted:
                yield f"task {task.task_id} paid by runs {runs}, committed {wanted}"
    for task_id in paid:
        if task_id not in evidence.tasks:
            yield f"task {task_id}, which does not exist, paid"


# ---- I4 ----


def lost_claims_commit_nothing(evidence: Evidence) -> Iterator[str]:
    for attempt in evidence.rows["attempts"]:
        task = evidence.tasks.get(attempt.task_id)
        if task is None:
            continue
        if task.claim_id == attempt.claim_id:
            yield (
                f"attempt {attempt.attempt} of task {attempt.task_id} is recorded as"
                f" {attempt.outcome} and ended the task by claim {attempt.claim_id}"
            )
        run = evidence.runs.get(task.response["run"]) if task.response is not None else None
        if run is not None and run.began["attempt"] == attempt.attempt:
            yield (
                f"run {run.began['run']} of task {task.task_id} committed,"
                f" its attempt {attempt.attempt} is recorded as {attempt.outcome}"
            )


def tasks_end_once(evidence: Evidence) -> Iterator[str]:
    ends = Counter(task.task_id for task in evidence.rows["tasks"])
    for task_id, count in ends.items():
        if count > 1:
            yield f"task {task_id} ended {count} times"


# ---- I5 ----


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    for task in evidence.rows["queue"]:
        yield f"task {task.task_id} of {task.process_id} is left, {task.type}, {task.status}"
    broken = {p.incarnation for p in evidence.rows["processes"] if p.status == "error"}
    for timer in evidence.rows["timers"]:
        if timer.status != "s" or timer.incarnation not in broken:
            yield f"timer {timer.task_id} of {timer.process_id} is left, {timer.status}"


def nothing_is_lost(evidence: Evidence) -> Iterator[str]:
    ended = evidence.tasks.keys()
    open_ = {row.task_id for row in [*evidence.rows["queue"], *evidence.rows["timers"]]}
    for op in evidence.ops.values():
        if op.task is not None and op.task not in ended and op.task not in open_:
            yield f"task {op.task} was acknowledged to {op.asked['op']} and does not exist"
    for run in evidence.runs.values():
        task_id = run.began["task"]
        if task_id not in ended and task_id not in open_:
            yield f"task {task_id} was run and does not exist"
    for event in evidence.rows["events"]:
        if event.task_id not in ended and event.task_id not in open_:
            yield f"task {event.task_id} wrote events and does not exist"


def transactions_are_whole(evidence: Evidence) -> Iterator[str]:
    ordered = {order.op: order.task for order in evidence.rows["orders"]}
    open_ = {row.task_id for row in evidence.rows["queue"]}
    for op_id, task_id in ordered.items():
        if task_id not in evidence.tasks and task_id not in open_:
            yield f"task {task_id} of the committed transaction {op_id} does not exist"
    for op_id, op in evidence.ops.items():
        if op.asked["type"] != "transaction":
            continue
        if op.acked is not None and op_id not in ordered:
            yield f"the row of the committed transaction {op_id} does not exist"
        if op.other is not None and op.other["what"] in ("rolled_back", "refused"):
            if op_id in ordered:
                yield f"the row of the transaction {op_id}, rolled back, exists"
            if op.other.get("task") in evidence.tasks:
                yield f"task {op.other['task']} of the transaction {op_id}, rolled back, exists"


# ---- I6 ----


def history_is_dense(evidence: Evidence) -> Iterator[str]:
    histories: dict[int, list[Any]] = defaultdict(list)
    for event in evidence.rows["events"]:
        histories[event.incarnation].append(event)
    for process in evidence.rows["processes"]:
        events = histories[process.incarnation]
        ids = [event.event_id for event in events]
        if ids != [*range(1, process.last_event_id + 1)]:
            missing = sorted({*range(1, process.last_event_id + 1)}.difference(ids))
            yield (
                f"{process.process_id} has {len(ids)} events, last_event_id is"
                f" {process.last_event_id}, missing {missing[:5]}"
            )
        for one, other in itertools.pairwise(events):
            if other.at < one.at - _SAME:
                yield f"event {other.event_id} of {process.process_id} is older than the one before"


def events_never_change(evidence: Evidence) -> Iterator[str]:
    now = {(e.incarnation, e.event_id): (e.task_id, e.run) for e in evidence.rows["events"]}
    living = {p.incarnation: p.last_event_id for p in evidence.rows["processes"]}
    for seen in evidence.reads:
        if seen["incarnation"] not in living:
            continue
        if seen["last_event_id"] > living[seen["incarnation"]]:
            yield f"events of {seen['process']} that were read are gone"
        for event_id, task_id, run in seen["events"]:
            found = now.get((seen["incarnation"], event_id))
            if found is not None and found != (task_id, run):
                yield f"event {event_id} of {seen['process']} was {task_id, run}, is {found}"


# ---- I7 ----


def keys_have_one_answer(evidence: Evidence) -> Iterator[str]:
    held = {key.key: key.task_id for key in evidence.rows["keys"]}
    asked: dict[str, list[Op]] = defaultdict(list)
    for op in evidence.ops.values():
        if op.asked.get("key") is not None:
            asked[op.asked["key"]].append(op)
    for key, ops in asked.items():
        tasks = {op.task for op in ops if op.task is not None and not op.asked["other"]}
        if len(tasks) > 1:
            yield f"key {key} has the tasks {sorted(tasks)}"
        elif tasks and held.get(key) not in tasks:
            yield f"key {key} belongs to task {held.get(key)}, its caller was told {tasks}"
        ends = {_canonical(op.told) for op in ops if op.told is not None and not op.asked["other"]}
        if len(ends) > 1 and len(tasks) == 1:
            yield f"key {key} has several answers: {sorted(ends)}"
        yield from _refusals_fit(key, ops)


def _refusals_fit(key: str, ops: list[Op]) -> Iterator[str]:
    first = min((op.acked["mono"] for op in ops if op.acked is not None), default=None)
    for op in ops:
        if first is None or op.asked["mono"] < first:
            continue
        if op.asked["other"] and op.acked is not None:
            yield f"another request, {op.asked['op']}, was taken under key {key}"
        if op.other is None or op.other["what"] != "refused" or op.other["error"] == "Overloaded":
            continue
        if (op.other["error"] == "IdempotencyConflict") != bool(op.asked["other"]):
            yield f"{op.asked['op']} was refused with {op.other['error']} under the taken key {key}"


# ---- I8 ----


def every_end_is_told(evidence: Evidence) -> Iterator[str]:
    for op in evidence.ops.values():
        task = evidence.tasks.get(op.task or 0)
        if task is None:
            continue
        if op.told is None:
            waits = op.acked is not None and op.acked["waits"]
            if waits and op.asked["client"] in evidence.closed:
                yield f"{op.asked['op']} never heard of the end of task {task.task_id}"
        elif (heard := _canonical(op.told)) != (true := _end_of(task)):
            yield f"{op.asked['op']} heard of task {task.task_id}: {heard}; in truth: {true}"
    for op in evidence.ops.values():
        did = op.other or {}
        if did.get("did") == "cancel" and did["answer"] == "True":
            task = evidence.tasks.get(did["task"])
            if task is not None and task.status != "cancelled":
                yield f"task {task.task_id} was said to be cancelled and is {task.status}"


def _canonical(told: dict[str, Any] | None) -> str:
    told = told or {}
    parts = [told.get(name) for name in ("status", "response", "rejected", "error", "cause")]
    return json.dumps(parts, sort_keys=True)


def _end_of(task: Any) -> str:
    error = task.error or {}
    told: dict[str, Any] = {"status": task.status, "response": task.response}
    if task.status == "error":
        told["error"] = {name: error.get(name) for name in ("error_type", "detail", "attempt")}
    told["rejected"] = error.get("rejected")
    told["cause"] = error.get("cause")
    return _canonical(told)


CHECKS: tuple[tuple[str, Callable[[Evidence], Iterable[str]]], ...] = (
    ("I1", attempts_do_not_overlap),
    ("I1", runs_overlap_only_after_a_loss),
    ("I2", nothing_overtakes),
    ("I2", init_is_first),
    ("I2", lanes_keep_their_order),
    ("I3", state_agrees),
    ("I3", answers_agree),
    ("I3", events_agree),
    ("I3", timers_agree),
    ("I3", payments_agree),
    ("I4", lost_claims_commit_nothing),
    ("I4", tasks_end_once),
    ("I5", nothing_is_left),
    ("I5", nothing_is_lost),
    ("I5", transactions_are_whole),
    ("I6", history_is_dense),
    ("I6", events_never_change),
    ("I7", keys_have_one_answer),
    ("I8", every_end_is_told),
)
