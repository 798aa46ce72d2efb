"""The database and the twin side by side: what is done to one is done to the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from tests.property.comparing import SNAPSHOT, Ranks, differences, read_database, read_twin

from pgprog.errors import PgprogError
from pgprog.model import TaskType
from pgprog.store.rows import Position as Since
from pgprog.testing.twin import Place, Twin, Way
from pgprog.testing.twin.claims import runnable
from pgprog.testing.twin.order import first_task, is_held

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Sequence

    from tests.property.comparing import Plain
    from tests.property.database import Database

    from pgprog.store.rows import Claimed, Claims, Completion
    from pgprog.testing.twin.order import Turn

T = TypeVar("T")
U = TypeVar("U")

BASE = datetime(2030, 1, 2, tzinfo=UTC)  # a Wednesday; weeks begin partitions
_PAYLOADS = ("args", "context", "state", "metadata")
_ALL = 1000
_CLAIMS = 20
_FIRST = Since(datetime.min.replace(tzinfo=UTC), 0)


@dataclass(frozen=True)
class WorkerPair:
    name: str
    ours: int
    theirs: int
    namespaces: tuple[str, ...]
    reads: int


@dataclass(frozen=True, eq=False)
class StepPair:
    """A claimed task: of the database and of the twin."""

    worker: WorkerPair
    ours: Claimed
    theirs: Claimed


@dataclass(frozen=True, eq=False)
class EndPair:
    """A completion that was answered with 'done'."""

    step: StepPair
    ours: Completion
    theirs: Completion
    version: int | None


class Pair:
    """Ours is the database, theirs the twin; *counts* is what the summary shows."""

    def __init__(self, database: Database, counts: Counter[str]) -> None:
        self.database = database
        self.counts = counts
        self.twin = Twin(BASE)
        self.workers: list[WorkerPair] = []
        self.names: tuple[dict[int, str], dict[int, str]] = ({}, {})
        self.steps: list[StepPair] = []
        self.ends: list[EndPair] = []
        self.seen: Plain = {}
        self.task_ids: dict[int, int] = {}  # of the twin's, ours
        self.places: dict[int, Since] = {}  # where the claims of a worker begin
        database.empty()
        database.advance_to(BASE)

    def both(self, ours: Callable[[], T], theirs: Callable[[], U]) -> tuple[T, U] | None:
        """Do it on both sides; None when both refused it, by the same error."""
        got, refused = _attempt(ours)
        expected, refusal = _attempt(theirs)
        assert refused == refusal, f"database: {refused or got}, twin: {refusal or expected}"
        if refused is not None:
            self.counts[f"refused {refused}"] += 1
            return None
        assert got is not _NOTHING
        assert expected is not _NOTHING
        return got, expected

    def same(self, ours: Callable[[], T], theirs: Callable[[], T]) -> T | None:
        """Do it on both sides and expect the same answer."""
        answers = self.both(ours, theirs)
        if answers is None:
            return None
        assert answers[0] == answers[1]
        return answers[0]

    def advance(self, by: timedelta) -> None:
        self.twin.advance(by)
        self.database.advance_to(self.twin.now)

    # Workers and their steps

    def hire(self, namespaces: Sequence[str], lease: timedelta, reads: int = 2) -> WorkerPair:
        name = f"w{len(self.names[0])}"
        ours = self.database.register_worker(name, namespaces, lease, reads)
        theirs = self.twin.register_worker(
            name, namespaces, lease, dict.fromkeys(namespaces, reads)
        )
        self.names[0][ours] = self.names[1][theirs] = name
        worker = WorkerPair(name, ours, theirs, tuple(namespaces), reads)
        self.workers.append(worker)
        return worker

    def held(self) -> list[StepPair]:
        return [step for step in self.steps if self.is_held(step)]

    def late(self) -> list[StepPair]:
        """Return steps whose claim was taken away before they ended."""
        return [step for step in self.steps if not self.is_held(step)]

    def is_held(self, step: StepPair) -> bool:
        process = self.twin.world.living(step.theirs.incarnation)
        task = None if process is None else process.running
        return task is not None and task.claim_id == step.theirs.claim_id

    def hold(self, worker: WorkerPair, ours: Claimed, theirs: Claimed) -> None:
        """Take a claim on both sides, which must be of the same task."""
        for name in ours._fields:
            if name in _PAYLOADS:
                assert _loaded(getattr(ours, name)) == _loaded(getattr(theirs, name)), name
            elif name not in {"task_id", "claim_id", "incarnation", "version"}:
                assert getattr(ours, name) == getattr(theirs, name), name
        self.steps.append(StepPair(worker, ours, theirs))
        self.counts["claims"] += 1

    def claim(self, worker: WorkerPair, limit: int, *, since: Since | None = None) -> Claims | None:
        """Claim; the twin follows the choice, where it is one that the database may make."""
        answers = self.both(
            lambda: self.database.claim(worker.ours, limit, since),
            lambda: self.twin.claim(worker.theirs, 0),
        )
        if answers is None:
            return None
        ours, _ = answers
        self._follow_ends(worker)
        first, last = self._ranks()
        for claimed in ours.tasks:
            self._count_if_it_passes_a_retry(self._theirs(claimed.task_id))
            theirs = self.twin.take(worker.theirs, self._theirs(claimed.task_id))
            assert theirs is not None
            self.hold(worker, claimed, theirs)
        left = self._runnable(worker)
        if since is not None:
            return ours  # what is before it may be left
        if len(ours.tasks) < limit and ours.wait_seconds > 0:
            forgotten = self._forgotten(worker)
            assert not forgotten, f"a claim left what was due: {forgotten}"
        if not left:
            wait_seconds = self.twin.claim(worker.theirs, 0).wait_seconds
            assert ours.wait_seconds <= wait_seconds, f"it sleeps on: {ours}, {wait_seconds}"
        for claimed in ours.tasks:
            for turn in left:
                if turn.task.namespace == claimed.namespace and turn.way is Way.START:
                    lowest = first[self._theirs(claimed.incarnation)]
                    assert last[turn.task.incarnation] >= lowest, f"{turn} has the better rank"
        return ours

    def claim_all(self, worker: WorkerPair) -> None:
        """Claim until nothing is left: what explain calls runnable is taken, and nothing else.

        But for what is next behind a task that the first claim ends for its crashes.
        """
        served = {
            (p["namespace"], p["process_id"]): p["explained"]
            for p in self.seen["processes"]
            if p["namespace"] in worker.namespaces and p["state_version"] <= worker.reads
        }
        rooms = {name: self._room(name) for name in worker.namespaces}
        before = {name: p.incarnation for name, p in self.twin.world.processes.items()}
        taken: list[Claimed] = []
        for _ in range(_CLAIMS):
            ours = self.claim(worker, _ALL)
            if ours is None:
                return
            taken += ours.tasks
            if ours.wait_seconds > 0 and not self._runnable(worker):
                break
        started = {(c.namespace, c.process_id) for c in taken}
        gone = {name for name in before if name not in self.twin.world.processes}
        for name, room in rooms.items():
            of_it = {place: explained for place, explained in served.items() if place[0] == name}
            took = {place for place in started | gone if place[0] == name}
            told = {
                place
                for place, explained in of_it.items()
                if explained["runnable"] or (explained["reason"] == "crashed" and place in took)
            }
            assert took <= told, f"taken: {took}, runnable by explain: {told}"
            assert len(took - gone) == min(room, len(told - gone)), f"{took} of {told}"
            self.counts["explained as runnable, and taken"] += len(took)

    def pass_by(self, worker: WorkerPair) -> None:
        """Let the claims of a worker begin behind all that is due."""
        self.places[worker.ours] = Since(self.twin.now + timedelta(days=1), 0)

    def claim_since(self, worker: WorkerPair, limit: int) -> None:
        """Claim from where the last one came to, and what a look finds before: all is taken."""
        for _ in range(_CLAIMS):
            since = self.places.get(worker.ours, _FIRST)
            ours = self.claim(worker, limit, since=since)
            if ours is None or ours.seen is None:
                return
            self.places[worker.ours] = ours.seen
            if ours.wait_seconds == 0:
                continue
            rank = self.database.first_rank(worker.namespaces, ours.seen)
            # What one claim from there on has left is of namespaces without room.
            if rank is None or (since == Since(rank, 0) and not ours.tasks):
                forgotten = self._forgotten(worker)
                assert not forgotten, f"a look left what was due: {forgotten}"
                return
            self.places[worker.ours] = Since(rank, 0)
            self.counts["found before a place"] += 1

    def _forgotten(self, worker: WorkerPair) -> list[Turn]:
        """Return what a worker may run now and nothing stands against."""
        limits = {n: s.settings.concurrency for n, s in self.twin.world.spaces.items()}
        return [t for t in self._runnable(worker) if limits[t.task.namespace] is None]

    def _follow_ends(self, worker: WorkerPair) -> None:
        """Let the twin end what the claim has ended without starting it."""
        while turns := [t for t in self._runnable(worker) if t.way is not Way.START]:
            ours = {self.task_ids[turn.task.task_id]: turn for turn in turns}
            ended = self.database.ended_among(list(ours))
            if not ended:
                return
            for task_id in ended:
                assert self.twin.take(worker.theirs, ours[task_id].task.task_id) is None
                self.counts[f"ended by a claim: {ours[task_id].way}"] += 1

    def _count_if_it_passes_a_retry(self, task_id: int) -> None:
        world = self.twin.world
        task = world.tasks[task_id]
        first = first_task(world.processes[task.namespace, task.process_id], now=world.now)
        is_passed = task.is_timer and first is not None and is_held(first, now=world.now)
        self.counts["timers before a task in retry"] += is_passed

    def _runnable(self, worker: WorkerPair) -> list[Turn]:
        return runnable(self.twin.world, self.twin.world.workers[worker.theirs])

    def _ranks(self) -> tuple[dict[int, datetime], dict[int, datetime]]:
        """Return the lowest and the highest rank of what is due, by incarnation."""
        ranks: dict[int, list[datetime]] = {}
        for process in self.twin.world.processes.values():
            ranks[process.incarnation] = [
                task.rank
                for task in process.open_tasks()
                if task.place is Place.WAITING and task.due_at <= self.twin.now
            ]
        found = {incarnation: sorted(those) for incarnation, those in ranks.items() if those}
        return {i: r[0] for i, r in found.items()}, {i: r[-1] for i, r in found.items()}

    def _room(self, namespace: str) -> int:
        limit = self.twin.world.spaces[namespace].settings.concurrency
        return _ALL if limit is None else limit - self.twin.world.running_in(namespace)

    def _theirs(self, number: int) -> int:
        return next(theirs for theirs, ours in self.task_ids.items() if ours == number)

    # Comparing

    def compare(self) -> None:
        """Compare all that can be seen, and look at the invariants."""
        shown = read_database(self.database.snapshot(SNAPSHOT))
        told = read_twin(self.twin)
        puts = {n for n, key in self.twin.world.keys.items() if key.holder and _is_put(key)}
        ours = Ranks(shown, workers=self.names[0], puts=puts)
        theirs = Ranks(told, workers=self.names[1], puts=puts)
        found = list(differences(ours.of(shown), theirs.of(told)))
        assert not found, "\n".join(["they differ:", *found])
        self.task_ids = dict(zip(theirs.ids, ours.ids, strict=True))
        self.seen = shown
        _check_invariants(shown)


_NOTHING: Any = object()


def _attempt(action: Callable[[], T]) -> tuple[T, str | None]:
    try:
        return action(), None
    except PgprogError as e:
        return _NOTHING, type(e).__name__


def _is_put(key: Any) -> bool:
    return bool(key.fingerprint[0] == "put")


def _loaded(raw: bytes | None) -> object:
    return None if raw is None else json.loads(raw)


def _check_invariants(shown: Plain) -> None:
    """Look at what the database shows by itself, whatever the twin says."""
    by_process: dict[int, list[Plain]] = {}
    for task in shown["tasks"]:
        by_process.setdefault(task["incarnation"], []).append(task)
        answer = task["result"]["error"]
        if task["status"] in {"error", "cancelled"}:
            assert answer, f"I8: the end of {task} says nothing"
    statuses = {p["incarnation"]: p["status"] for p in shown["processes"]}
    for incarnation, tasks in by_process.items():
        _check_order(tasks, statuses.get(incarnation))
    for process in shown["processes"]:
        numbers = [event["event_id"] for event in process["history"]]
        times = [event["at"] for event in process["history"]]
        assert numbers == list(range(1, process["last_event_id"] + 1)), "I6: not 1 to n"
        assert times == sorted(times), "an event is earlier than the one before"


def _check_order(tasks: list[Plain], status: str | None) -> None:
    running = [t for t in tasks if t["status"] == "running"]
    queued = [t for t in tasks if t["type"] not in _TIMERS]
    waiting = [t for t in queued if t["status"] in {"waiting", "blocked"}]
    blocked = [t for t in tasks if t["status"] == "blocked"]
    assert len(running) <= 1, f"I1: two run: {running}"
    assert status is not None or not (running or waiting), "a task of a process that is gone"
    for task in running:
        overtaken = [] if task["type"] in _TIMERS else list(_overtaken(task, waiting))
        assert not overtaken, f"I2: {task} runs before {overtaken}"
    # A timer that its worker let go is due: the claim that meets it sees what is behind it.
    found_by_a_claim = [t for t in tasks if t["status"] == "waiting"]
    assert not blocked or running or found_by_a_claim or status == "init", (
        f"nobody lets {blocked} go"
    )


_TIMERS = {TaskType.TIMEOUT, TaskType.REMOVE}


def _overtaken(task: Plain, waiting: Iterable[Plain]) -> Iterable[Plain]:
    """Yield what was due or in retry before *task* and still waits; an init goes first."""
    for other in waiting:
        is_earlier = other["task_id"] < task["task_id"] and task["type"] != "init"
        if is_earlier and (other["attempt"] > 0 or other["scheduled_at"] <= task["started_at"]):
            yield other
