"""The cache: what of the stream and of reads may be kept, and what may be served.

Nothing here does I/O or looks at a clock.  Times are seconds of one monotonic clock.

Reads of PostgreSQL and the stream overlap: a transaction may be told before a snapshot sees it,
and a snapshot may see it before it is told.  So a fill is fenced by visibility.  While it is under
way, the transactions on its process are *pending*; those told before it began, and not yet visible
to all, are *recent*; those told after it are compared with the snapshot that its entry carries.
So each is in an entry exactly once.  The proof is in docs/decisions/0002-the-cache.md.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from pgprog.cache.advice import Advice
from pgprog.cache.changes import by_process
from pgprog.cache.entries import ProcessRemoved
from pgprog.cache.fills import Fill
from pgprog.cache.lease import NEVER, Lease
from pgprog.cache.recent import Recent, Served, Unsettled, unseen_by
from pgprog.cache.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgprog.cache.entries import Change, Entry, Key
    from pgprog.cache.shelves import Shelf
    from pgprog.cache.snapshots import Snapshot

# Of what has to be remembered until the stream comes as far, before everything is given up.
_MOST_RECENT = 100_000


class Cache:
    """Entries of the namespaces in *shelves*, each with *window* events or what fits of them.

    Cold, it keeps and serves nothing: first it has to `listen`, then it may `warm_up`.  Everything
    but `look` belongs to one thread.
    """

    def __init__(
        self, shelves: Mapping[str, Shelf], *, window: int = 50, max_entry_bytes: int = 1 << 17
    ) -> None:
        self.is_warm = False
        self.is_listening = False
        self.lease = Lease()
        self.counts: Counter[str] = Counter()
        self.window = window
        self.shelves = shelves
        self._max_entry_bytes = max_entry_bytes
        self._warm_xmax = 0
        self._newest: Snapshot | None = None  # what it sees, every snapshot to come sees
        self._fills: dict[Key, Fill] = {}
        self._recent: Recent[Key] = Recent()
        self._loose: Recent[int] = Recent()  # by incarnation: their changes name no process
        self._served: Served[Key] = Served()  # what was given up had them
        self._unsettled = Unsettled()
        self._keys: dict[int, Key] = {}  # of the incarnations that are kept
        self._filled: deque[tuple[float, Key, Snapshot]] = deque()  # they carry it still
        self.watchers = Watchers()

    # ---- What the stream tells.

    def listen(self) -> None:
        """Remember what is told from now on, which is every transaction."""
        self.go_cold()
        self.is_listening = True

    def warm_up(self, snapshot: Snapshot) -> None:
        """Begin to keep, unless it had to be given up since it began to listen.

        *snapshot* is younger than a transaction that has begun and ended since: its xmax is above
        those of all that were not told.
        """
        if self.is_listening:
            self.is_warm = True
            self._warm_xmax = snapshot.xmax
            self._newest = snapshot

    def go_cold(self) -> None:
        """Give up everything, fills under way too: some transaction may not be told."""
        self.is_warm = self.is_listening = False
        self.lease.end()
        for shelf in self.shelves.values():
            for entry in shelf.entries.values():
                self._served.add(entry.key, self._whole(entry.unseen))
            shelf.clear()
        self._fills.clear()
        self._recent.clear()
        self._loose.clear()
        self._unsettled.clear()
        self._keys.clear()
        self._filled.clear()
        self.watchers.wake_all()

    def on_transaction(
        self, xid: int, end_lsn: int, changes: Sequence[Change], *, now: float
    ) -> None:
        """Apply a transaction, the next that the stream tells."""
        if not self.is_listening:
            return
        groups, loose = by_process(changes, self._keys)
        for incarnation in loose:
            self._loose.add(incarnation, (xid,))
            for fill in self._fills.values():
                fill.loose[incarnation] = (*fill.loose.get(incarnation, ()), xid)
        for key, group in groups.items():
            if (shelf := self.shelves.get(key[0])) is not None:
                self._apply(shelf, key, xid, group, now=now)
        self.on_progress(end_lsn)
        if len(self._recent) + len(self._loose) + len(self._unsettled) > _MOST_RECENT:
            self._overrun()

    def on_progress(self, lsn: int) -> None:
        """Note that every transaction that committed up to *lsn* has been told."""
        self.lease.advance(lsn)
        self._release()

    def on_beat(self, snapshot: Snapshot, lsn: int, *, sent_at: float, now: float) -> None:
        """Take what a query told that was sent at a time: a snapshot, and how far the log was."""
        if self._newest is not None and snapshot.is_far_from(self._newest):
            self._overrun()
        if not self.is_warm:
            return
        self._newest = snapshot
        self._recent.prune(snapshot)
        self._loose.prune(snapshot)
        self._served.prune(snapshot)
        self._unsettled.prune(snapshot)
        self.lease.add_beat(lsn, sent_at=sent_at)
        self._release()
        for shelf in self.shelves.values():
            self._make_room(shelf, now=now)

    # ---- Reading.

    def look(
        self,
        namespace: str,
        process_id: str,
        now: float,
        at_least: int = 0,
        max_lag: float | None = None,
        since: float = NEVER,
    ) -> Entry | None:
        """Return what may be served; from any thread.  None: see `advise`."""
        shelf = self.shelves.get(namespace)
        if shelf is None:
            return None
        # Before the entry: all that the loop may make newer meanwhile, an entry has to meet.
        as_of, not_before = self.lease.as_of, shelf.not_before
        floor = shelf.floors.get(process_id) if shelf.floors else None
        entry = shelf.entries.get(process_id)
        if (
            now - as_of > (shelf.max_lag if max_lag is None else max_lag)
            or entry is None
            or entry.row.version < at_least
            or now - entry.touched_at > shelf.ttl
            or (as_of <= since and entry.as_of <= since)
            or (as_of <= not_before and entry.as_of <= not_before)
            or (floor and not floor.is_met(entry.row.version, as_of=max(as_of, entry.as_of)))
        ):
            return None
        entry.touched_at = now
        shelf.hits += 1
        return entry

    def advise(self, key: Key, *, now: float, at_least: int = 0, max_lag: float | None) -> Advice:
        """Return what a reader should do to whom `look` gave nothing."""
        shelf = self.shelves.get(key[0])
        if shelf is None or not self.is_warm:
            return Advice.READ
        as_of = self.lease.as_of
        if now - as_of > (shelf.max_lag if max_lag is None else max_lag):
            return Advice.READ
        if as_of <= shelf.not_before:
            return Advice.READ  # to fill all of them anew would be worse
        if key in self._fills:
            return Advice.JOIN
        entry = shelf.entries.get(key[1])
        floor = shelf.floors.get(key[1])
        wanted = at_least if floor is None else max(at_least, floor.version)
        return Advice.FILL if entry is None or entry.row.version >= wanted else Advice.WAIT

    def told(self, key: Key) -> tuple[int, ...]:
        """Return transactions that readers of a process may know, with their epoch.

        An answer of PostgreSQL that does not see them yet would be older than what was served.
        """
        entry = self.shelves[key[0]].entries.get(key[1]) if key[0] in self.shelves else None
        return (*self._served.of(key), *self._whole(entry.unseen if entry else ()))

    def forget_told(self) -> None:
        """Expect nothing of other snapshots: they are those of another server."""
        self._served.clear()

    def is_settled(self, key: Key, *, now: float) -> bool:
        """Return whether whoever reads a process now may wait until something is told of it.

        All that was told, and what no stream tells, is visible to every snapshot from now on; the
        rest is told within the lag that its namespace allows.
        """
        shelf, newest = self.shelves.get(key[0]), self._newest
        if not self.is_warm or shelf is None or newest is None or newest.xmin < self._warm_xmax:
            return False
        entry, fill = shelf.entries.get(key[1]), self._fills.get(key)
        pending = () if fill is None else tuple(xid for xid, _ in fill.pending)
        told = (*self._recent.of(key), *pending, *(entry.unseen if entry else ()))
        return now - self.lease.as_of <= shelf.max_lag and not unseen_by(newest, told)

    # ---- Reads of PostgreSQL.

    def begin_fill(self, key: Key, *, now: float) -> Fill:
        """Announce a read whose result is to be kept, before it is sent.

        What is kept of the process is given up.  There must be no other fill of it.
        """
        if key[1] in self.shelves[key[0]].entries:
            self._evict(key)
        fill = Fill(key, now, self._recent.of(key), self._loose.of_all())
        self._fills[key] = fill
        return fill

    def end_fill(self, fill: Fill, entry: Entry, *, now: float) -> Entry | None:
        """Keep what a fill has read, with its snapshot; return it as it is kept.

        None when it cannot be kept: it misses a transaction that will not be told again.
        """
        if self._fills.get(fill.key) is not fill or entry.snapshot is None:
            return None
        told = (*fill.recent, *fill.loose.get(entry.row.incarnation, ()))
        is_fenced = entry.snapshot.xmin >= self._warm_xmax and not unseen_by(entry.snapshot, told)
        kept = self._with_pending(entry, fill) if is_fenced else None
        if kept is None or (kept := kept.fitted(self._max_entry_bytes)) is None:
            self.counts["refused"] += 1
            self.drop_fill(fill)
            return None
        del self._fills[fill.key]
        self._recent.forget(fill.key)
        self._loose.forget(kept.row.incarnation)
        self._keys[kept.row.incarnation] = fill.key
        kept.as_of = fill.began_at
        shelf = self.shelves[fill.key[0]]
        shelf.put(kept, now=now)
        self._filled.append((now, fill.key, entry.snapshot))
        self._make_room(shelf, now=now)
        return kept

    def drop_fill(self, fill: Fill) -> None:
        """Keep nothing of a fill: it found nothing, or failed."""
        if self._fills.get(fill.key) is fill:
            del self._fills[fill.key]
            self._recent.add(fill.key, self._unseen(xid for xid, _ in fill.pending))

    # ---- What this program knows.

    def note_version(self, key: Key, version: int, *, now: float) -> None:
        """Serve no older version of a process: this one was acknowledged to us."""
        self._note(key, version=version, time=NEVER, now=now)

    def note_time(self, key: Key, *, now: float) -> None:
        """Serve nothing older of a process than it was before now: that is what we have seen."""
        self._note(key, version=0, time=now, now=now)

    def _note(self, key: Key, *, version: int, time: float, now: float) -> None:
        shelf = self.shelves.get(key[0])
        if shelf is None or not self.is_warm:
            return
        shelf.raise_floor(key[1], version=version, time=time, now=now)
        if shelf.noted > _MOST_RECENT:
            self._overrun()

    def note_time_of_all(self, *, now: float) -> None:
        """Serve nothing older of any process: one was changed, and we do not know which."""
        for shelf in self.shelves.values():
            shelf.not_before = now

    # ---- Keeping.

    def _apply(
        self, shelf: Shelf, key: Key, xid: int, group: Sequence[Change], *, now: float
    ) -> None:
        entry = shelf.entries.get(key[1])
        if key in self._fills:
            self._fills[key].pending.append((xid, group))
        elif entry is None:
            self._recent.add(key, (xid,))
        elif entry.snapshot is None or not entry.snapshot.sees(xid):
            changed = self._changed(entry, xid, group)
            if changed is None:
                self._evict(key, besides=(xid,))
            else:
                shelf.put(changed, now=now)
                self._make_room(shelf, now=now)
        self.watchers.wake(key)

    def _changed(self, entry: Entry, xid: int, group: Sequence[Change]) -> Entry | None:
        """Return the entry after a transaction that it does not have, None if it has to go."""
        changed = entry.changed(group, window=self.window)
        if changed is None and not any(isinstance(change, ProcessRemoved) for change in group):
            self.counts["gaps"] += 1  # never: what is told follows on what is kept
        if changed is None or (changed := changed.fitted(self._max_entry_bytes)) is None:
            return None
        changed.unseen.extend(self._unseen((xid,)))
        self._unsettled.add(changed)
        return changed

    def _with_pending(self, entry: Entry, fill: Fill) -> Entry | None:
        """Return what was read with the transactions that it does not see."""
        kept: Entry | None = entry
        for xid, group in fill.pending:
            if kept is not None and entry.snapshot is not None and not entry.snapshot.sees(xid):
                kept = self._changed(kept, xid, group)
        return kept

    def _evict(self, key: Key, *, besides: tuple[int, ...] = ()) -> None:
        entry = self.shelves[key[0]].pop(key[1])
        if entry is not None:
            del self._keys[entry.row.incarnation]
            self._unsettled.drop(key)
            self._recent.add(key, (*entry.unseen, *besides))
            self._served.add(key, self._whole(entry.unseen))
            self.counts["evicted"] += 1

    def _make_room(self, shelf: Shelf, *, now: float) -> None:
        for entry in shelf.overdue(now=now):
            self._evict(entry.key)

    def _unseen(self, xids: Iterable[int]) -> tuple[int, ...]:
        return () if self._newest is None else unseen_by(self._newest, xids)

    def _whole(self, xids: Iterable[int]) -> Iterable[int]:
        return () if self._newest is None else map(self._newest.whole, xids)

    def _release(self) -> None:
        """Let go of what was needed until the stream had come this far."""
        as_of = self.lease.as_of
        for shelf in self.shelves.values():
            shelf.release(as_of=as_of)
        while self._filled and self._filled[0][0] < as_of:
            _, key, snapshot = self._filled.popleft()
            entry = self.shelves[key[0]].entries.get(key[1])
            if entry is not None and entry.snapshot is snapshot:
                entry.snapshot = None

    def _overrun(self) -> None:
        self.counts["overrun"] += 1
        self.go_cold()
