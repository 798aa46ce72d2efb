"""What is kept of one process, and how a transaction changes it.

An entry is never changed: the next one takes its place, so that a reader has a process with its
events and timers as of one commit, whatever happens meanwhile.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from pgprog.replication.messages import UNCHANGED, Unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.cache.snapshots import Snapshot

Key: TypeAlias = tuple[str, str]

# What the objects around the payloads of an entry, an event and a timer take, as tracemalloc tells:
# test_cache_memory compares.
_ENTRY_BYTES = 1850
_EVENT_BYTES = 215
_TIMER_BYTES = 100


class ProcessRow(Struct, frozen=True, gc=False):
    """A process as its table has it; payloads are bytes of JSON.

    UNCHANGED stands for a value that an update left alone and the stream left out.
    """

    namespace: str
    process_id: str
    incarnation: int
    status: str
    previous_status: str | None
    status_changed_at: datetime
    detail: str | Unchanged | None
    corrupted_by: int | None
    state: bytes | Unchanged | None
    state_version: int
    metadata: bytes | Unchanged | None
    created_at: datetime
    last_event_id: int
    version: int


class EventRow(Struct, frozen=True, gc=False):
    """An event as its table has it."""

    event_id: int
    at: datetime
    task_id: int
    payload: bytes
    metadata: bytes | None
    state_version: int


class ProcessWritten(NamedTuple):
    """The row of a process is this from now on."""

    row: ProcessRow


class ProcessRemoved(NamedTuple):
    """There is no such process any more."""

    namespace: str
    process_id: str


class EventAdded(NamedTuple):
    """An event was appended to a history."""

    incarnation: int
    event: EventRow


class TimerSet(NamedTuple):
    """A timer is due at this time."""

    incarnation: int
    name: str
    namespace: str
    process_id: str
    due_at: datetime


class TimerUnset(NamedTuple):
    """A timer is there no more: it has started, or was cancelled."""

    incarnation: int
    name: str


Change: TypeAlias = ProcessWritten | ProcessRemoved | EventAdded | TimerSet | TimerUnset


class Entry:
    """A process with its newest events, all of them up to *row.last_event_id*, and its timers.

    *snapshot* is that of the read that filled it, until the stream has told all that it sees.
    *unseen* are transactions in it that a snapshot taken from now on may not see; one list goes
    from entry to entry, or many in a moment would be copied for each.  *as_of* is when that read
    was sent.  The first two, *touched_at*, *placed_at* and *form*, which belongs to whoever reads,
    are all that changes.
    """

    __slots__ = (
        "as_of",
        "events",
        "form",
        "placed_at",
        "row",
        "size",
        "snapshot",
        "timers",
        "touched_at",
        "unseen",
    )

    def __init__(
        self,
        row: ProcessRow,
        events: Sequence[EventRow] = (),
        timers: Mapping[str, datetime] | None = None,
        *,
        as_of: float = 0.0,
        snapshot: Snapshot | None = None,
        unseen: list[int] | None = None,
    ) -> None:
        self.row = row
        self.events = tuple(events)
        self.timers: Mapping[str, datetime] = timers or {}
        self.as_of = as_of
        self.snapshot = snapshot
        self.unseen = [] if unseen is None else unseen
        self.touched_at = self.placed_at = as_of
        self.form: Any = None
        self.size = _size_of(row, self.events, self.timers)

    @property
    def key(self) -> Key:
        """The name of the process."""
        return self.row.namespace, self.row.process_id

    @property
    def version(self) -> int:
        """The version of the process."""
        return self.row.version

    def changed(self, changes: Sequence[Change], *, window: int) -> Entry | None:
        """Return the entry after one transaction, with at most *window* events.

        None when it cannot be known from here: the process was removed or made anew, a value was
        left out that is not here, or something does not follow on what is here.
        """
        row, events, timers = self.row, self.events, self.timers
        for change in changes:
            if isinstance(change, ProcessRemoved):
                return None
            if isinstance(change, ProcessWritten):
                if change.row.incarnation != row.incarnation:
                    return None
                row = _completed(change.row, row)
            elif isinstance(change, EventAdded):
                events = (*events, change.event)
            else:
                timers = _timers_after(change, timers, incarnation=row.incarnation)
        if row is not self.row and row.version <= self.row.version:
            return None
        if not _is_whole(row, events, added=len(events) - len(self.events), before=self.row):
            return None
        return Entry(
            row,
            events[-window:] if window else (),
            timers,
            as_of=self.as_of,
            snapshot=self.snapshot,
            unseen=self.unseen,
        )

    def fitted(self, most: int) -> Entry | None:
        """Return the entry with as many of its newest events as fit into *most* bytes.

        None where the process by itself does not.
        """
        size, first = self.size, 0
        while size > most and first < len(self.events):
            size -= _size_of_event(self.events[first])
            first += 1
        if size > most:
            return None
        if first == 0:
            return self
        return Entry(
            self.row,
            self.events[first:],
            self.timers,
            as_of=self.as_of,
            snapshot=self.snapshot,
            unseen=self.unseen,
        )

    def has_range(
        self, *, max_events: int, after: int | None, forward: bool, newest: int | None = None
    ) -> bool:
        """Return whether every event of a range, if it exists, is here, or among the *newest*."""
        if max_events == 0:
            return True
        last = self.row.last_event_id
        first_here = last - (len(self.events) if newest is None else newest) + 1
        if forward:
            lowest = max(after or 0, 0) + 1
        else:
            highest = last if after is None else min(after - 1, last)
            lowest = max(highest - max_events + 1, 1)
            if highest < 1:
                return True
        return lowest > last or lowest >= first_here

    def range(self, *, max_events: int, after: int | None, forward: bool) -> tuple[EventRow, ...]:
        """Return the events of a range that is here, in its direction."""
        if forward:
            found = [e for e in self.events if after is None or e.event_id > after]
            return tuple(found[:max_events])
        found = [e for e in reversed(self.events) if after is None or e.event_id < after]
        return tuple(found[:max_events])


def _completed(row: ProcessRow, before: ProcessRow) -> ProcessRow:
    """Return the row with what the stream left out taken from the row before."""
    if row.state is UNCHANGED or row.metadata is UNCHANGED or row.detail is UNCHANGED:
        return replace(
            row,
            state=before.state if row.state is UNCHANGED else row.state,
            metadata=before.metadata if row.metadata is UNCHANGED else row.metadata,
            detail=before.detail if row.detail is UNCHANGED else row.detail,
        )
    return row


def _timers_after(
    change: TimerSet | TimerUnset, timers: Mapping[str, datetime], *, incarnation: int
) -> Mapping[str, datetime]:
    """Return the timers after a change; one of an earlier incarnation says nothing."""
    if change.incarnation != incarnation:
        return timers
    if isinstance(change, TimerSet):
        return {**timers, change.name: change.due_at}
    return {name: due_at for name, due_at in timers.items() if name != change.name}


def _is_whole(
    row: ProcessRow, events: Sequence[EventRow], *, added: int, before: ProcessRow
) -> bool:
    """Return whether the events that were added are those that the row counts."""
    if row.last_event_id != before.last_event_id + added:
        return False
    return all(
        event.event_id == before.last_event_id + number
        for number, event in enumerate(events[len(events) - added :], start=1)
    )


def _size_of(row: ProcessRow, events: Sequence[EventRow], timers: Mapping[str, datetime]) -> int:
    texts = (row.process_id, row.detail, row.state, row.metadata)
    size = _ENTRY_BYTES + sum(len(text) for text in texts if isinstance(text, (str, bytes)))
    size += sum(map(_size_of_event, events))
    return size + sum(_TIMER_BYTES + len(name) for name in timers)


def _size_of_event(event: EventRow) -> int:
    return _EVENT_BYTES + len(event.payload) + len(event.metadata or b"")
