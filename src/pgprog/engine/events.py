"""Events as applications see them, from rows of pgprog.history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog.model import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgprog.codec import Codec


def events_of(rows: Iterable[Any], *, codec: Codec[Any]) -> tuple[Event, ...]:
    """Return the events of (event_id, at, task_id, payload, metadata), payloads by *codec*."""
    return tuple(
        Event(
            codec.decode(payload),
            codec.decode(metadata),
            event_id=event_id,
            at=at,
            task_id=task_id,
        )
        for event_id, at, task_id, payload, metadata in rows
    )
