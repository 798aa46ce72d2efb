"""Events as applications see them, from rows of pgprog.history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog.codec import Codec
from pgprog.model import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgprog.namespace import Namespace

_PLAIN: Codec[Any] = Codec()


def events_of(rows: Iterable[Any], *, namespace: Namespace[Any] | None) -> tuple[Event, ...]:
    """Return the events of (event_id, at, task_id, payload, metadata, state_version).

    Payloads are upcast where *namespace* is known.

    Raises:
        Misfit: A payload is newer than the namespace in code.
    """
    codec = _PLAIN if namespace is None else namespace.plain_codec
    return tuple(
        Event(
            codec.decode(payload)
            if namespace is None
            else namespace.load_event(codec.decode(payload), state_version),
            codec.decode(metadata),
            event_id=event_id,
            at=at,
            task_id=task_id,
            state_version=state_version if namespace is None else namespace.state_version,
        )
        for event_id, at, task_id, payload, metadata, state_version in rows
    )
