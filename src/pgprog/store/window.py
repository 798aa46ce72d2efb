"""The newest events of a process, loaded with its step."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the types of fields
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

if TYPE_CHECKING:
    from pgprog.model import Direction
    from pgprog.store.rows import NewEvent

# As much as a state may have, and what pgprog_engine.newest_events gives at most.
_MOST_BYTES = 4 << 20


class StoredEvent(NamedTuple):
    """An event as a row of pgprog.history; payload and metadata are raw JSON."""

    event_id: int
    at: datetime
    task_id: int
    payload: bytes
    metadata: bytes | None
    state_version: int

    def __repr__(self) -> str:
        return f"<event {self.event_id}>"


class _Event(msgspec.Struct):
    event_id: int
    at: datetime
    task_id: int
    payload: msgspec.Raw
    metadata: msgspec.Raw
    state_version: int


_EVENTS = msgspec.json.Decoder(list[_Event])


class Window(NamedTuple):
    """The newest events of a process, ascending without a gap up to its last one.

    At most *most*, and at most 4 MiB of payloads: a step that asks for more reads PostgreSQL.
    Nobody else appends to a process while its step runs, so the window stays true until then.
    """

    most: int
    last_event_id: int
    events: Sequence[StoredEvent]

    @classmethod
    def of(cls, raw: bytes, *, most: int, last_event_id: int) -> Self:
        """Return the window from the JSON of pgprog_engine.newest_events."""
        events = [
            StoredEvent(
                event.event_id,
                event.at,
                event.task_id,
                bytes(event.payload),
                bytes(event.metadata),
                event.state_version,
            )
            for event in _EVENTS.decode(raw)
        ]
        return cls(most, last_event_id, events)

    def grown(
        self, events: Sequence[NewEvent], *, at: datetime, task_id: int, state_version: int
    ) -> Window:
        """Return the window after a step has appended *events*."""
        if not events:
            return self
        new = [
            StoredEvent(number, at, task_id, event.payload, event.metadata, state_version)
            for number, event in enumerate(events, self.last_event_id + 1)
        ]
        joined = [*self.events, *new][-self.most :]
        surplus = sum(map(_size, joined)) - _MOST_BYTES
        first = 0
        while surplus > 0:
            surplus -= _size(joined[first])
            first += 1
        return Window(self.most, self.last_event_id + len(new), joined[first:])

    def read(
        self, *, after: int | None, limit: int, direction: Direction
    ) -> Sequence[StoredEvent] | None:
        """Return what pgprog.history would, None where that takes events before the window."""
        last = self.last_event_id
        if direction == "forward":
            low = max(after or 0, 0) + 1
            high = min(low + limit - 1, last)
        else:
            high = last if after is None else min(after - 1, last)
            low = max(high - limit + 1, 1)
        if low > high:
            return ()
        first = last - len(self.events) + 1
        if low < first:
            return None
        found = self.events[low - first : high - first + 1]
        return found if direction == "forward" else found[::-1]


def _size(event: StoredEvent) -> int:
    return len(event.payload) + len(event.metadata or b"")
