"""A client with its cache beside a PostgreSQL in memory, and what may never be seen there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.property.cache_postgres import NAMESPACE, TIMERS, Moment, Postgres, Process

from pgprog.cache.advice import Advice
from pgprog.cache.entries import Entry
from pgprog.cache.fence import Cache
from pgprog.cache.gate import Gate
from pgprog.cache.shelves import Shelf

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from pgprog.cache.fills import Fill
    from pgprog.cache.snapshots import Snapshot

WINDOW = 3
MAX_LAG = 0.05


@dataclass
class Read:
    """A read on its way to PostgreSQL and back; *seen* is what its client knew when it began."""

    name: str
    fill: Fill | None
    seen: dict[object, int]
    told: tuple[int, ...]
    process: Process | None = None
    snapshot: Snapshot | None = None


@dataclass
class Beat:
    """A beat on its way."""

    sent_at: float
    snapshot: Snapshot | None = None
    lsn: int = 0


@dataclass
class World:
    """One client; `act` does something at random, and checks what a reader gets.

    *is_synchronous*: a standby has to acknowledge commits, and nothing may be served before.
    """

    random: random.Random
    is_synchronous: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.postgres = Postgres(self.random, ["a", "b", "c", "d", "e"])
        shelf = Shelf(ttl=0.2, max_bytes=9_000, max_lag=MAX_LAG)
        self.cache = Cache({NAMESPACE: shelf}, window=WINDOW)
        self.gate = Gate(self.cache)
        self.gate.is_shut = self.is_synchronous
        self.told: int | None = None  # how much of the log; None: not connected
        self.reads: list[Read] = []
        self.beat: Beat | None = None
        self.seen: dict[object, int] = {}
        self.stalls_until = 0.0
        self.warming: list[Callable[[], None]] = []

    def act(self) -> None:
        """Do one thing."""
        self.postgres.now += self.random.expovariate(1000)
        actions = (
            (self.postgres.begin, 10),
            (self.postgres.commit, 10),
            (self.show, 8),
            (self.tell, 14),
            (self.read, 16),
            (self.go_on_reading, 16),
            (self.go_on_beating, 12),
            (self.connect, 1.5 if self.told is None else 0.1),
            (self.go_on_warming, 90 if self.told is not None and not self.cache.is_warm else 0),
            (self.lose, 0.1),
        )
        calls, weights = zip(*actions, strict=True)
        self.random.choices(calls, weights)[0]()

    def show(self) -> None:
        """Let a commit be acknowledged; the client remembers its own."""
        shown = self.postgres.show()
        if shown is None or not shown.is_ours:
            return
        now, key = self.postgres.now, (NAMESPACE, shown.process_id)
        processes = [m.value for _, m in shown.moments if isinstance(m.value, Process)]
        if processes and len(shown.moments) == 1:
            self.cache.note_version(key, processes[0].row.version, now=now)
        else:
            self.cache.note_time(key, now=now)
        for subject, moment in shown.moments:
            self._see(subject, self._index(subject, moment))

    def tell(self) -> None:
        """Let the stream tell its next transaction, or how far it is."""
        if self.random.random() < 0.002:
            self.stalls_until = self.postgres.now + 4 * MAX_LAG
        if self.told is None or self.postgres.now < self.stalls_until:
            return
        if self.told < len(self.postgres.log):
            xid, lsn, changes = self.postgres.log[self.told]
            self.told += 1
            self.gate.on_transaction(xid, lsn, changes, now=self.postgres.now)
        else:
            self.gate.on_progress(self.postgres.lsn, now=self.postgres.now)

    def connect(self) -> None:
        """Open a stream: what has committed is never told by it, seen or not."""
        self.lose()
        self.told = len(self.postgres.log)
        self.cache.lease.restart(self.postgres.lsn)

    def go_on_warming(self) -> None:
        """Take it one step further: listen, take a transaction id, take a snapshot, keep."""
        if not self.cache.is_listening:
            self.cache.listen()
            self.warming = [self._take_xid, self._take_snapshot]
        self.warming.pop(0)()

    def _take_xid(self) -> None:
        self.postgres.assign()

    def _take_snapshot(self) -> None:
        snapshot = self.postgres.snapshot()
        self.warming.append(lambda: self._keep(snapshot))

    def _keep(self, snapshot: Snapshot) -> None:
        self.cache.warm_up(snapshot)
        self.counts["warm"] += 1

    def lose(self) -> None:
        """Lose the stream."""
        self.told = None
        self.gate.clear()
        self.cache.go_cold()

    def go_on_beating(self) -> None:
        """Take a beat one step further."""
        if self.beat is None:
            self.beat = Beat(self.postgres.now)
        elif self.beat.snapshot is None:
            self.beat.snapshot, self.beat.lsn = self.postgres.snapshot(), self.postgres.lsn
        else:
            beat, self.beat = self.beat, None
            now = self.postgres.now
            assert beat.snapshot is not None
            self.cache.on_beat(beat.snapshot, beat.lsn, sent_at=beat.sent_at, now=now)
            self.gate.on_snapshot(beat.snapshot, now=now)

    def read(self) -> None:
        """Read a process: from the cache, or begin to from PostgreSQL."""
        name = self.random.choice(self.postgres.names)
        now, key = self.postgres.now, (NAMESPACE, name)
        entry = self.cache.look(*key, now)
        if entry is not None:
            self.counts["hits"] += 1
            self._check_served(name, entry, since=now - MAX_LAG, seen=self.seen)
            return
        advice = self.cache.advise(key, now=now, max_lag=None)
        self.counts[advice.name] += 1
        if advice is Advice.JOIN:
            return
        if advice is Advice.WAIT and self.random.random() < 0.5:
            return
        is_fill = advice in {Advice.FILL, Advice.WAIT}
        told = self.cache.told(key)
        fill = self.cache.begin_fill(key, now=now) if is_fill else None
        self.reads.append(Read(name, fill, dict(self.seen), told))

    def go_on_reading(self) -> None:
        """Take some read one step further: to its snapshot, or back to its client."""
        if not self.reads:
            return
        read = self.random.choice(self.reads)
        if read.snapshot is None:
            read.snapshot = self.postgres.snapshot()
            read.process = self.postgres.processes.get(read.name)
            return
        if not all(map(read.snapshot.shows, read.told)):  # too soon: the client reads once more
            self.counts["too soon"] += 1
            if read.fill is not None:
                self.cache.drop_fill(read.fill)
            read.fill = read.snapshot = None
            return
        self.reads.remove(read)
        now, key = self.postgres.now, (NAMESPACE, read.name)
        kept = None
        if read.fill is None:
            self.cache.note_time(key, now=now)
        elif read.process is None or self.random.random() < 0.05:
            self.cache.drop_fill(read.fill)
        else:
            kept = self.cache.end_fill(read.fill, self._entry(read), now=now)
            self.counts["kept" if kept else "refused"] += 1
            self.counts["pending"] += len(read.fill.pending) if kept else 0
        if kept is not None:
            assert read.fill is not None
            self._check_served(read.name, kept, since=read.fill.began_at, seen=read.seen)
        else:
            self._check_answer(read)

    def settle(self) -> None:
        """Let everything arrive, and see that what is kept is what is there."""
        while self.postgres.running:
            self.postgres.commit()
            self.postgres.show()
        self.stalls_until = 0.0
        while self.told is not None and self.told < len(self.postgres.log):
            self.tell()
        self.gate.on_snapshot(self.postgres.snapshot(), now=self.postgres.now)
        for name, entry in self.cache.shelves[NAMESPACE].entries.items():
            process = self.postgres.processes.get(name)
            assert process is not None, f"{name} is gone, and kept for ever"
            assert entry.row == process.row, f"{name} is stale for ever"
            assert entry.events == process.events[-WINDOW:], f"{name}: other events"
            assert dict(entry.timers) == process.timers, f"{name}: other timers"
        assert not self.cache.counts["gaps"], "a transaction was told that does not follow"

    # ---- What may be seen.

    def _check_served(
        self, name: str, entry: Entry, *, since: float, seen: dict[object, int]
    ) -> None:
        timeline = self.postgres.timelines[name]
        index = next(
            i for i, moment in enumerate(timeline)
            if isinstance(moment.value, Process) and moment.value.row.version == entry.version
        )  # fmt: skip
        process: Any = timeline[index].value
        assert entry.row == process.row
        assert entry.events == process.events[-WINDOW:], f"{name}: torn"
        self._check_index(name, {index}, since=since, seen=seen)
        for timer in TIMERS:
            subject = (entry.row.incarnation, timer)
            moments = self.postgres.timelines.get(subject, [])
            value = entry.timers.get(timer)
            fitting = {i for i, moment in enumerate(moments) if moment.value == value}
            fitting |= {-1} if value is None else set()
            self._check_index(subject, fitting, since=since, seen=seen)

    def _check_index(
        self, subject: object, fitting: set[int], *, since: float, seen: dict[object, int]
    ) -> None:
        """Check that one of the moments that fit may be served."""
        moments = self.postgres.timelines.get(subject, [])
        acknowledged = [
            i for i, moment in enumerate(moments)
            if moment.visible_at is not None and moment.visible_at <= since
        ]  # fmt: skip
        least = max(acknowledged, default=-1)
        known = seen.get(subject, -1)
        assert any(i >= least for i in fitting), f"{subject} {fitting} is older than allowed"
        assert any(i >= known for i in fitting), f"{subject} {fitting} is older than {known}, seen"
        allowed = {i for i in fitting if i >= max(least, known)}
        if self.is_synchronous:
            allowed = {i for i in allowed if i < 0 or moments[i].visible_at is not None}
            assert allowed, f"{subject} {fitting} is not visible"
        self._see(subject, min(allowed))

    def _check_answer(self, read: Read) -> None:
        """Check and note what PostgreSQL answered."""
        index = self._index_of(read)
        if read.process is not None:
            assert index >= read.seen.get(read.name, -1), f"{read.name} went back in time"
        self._see(read.name, index)
        if read.process is None:
            return
        for timer in TIMERS:
            subject = (read.process.row.incarnation, timer)
            value = read.process.timers.get(timer)
            moments = self.postgres.timelines.get(subject, [])
            fitting = {i for i, moment in enumerate(moments) if moment.value == value}
            fitting |= {-1} if value is None else set()
            known = read.seen.get(subject, -1)
            assert max(fitting) >= known, f"{subject} went back in time"
            self._see(subject, min(i for i in fitting if i >= known))

    def _index_of(self, read: Read) -> int:
        """Return which moment of its process a read has seen."""
        for index, moment in enumerate(self.postgres.timelines.get(read.name, ())):
            if read.process is None and moment.value is None and moment.visible_at is not None:
                return index
            if (
                read.process is not None
                and isinstance(moment.value, Process)
                and moment.value.row == read.process.row
            ):
                return index
        return -1

    def _index(self, subject: object, moment: Moment) -> int:
        return next(i for i, m in enumerate(self.postgres.timelines[subject]) if m is moment)

    def _see(self, subject: object, index: int) -> None:
        self.seen[subject] = max(index, self.seen.get(subject, -1))

    def _entry(self, read: Read) -> Entry:
        assert read.process is not None
        process = read.process
        return Entry(process.row, process.events[-WINDOW:], process.timers, snapshot=read.snapshot)
