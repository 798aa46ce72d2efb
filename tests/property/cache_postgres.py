"""PostgreSQL as the cache sees it, in memory: transactions, what a snapshot sees, a stream.

It commits as PostgreSQL does: the record is written, and told by the stream, before the
transaction leaves the running ones; until then its locks are held and no snapshot sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pgprog.cache.entries import (
    EventAdded,
    EventRow,
    ProcessRemoved,
    ProcessRow,
    ProcessWritten,
    TimerSet,
    TimerUnset,
)
from pgprog.cache.snapshots import Snapshot

if TYPE_CHECKING:
    import random

    from pgprog.cache.entries import Change

NAMESPACE = "orders"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TIMERS = ("", "expiry")


@dataclass(frozen=True)
class Process:
    """A process as it is in the tables."""

    row: ProcessRow
    events: tuple[EventRow, ...] = ()
    timers: dict[str, datetime] = field(default_factory=dict)


@dataclass
class Moment:
    """What a process, or a timer, is from one commit on: None is gone."""

    value: object
    visible_at: float | None = None


@dataclass
class Transaction:
    """One that has an xid; *moments* become visible with it."""

    xid: int
    process_id: str
    changes: list[Change]
    locks: set[object]
    moments: list[tuple[object, Moment]] = field(default_factory=list)
    is_ours: bool = False
    is_committed: bool = False


class Postgres:
    """The database; *timelines* hold each process's and each timer's moments, in their order."""

    def __init__(self, randomness: random.Random, names: list[str]) -> None:
        self.random = randomness
        self.names = names
        self.now = 0.0
        self.lsn = 1000
        self.next_xid = (1 << 32) - 60  # so that the 32 bits of the stream begin anew on the way
        self.completed = self.next_xid - 1
        self.running: dict[int, Transaction] = {}
        self.log: list[tuple[int, int, list[Change]]] = []
        self.processes: dict[str, Process] = {}
        self.timelines: dict[object, list[Moment]] = {}
        self._versions = 0
        self._incarnations = 0

    def snapshot(self) -> Snapshot:
        """Return what pg_current_snapshot would."""
        xmax = self.completed + 1
        running = [xid for xid in self.running if xid < xmax]
        return Snapshot(
            min(running, default=xmax), xmax, frozenset(xid % (1 << 32) for xid in running)
        )

    def assign(self) -> int:
        """Take a transaction id, and be done with it: pg_current_xact_id in autocommit."""
        xid = self.next_xid
        self.next_xid += 1
        self.completed = max(self.completed, xid)
        return xid

    def begin(self) -> None:
        """Begin a transaction of some kind on some process, where no lock is in its way."""
        name = self.random.choice(self.names)
        process = self.processes.get(name)
        made = self._make(name, process)
        if made is None or made.locks & self._locks():
            return
        made.is_ours = self.random.random() < 0.3
        self.next_xid += 1
        self.running[made.xid] = made

    def commit(self) -> None:
        """Write the commit record of a transaction, or roll it back."""
        open_ = [each for each in self.running.values() if not each.is_committed]
        if not open_:
            return
        chosen = self.random.choice(open_)
        if self.random.random() < 0.1:
            self._leave(chosen)
            return
        chosen.is_committed = True
        self.lsn += self.random.randrange(1, 100)
        self.log.append((chosen.xid % (1 << 32), self.lsn, chosen.changes))
        for subject, moment in chosen.moments:
            self.timelines.setdefault(subject, []).append(moment)

    def show(self) -> Transaction | None:
        """Let a committed transaction be seen and acknowledged; return it."""
        hidden = [each for each in self.running.values() if each.is_committed]
        if not hidden:
            return None
        chosen = self.random.choice(hidden)
        self._leave(chosen)
        for change in chosen.changes:
            self._write(chosen.process_id, change)
        for _, moment in chosen.moments:
            moment.visible_at = self.now
        return chosen

    def _leave(self, transaction: Transaction) -> None:
        del self.running[transaction.xid]
        self.completed = max(self.completed, transaction.xid)

    def _locks(self) -> set[object]:
        return {lock for each in self.running.values() for lock in each.locks}

    def _make(self, name: str, process: Process | None) -> Transaction | None:
        if process is None:
            return self._init(name)
        kind = self.random.choices(("step", "fire", "return", "remove", "again"), (10, 3, 4, 1, 1))[
            0
        ]
        match kind:
            case "step":
                return self._step(name, process)
            case "fire":
                return self._timer(name, process, is_set=False)
            case "return":
                return self._timer(name, process, is_set=True)
            case "remove":
                return self._remove(name, process)
            case _:
                removal, made = self._remove(name, process), self._init(name)
                made.changes[:0] = removal.changes
                made.moments[:0] = removal.moments
                made.locks |= removal.locks
                return made

    def _init(self, name: str) -> Transaction:
        self._incarnations += 1
        row = self._row(name, incarnation=self._incarnations, last_event_id=0, at=EPOCH)
        moment = Moment(Process(row))
        return Transaction(self.next_xid, name, [ProcessWritten(row)], {name}, [(name, moment)])

    def _step(self, name: str, process: Process) -> Transaction:
        last = process.row.last_event_id
        events = [
            EventRow(last + number, EPOCH, 7, b'"%d"' % (last + number), None, 1)
            for number in range(1, self.random.randrange(3) + 1)
        ]
        row = self._row(
            name,
            incarnation=process.row.incarnation,
            last_event_id=last + len(events),
            at=process.row.created_at,
        )
        added = [EventAdded(row.incarnation, event) for event in events]
        moment = Moment(Process(row, (*process.events, *events)))
        made = Transaction(
            self.next_xid, name, [*added, ProcessWritten(row)], {name}, [(name, moment)]
        )
        if self.random.random() < 0.3:
            timer = self._timer(name, process, is_set=self.random.random() < 0.6)
            if timer is not None:
                made.changes += timer.changes
                made.moments += timer.moments
                made.locks |= timer.locks
        return made

    def _timer(self, name: str, process: Process, *, is_set: bool) -> Transaction | None:
        """Return a timer that is set, as by the return of a running one, or one that starts.

        The return takes no lock on the process, only on what a removal locks too.
        """
        timer = self.random.choice(TIMERS)
        incarnation = process.row.incarnation
        if not is_set and timer not in process.timers:
            return None
        due_at = EPOCH + timedelta(seconds=self.next_xid) if is_set else None
        locks: set[object] = {(incarnation, timer), ("removal of", name, timer)}
        change: Change = (
            TimerUnset(incarnation, timer)
            if due_at is None
            else TimerSet(incarnation, timer, NAMESPACE, name, due_at)
        )
        if not is_set:
            locks.add(name)
        moments: list[tuple[object, Moment]] = [((incarnation, timer), Moment(due_at))]
        return Transaction(self.next_xid, name, [change], locks, moments)

    def _remove(self, name: str, process: Process) -> Transaction:
        incarnation = process.row.incarnation
        locks: set[object] = {name, *(("removal of", name, timer) for timer in TIMERS)}
        unset = [TimerUnset(incarnation, timer) for timer in process.timers]
        changes: list[Change] = [ProcessRemoved(NAMESPACE, name), *unset]
        return Transaction(self.next_xid, name, changes, locks, [(name, Moment(None))])

    def _row(self, name: str, *, incarnation: int, last_event_id: int, at: datetime) -> ProcessRow:
        self._versions += 1
        state = b"%d" % self._versions
        return ProcessRow(
            NAMESPACE, name, incarnation, "running", None, at, None, None, state, 1, None, at,
            last_event_id, self._versions,
        )  # fmt: skip

    def _write(self, name: str, change: Change) -> None:
        process = self.processes.get(name)
        known = None if process is None else process.row.incarnation
        match change:
            case ProcessRemoved():
                del self.processes[name]
            case ProcessWritten(row) if process is None or row.incarnation != known:
                self.processes[name] = Process(row)
            case ProcessWritten(row) if process is not None:
                self.processes[name] = replace(process, row=row)
            case EventAdded(_, event) if process is not None:
                self.processes[name] = replace(process, events=(*process.events, event))
            case TimerSet(incarnation, timer, _, _, due_at) if process is not None:
                assert incarnation == known
                self.processes[name] = replace(process, timers={**process.timers, timer: due_at})
            case TimerUnset(incarnation, timer) if process is not None and incarnation == known:
                left = {key: at for key, at in process.timers.items() if key != timer}
                self.processes[name] = replace(process, timers=left)
            case _:
                pass
