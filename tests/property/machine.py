"""All that may be done, in any order, to the database and to the twin."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from tests.property.pair import BASE, EndPair, Pair

from pgprog.config import NamespaceSettings
from pgprog.store.rows import Completion, NewEvent, Outcome, RawRequest, Then, TimerChange

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    Needs = Callable[["Machine"], Any]

    from tests.property.database import Database
    from tests.property.pair import StepPair, WorkerPair


Place: TypeAlias = tuple[str, str]
T = TypeVar("T", bound="Callable[..., None]")

_LONG = timedelta(hours=1)
_LAST = BASE + timedelta(days=14)
_WORKERS = 3

_PLACES = [("a", "p0"), ("a", "p1"), ("a", "p2"), ("b", "p0"), ("b", "q1")]
places = st.sampled_from(_PLACES)
strange_places = st.sampled_from([*_PLACES, *_PLACES, ("nowhere", "p0"), ("a", "")])
keys = st.sampled_from([None, None, None, "k0", "k1"])
payloads = st.sampled_from([None, b'{"n":1}', b'{"n":1.0}', b"[true]", b"null"])
contexts = st.sampled_from([None, b'{"c":1}'])
priorities = st.sampled_from([0, 1, -1, 10])
offsets = st.sampled_from([None, None, None, None, -5, 0, 5, 100])
seconds = st.sampled_from([0, 0, 0, 0.001, 1.0, 5.0, 10.0, 61.0, 3600.0, 86400.0])
reasons = st.sampled_from([None, "broken", "resume", "resume", "resume"])
picks = st.integers(0, 30)
outcomes = st.sampled_from(
    [Outcome.FINISHED] * 5
    + [Outcome.RETRY] * 2
    + [Outcome.BROKEN] * 2
    + [Outcome.REJECTED, Outcome.FAILED, Outcome.CRITICAL]
)
# Of a timer: its name, in how many seconds from now or from the commit, whether it removes.
timers = st.lists(
    st.tuples(
        st.sampled_from(["", "t", "u"]),
        st.sampled_from(["at", "after", "unset"]),
        st.sampled_from([-10, 1, 5, 70, 100000]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=2,
)
ends = st.fixed_dictionaries(
    {
        "outcome": outcomes,
        "state": st.sampled_from([None, b'{"s":1}', b"2"]),
        "metadata": st.sampled_from([None, None, b'{"m":[]}', b"null"]),
        "events": st.integers(0, 2),
        "timers": timers,
        "then": st.sampled_from([Then.GO_ON] * 10 + [Then.FINISH, Then.REMOVE]),
        "retry_after": st.sampled_from([0, 2, 30]),
        "error": st.sampled_from([b'{"detail":"broke"}', b'{"error_type":"E"}']),
    }
)
_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "again": lambda process: None,
    "as it is": lambda process: None,
    "finished": lambda process: process.update(status="finished", timers={}),
    "finished with timers": lambda process: process.update(status="finished"),
    "in error": lambda process: process.update(status="error", previous_status="running"),
    "running": lambda process: process.update(status="running"),
    "without history": lambda process: process.update(history=[]),
    "without ends": lambda process: [process.pop("history"), process.pop("last_event_id")],
    "with a stranger": lambda process: process.update(stranger=1),
}


_OPERATIONS: dict[str, tuple[Needs, st.SearchStrategy[dict[str, Any]]]] = {}
_NAMES: list[str] = []


def operation(
    weight: int = 1, needs: Needs = lambda _: True, **given: st.SearchStrategy[Any]
) -> Callable[[T], T]:
    """Make a method one of the operations.

    Rules of hypothesis would do: but of those it leaves out many in each example, and without
    claims and completions hardly anything happens.
    """

    def known(method: T) -> T:
        name = method.__name__
        _OPERATIONS[name] = (needs, st.fixed_dictionaries(given))
        _NAMES.extend([name] * weight)
        return method

    return known


@contextmanager
def _telling(counts: Counter[str]) -> Iterator[None]:
    """Say at once that there is a difference: hypothesis looks for a smaller one before it does."""
    try:
        yield
    except AssertionError as e:
        counts["differences"] += 1
        if counts["differences"] == 1:
            print(f"a difference, which is now made smaller, for minutes: {e}", flush=True)  # noqa: T201
        raise


def _drawn(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), _OPERATIONS[name][1])


operations = st.deferred(lambda: st.sampled_from(_NAMES).flatmap(_drawn))


class Machine(RuleBasedStateMachine):
    """*database* and *counts* are given to a subclass by whoever runs it."""

    database: ClassVar[Database]
    counts: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.database, self.counts)
        self.requests: list[RawRequest] = []
        self.imports: list[tuple[Any, Any, str]] = []
        self.is_sound = True
        self.ticks = 0
        self.counts["examples"] += 1

    @initialize(
        patience=st.sampled_from([0, 60, 60]),
        crashes=st.sampled_from([1, 2]),
        limit=st.sampled_from([None, 1, 2]),
        max_queue=st.sampled_from([2, 5, 100000]),
        on_full=st.sampled_from(["refuse", "drop_lowest"]),
    )
    def begin(
        self, patience: int, crashes: int, limit: int | None, max_queue: int, on_full: Any
    ) -> None:
        plain = NamespaceSettings(timer_patience=timedelta(seconds=patience), max_crashes=crashes)
        tight = NamespaceSettings(
            concurrency=limit, max_queue=max_queue, on_full=on_full, retention=_LONG
        )
        for name, settings in (("a", plain), ("b", tight)):
            self.pair.database.create_namespace(name, settings)
            self.pair.twin.create_namespace(name, settings)
        worker = self.pair.hire(["a", "b"], timedelta(days=20))
        for namespace, process_id in _PLACES[1:]:
            request = RawRequest("init", namespace, process_id)
            self.pair.database.submit(request)
            self.pair.twin.submit(request)
        self.pair.compare()
        self.pair.claim(worker, 3)
        # Timers and calls that meet are what the order is about.
        armed = {**_PLAIN, "timers": [("t", "after", 5, False)]}
        for step in self.pair.held():
            self._complete([step], [armed], [False])

    @rule(asked=operations)
    def do(self, asked: tuple[str, dict[str, Any]]) -> None:
        name, given = asked
        needs, _ = _OPERATIONS[name]
        if needs(self):
            self.is_sound = False
            self.counts[f"rule {name}"] += 1
            with _telling(self.counts):
                getattr(self, name)(**given)

    @invariant()
    def the_twin_is_like_the_database(self) -> None:
        if not self.pair.workers and not self.pair.twin.world.spaces:
            return  # before the beginning
        with _telling(self.counts):
            self.pair.compare()
        self.is_sound = True

    def teardown(self) -> None:
        """Let all that is left come to its end: I5."""
        if self.is_sound and self.pair.twin.world.spaces:
            with _telling(self.counts):
                drain(self.pair)

    # Requests

    @operation(place=strange_places, args=payloads, key=keys, offset=offsets)
    def init(self, place: Place, args: Any, key: Any, offset: Any) -> None:
        absent = [each for each in _PLACES if each not in self.pair.twin.world.processes]
        place = absent[0] if absent and key is None else place
        self.submit(RawRequest("init", *place, args, idempotency_key=key), offset)

    @operation(weight=2, place=strange_places, args=payloads, key=keys, context=contexts)
    def call(self, place: Place, args: Any, key: Any, context: Any) -> None:
        request = RawRequest("call", *place, args, idempotency_key=key, context=context)
        self.submit(request, None)

    @operation(place=places, key=keys, type_=st.sampled_from(["call", "notify"]), offset=offsets)
    def ask_for_later(self, place: Place, key: Any, type_: str, offset: Any) -> None:
        self.submit(RawRequest(type_, *place, idempotency_key=key), offset)

    @operation(weight=2, pick=picks, type_=st.sampled_from(["call", "notify"]))
    def ask_behind(self, pick: int, type_: str) -> None:
        """Ask something of a process whose step runs: for the chain."""
        if (step := self.step(pick)) is not None:
            place = step.ours.namespace, step.ours.process_id
            self.submit(RawRequest(type_, *place), None)

    @operation(weight=2, place=places, name=st.sampled_from([None, "x"]), priority=priorities)
    def notify(self, place: Place, name: Any, priority: int) -> None:
        self.submit(RawRequest("notify", *place, name=name, priority=priority), None)

    @operation(place=strange_places, args=payloads, key=keys)
    def repair(self, place: Place, args: Any, key: Any) -> None:
        place = self.broken(place)
        self.submit(RawRequest("repair", *place, args, "x", key), None)

    @operation(weight=2, needs=lambda self: self.requests, pick=picks)
    def ask_again(self, pick: int) -> None:
        """Repeat a request under its key, whatever became of it."""
        self._submit(_of(self.requests, pick))

    def submit(self, request: RawRequest, offset: int | None) -> None:
        run_at = None if offset is None else self.pair.twin.now + timedelta(seconds=offset)
        request = request._replace(run_at=run_at)
        self._submit(request)
        if request.idempotency_key is not None:
            self.requests.append(request)

    def broken(self, place: tuple[str, str]) -> tuple[str, str]:
        """Return the place of a process in error, or else *place*."""
        processes = self.pair.twin.world.processes
        return next((n for n, p in processes.items() if p.status == "error"), place)

    def _submit(self, request: RawRequest) -> None:
        pair = self.pair
        known = pair.twin.world.keys.get((request.namespace, request.idempotency_key or ""))
        answers = pair.both(
            lambda: pair.database.submit(request), lambda: pair.twin.submit(request)
        )
        if answers is not None and known is not None and known.holder:
            pair.counts["answered from a key"] += 1
            assert pair.task_ids[answers[1]] == answers[0]

    @operation(weight=2, wanted=st.lists(
            st.tuples(st.sampled_from(["init", "call", "repair"]), places, payloads), min_size=1,
            max_size=3),
          pick=picks, limit=st.integers(0, 2), key=keys, offset=offsets)  # fmt: skip
    def start(
        self,
        wanted: list[tuple[str, Place, bytes | None]],
        pick: int,
        limit: int,
        key: Any,
        offset: Any,
    ) -> None:
        """Give requests to a worker; the first may have a key."""
        pair = self.pair
        run_at = None if offset is None else pair.twin.now + timedelta(seconds=offset)
        many = [
            RawRequest(type_, *place, args)._replace(run_at=run_at) for type_, place, args in wanted
        ]
        many[0] = many[0]._replace(idempotency_key=key)
        worker = _of(pair.workers, pick) if pair.workers else None
        if worker is None:
            answers = pair.both(
                lambda: pair.database.submit_many(many), lambda: pair.twin.submit_many(many)
            )
        else:
            answers = pair.both(
                lambda: pair.database.start(worker.ours, limit, many),
                lambda: pair.twin.start(worker.theirs, limit, many),
            )
        for ours, theirs in zip(*answers, strict=True) if answers else []:
            assert ours.outcome == theirs.outcome
            pair.counts[f"batched {ours.outcome}"] += 1
            if worker and ours.claimed is not None and theirs.claimed is not None:
                pair.hold(worker, ours.claimed, theirs.claimed)

    # Other operations

    @operation(place=strange_places, key=keys)
    def simple_repair(self, place: Place, key: Any) -> None:
        pair = self.pair
        place = self.broken(place)
        answers = pair.both(
            lambda: pair.database.simple_repair(*place, key),
            lambda: pair.twin.simple_repair(*place, key),
        )
        if answers is not None:
            pair.counts["mended"] += 1
            assert (answers[0] is None) == (answers[1] is None)

    @operation(
        weight=2,
        source=places,
        goal=places,
        change=st.sampled_from([*sorted(_CHANGES), "as it is", "as it is"]),
        key=keys,
        is_move=st.booleans(),
    )
    def put(
        self, source: Place, goal: Place, change: str, key: str | None, *, is_move: bool
    ) -> None:
        """Copy a process by what get gives of it, in the place of the one that was there."""
        raw = self.pair.database.get(*source, 1000)
        if raw is None or (self.imports and change == "again"):
            if self.imports:
                self._put(*_of(self.imports, len(self.requests)))
            return
        ours, theirs = json.loads(raw), self.pair.twin.get(*source, 1000)
        assert theirs is not None
        for process in (ours, theirs):
            process.update(namespace=goal[0], process_id=goal[1])
            _CHANGES[change](process)
        if is_move:
            self.remove(goal, None)
            self.pair.compare()
        self._put(ours, theirs, key)
        if key is not None:
            self.imports.append((ours, theirs, key))

    def _put(self, ours: Any, theirs: Any, key: str | None) -> None:
        pair = self.pair
        done = pair.both(lambda: pair.database.put(ours, key), lambda: pair.twin.put(theirs, key))
        pair.counts["imported"] += done is not None

    @operation(place=strange_places, version=st.sampled_from([None, None, "its own", "another"]))
    def remove(self, place: Place, version: str | None) -> None:
        pair = self.pair
        process = pair.twin.world.processes.get(place)
        numbers: tuple[int | None, int | None] = (None, None)
        if version is not None and process is not None:
            [ours] = [p["version"] for p in pair.seen["processes"] if _place(p) == place]
            numbers = (ours, process.version) if version == "its own" else (-1, -1)
        is_removed = pair.same(
            lambda: pair.database.remove(*place, numbers[0]),
            lambda: pair.twin.remove(*place, numbers[1]),
        )
        pair.counts["removed"] += bool(is_removed)

    @operation(weight=2, pick=st.one_of(st.integers(-1, 5), st.integers(0, 60)))
    def cancel(self, pick: int) -> None:
        """Cancel a task, open ones and the newest first, or one that never was."""
        pair = self.pair
        tasks = pair.twin.world.tasks
        newest = sorted(tasks, key=lambda i: (tasks[i].end is None, i), reverse=True)
        theirs = newest[pick % len(newest)] if newest and pick >= 0 else -1
        ours = pair.task_ids.get(theirs, -1)
        is_ended = pair.same(lambda: pair.database.cancel(ours), lambda: pair.twin.cancel(theirs))
        if is_ended:
            pair.counts[f"cancelled {pair.twin.world.tasks[theirs].type}"] += 1

    @operation(namespace=st.sampled_from(["a", "b", "a", "b", "nowhere"]), reason=reasons)
    def pause_or_resume(self, namespace: str, reason: str | None) -> None:
        """Pause for a reason, which may be nothing; or resume."""
        database, twin = self.pair.database, self.pair.twin
        if reason == "resume":
            self.pair.same(lambda: database.resume(namespace), lambda: twin.resume(namespace))
        else:
            self.pair.same(
                lambda: database.pause(namespace, reason), lambda: twin.pause(namespace, reason)
            )

    # Workers

    @operation(
        needs=lambda self: len(self.pair.workers) < _WORKERS,
        served=st.sampled_from(["ab", "ab", "a", "b"]),
        lease=st.sampled_from([30, 3600]),
        reads=st.sampled_from([2, 2, 1]),
    )
    def hire(self, served: str, lease: int, reads: int) -> None:
        self.pair.hire(list(served), timedelta(seconds=lease), reads)

    @operation(
        weight=2,
        needs=lambda self: self.pair.workers,
        pick=picks,
        limit=st.sampled_from([1, 1, 2, 5]),
    )
    def claim(self, pick: int, limit: int) -> None:
        self.pair.claim(_of(self.pair.workers, pick), limit)

    @operation(weight=2, needs=lambda self: self.pair.workers, pick=picks)
    def claim_all(self, pick: int) -> None:
        """Claim all: what explain calls runnable is taken."""
        self.pair.claim_all(_of(self.pair.workers, pick))

    @operation(
        weight=2,
        needs=lambda self: self.pair.workers,
        pick=picks,
        limit=st.sampled_from([1, 2, 5]),
        is_far=st.booleans(),
    )
    def claim_since(self, pick: int, limit: int, *, is_far: bool) -> None:
        """Claim from where the last one came to, or from tomorrow on, and look before that."""
        worker = _of(self.pair.workers, pick)
        if is_far:
            self.pair.pass_by(worker)
        self.pair.claim_since(worker, limit)

    @operation(
        weight=2, pick=picks, end=ends, outcome=st.sampled_from([Outcome.RETRY, Outcome.BROKEN])
    )
    def fail(self, pick: int, end: Any, outcome: Outcome) -> None:
        if (step := self.step(pick)) is not None:
            self._complete([step], [{**end, "outcome": outcome}], [True])

    @operation(
        weight=3,
        needs=lambda self: self.pair.workers,
        pick=picks,
        is_met=st.booleans(),
        is_overdue=st.booleans(),
    )
    def hold_up_a_timer(self, pick: int, *, is_met: bool, is_overdue: bool) -> None:
        """Let a task come after a timer was due and go into retry: the timer may go before it."""
        pair = self.pair
        free = [p for p in pair.twin.world.processes.values() if p.running is None]
        timers = [t for p in free for t in p.timers.values() if p.status == "running"]
        timer = min(timers, key=lambda t: t.due_at, default=None)
        if timer is None or timer.due_at > _LAST:
            return
        due_in = max(timer.due_at - pair.twin.now, timedelta())
        pair.advance(due_in + timedelta(seconds=1))
        self.submit(RawRequest("call", timer.namespace, timer.process_id), None)
        worker = _of(pair.workers, pick)
        for _ in range(1 + is_met):
            pair.compare()
            pair.claim(worker, 5)
        for step in pair.held():
            if step.theirs.incarnation == timer.incarnation and step.theirs.type == "call":
                end = {**_PLAIN, "outcome": Outcome.RETRY, "retry_after": 500}
                self._complete([step], [end], [False])
        if is_overdue:
            pair.advance(timedelta(seconds=60))
            pair.compare()
            pair.claim_all(worker)

    @operation(weight=3, pick=picks, end=ends, chain=st.booleans())
    def complete(self, pick: int, end: Any, chain: bool) -> None:
        if (step := self.step(pick)) is not None:
            self._complete([step], [end], [chain])

    @operation(
        weight=4,
        pick=picks,
        timers=st.one_of(st.just([]), timers),
        is_paused=st.sampled_from([False, False, False, False, True]),
    )
    def finish(self, pick: int, timers: list[Any], *, is_paused: bool) -> None:
        """End a step in the plainest way, and go on with the next, unless there is a pause."""
        if (step := self.step(pick)) is not None:
            if is_paused:
                self.pause_or_resume(step.ours.namespace, "broken")
            self._complete([step], [{**_PLAIN, "timers": timers}], [True])

    @operation(weight=2, several=st.lists(ends, min_size=2, max_size=3), chain=st.booleans())
    def complete_batch(self, several: Any, chain: bool) -> None:
        if (first := self.step(0)) is None:
            return
        worker = first.worker
        steps = self.pair.held()[: len(several)]
        steps = [step for step in steps if step.worker == worker]
        steps.sort(key=lambda step: step.ours.incarnation)
        self._complete(steps, several[: len(steps)], [chain] * len(steps))

    @operation(needs=lambda self: self.pair.late(), pick=picks, end=ends)
    def complete_late(self, pick: int, end: Any) -> None:
        """Complete a step whose claim was taken away: lost, and nothing changes."""
        [outcome] = self._complete([_of(self.pair.late(), pick)], [end], [True])
        assert outcome == "lost"
        self.pair.counts["late completions"] += 1

    @operation(needs=lambda self: self.pair.ends, pick=picks)
    def complete_again(self, pick: int) -> None:
        """Repeat a completion whose answer was lost: it was done already."""
        pair = self.pair
        end = _of(pair.ends, pick)
        [ours] = pair.database.complete(end.step.worker.ours, [end.ours], [True])
        [theirs] = pair.twin.complete(end.step.worker.theirs, [end.theirs], [True])
        assert (ours.outcome, theirs.outcome) == ("already", "already")
        assert ours.next_ is None
        assert ours.version in (None, end.version)

    def step(self, pick: int) -> StepPair | None:
        """Return a step that is held; with none, claim first."""
        if not self.pair.held():
            self.pair.workers or self.pair.hire(["a", "b"], _LONG)
            self.pair.claim(_of(self.pair.workers, pick), 5)
            self.pair.compare()
        held = self.pair.held()
        return _of(held, pick) if held else None

    def _complete(self, steps: list[StepPair], how: list[Any], chains: list[bool]) -> list[str]:
        pair = self.pair
        ours, theirs = [], []
        for step, end in zip(steps, how, strict=True):
            ours.append(self._completion(step, end))
            theirs.append(ours[-1]._replace(claimed=step.theirs))
        worker = steps[0].worker
        became = pair.database.complete(worker.ours, ours, chains)
        expected = pair.twin.complete(worker.theirs, theirs, chains)
        for step, mine, its, got, due in zip(steps, ours, theirs, became, expected, strict=True):
            assert got.outcome == due.outcome
            pair.counts[f"completed {got.outcome}: {mine.outcome.name}"] += 1
            if got.outcome == "done":
                pair.ends.append(EndPair(step, mine, its, got.version))
                pair.steps.remove(step)
            assert (got.next_ is None) == (due.next_ is None), f"{got} {due}"
            if got.next_ is not None and due.next_ is not None:
                pair.hold(worker, got.next_, due.next_)
                pair.counts["chained"] += 1
        return [each.outcome for each in became]

    def _completion(self, step: StepPair, end: Any) -> Completion:
        outcome = end["outcome"]
        is_good = outcome is Outcome.FINISHED
        response = b'{"r":1}' if is_good else None
        error = None if is_good else end["error"]
        if outcome is Outcome.REJECTED:
            error = b'{"rejected":[1]}'
        return Completion(
            claimed=step.ours,
            outcome=outcome,
            state=end["state"] if is_good else None,
            state_version=step.worker.reads,
            metadata=end["metadata"] if is_good else None,
            response=response,
            error=error,
            retry_after=self._after(end["retry_after"]) if outcome is Outcome.RETRY else None,
            then=end["then"] if is_good else Then.GO_ON,
            events=[NewEvent(b'{"e":1}', b'{"m":1}' if n else None) for n in range(end["events"])]
            if is_good
            else [],
            timers=[self._timer(*timer) for timer in end["timers"]] if is_good else [],
        )

    def _timer(self, name: str, how: str, after: int, remove: bool) -> TimerChange:
        delay = self._after(after)
        match how:
            case "at":
                return TimerChange(name, self.pair.twin.now + delay, None, remove)
            case "after":
                return TimerChange(name, None, delay, remove)
            case _:
                return TimerChange(name, None, None, False)

    def _after(self, after: float) -> timedelta:
        """Return a duration that is like no other: of two at one moment either may be first."""
        self.ticks += 1
        return timedelta(seconds=after, microseconds=self.ticks)

    @operation(needs=lambda self: self.pair.steps, pick=picks, count=st.integers(1, 2))
    def hand_back(self, pick: int, count: int) -> None:
        """Give claims back; those that were taken away are harmless."""
        steps = list({_of(self.pair.steps, pick + n) for n in range(count)})
        self.pair.same(
            lambda: self.pair.database.hand_back(
                [(step.ours.task_id, step.ours.claim_id) for step in steps]
            ),
            lambda: self.pair.twin.hand_back(
                [(step.theirs.task_id, step.theirs.claim_id) for step in steps]
            ),
        )

    @operation(
        needs=lambda self: self.pair.workers,
        pick=picks,
        has_begun=st.booleans(),
        lease=st.sampled_from([30, 3600]),
    )
    def renew(self, pick: int, has_begun: bool, lease: int) -> None:
        pair = self.pair
        worker = _of(pair.workers, pick)
        begun = [step for step in pair.steps if step.worker == worker and has_begun]
        length = timedelta(seconds=lease)
        answers = pair.both(
            lambda: pair.database.renew_worker(
                worker.ours, length, [s.ours.task_id for s in begun]
            ),
            lambda: pair.twin.renew_worker(
                worker.theirs, length, [s.theirs.task_id for s in begun]
            ),
        )
        assert answers is not None
        held = {
            (step.ours.task_id, step.ours.claim_id) for step in pair.held() if step.worker == worker
        }
        assert set(answers[0]) == held
        assert len(answers[1]) == len(held)

    @operation(
        weight=2,
        needs=lambda self: self.pair.workers,
        pick=picks,
        how=st.sampled_from(["crash", "crash", "crash", "stop", "renewed"]),
        has_begun=st.booleans(),
    )
    def leave(self, pick: int, how: str, has_begun: bool) -> None:
        """Stop a worker, or collect it, unless it has renewed since it was seen."""
        pair = self.pair
        step = self.step(pick)
        worker = _of(pair.workers, pick) if step is None else step.worker
        if has_begun:
            self.renew(pair.workers.index(worker), has_begun=True, lease=30)
        renewals = pair.twin.world.workers[worker.theirs].renewals + (how == "renewed")
        if how == "stop":
            freed = pair.same(
                lambda: pair.database.deregister_worker(worker.ours),
                lambda: pair.twin.deregister_worker(worker.theirs),
            )
        else:
            freed = pair.same(
                lambda: pair.database.collect_zombies(worker.ours, renewals),
                lambda: pair.twin.collect_zombies(worker.theirs, renewals),
            )
        pair.counts[f"steps of a worker: {how}"] += freed or 0
        if how != "renewed":
            pair.workers.remove(worker)

    # Time

    @operation(weight=3, by=seconds)
    def advance(self, by: float) -> None:
        """Let time pass, or until something is due."""
        due_at = self.pair.twin.next_due()
        length = timedelta(seconds=by)
        if by == 0 and due_at is not None:
            length = due_at - self.pair.twin.now
        if self.pair.twin.now + length < _LAST:
            self.pair.advance(max(length, timedelta()))

    @operation(what=st.sampled_from(["measure_queues", "measure_queues", "maintain"]))
    def keep_up(self, what: str) -> None:
        getattr(self.pair.database, what)()
        getattr(self.pair.twin, what)()


_PLAIN = {
    "outcome": Outcome.FINISHED, "state": b'{"s":1}', "metadata": None, "events": 1, "timers": [],
    "then": Then.GO_ON, "retry_after": 0, "error": b"{}",
}  # fmt: skip


def drain(pair: Pair) -> None:
    """Run all that is due or planned: every task ends, but the timers of processes in error."""
    for namespace in ("a", "b"):
        pair.database.resume(namespace)
        pair.twin.resume(namespace)
    for worker in pair.workers:
        renewals = pair.twin.world.workers[worker.theirs].renewals
        pair.database.collect_zombies(worker.ours, renewals)
        pair.twin.collect_zombies(worker.theirs, renewals)
    worker = pair.hire(["a", "b"], timedelta(days=365))
    pair.compare()
    while (due_at := pair.twin.next_due()) is not None:
        pair.advance(max(due_at - pair.twin.now, timedelta()))
        pair.compare()
        pair.claim_all(worker)
        if not pair.held():
            pair.advance(timedelta(seconds=1))
        for step in pair.held():
            finish(pair, worker, step)
        pair.compare()
    open_tasks = [t for t in pair.seen["tasks"] if t["ended_at"] is None]
    left = [t for t in open_tasks if t["task_id"] not in pair.seen["suspended"]]
    assert not left, f"I5: left for ever: {left}"
    pair.counts["drained"] += 1


def finish(pair: Pair, worker: WorkerPair, step: StepPair) -> None:
    [ours] = pair.database.complete(worker.ours, [Completion(step.ours, Outcome.FINISHED)], [False])
    [theirs] = pair.twin.complete(
        worker.theirs, [Completion(step.theirs, Outcome.FINISHED)], [False]
    )
    assert (ours.outcome, theirs.outcome) == ("done", "done")
    pair.steps.remove(step)


def _of(those: list[Any], pick: int) -> Any:
    return those[pick % len(those)]


def _place(process: Any) -> tuple[str, str]:
    return process["namespace"], process["process_id"]
