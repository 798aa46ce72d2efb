"""What the replication stream says of processes, in the words of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgprog.cache.entries import (
    EventAdded,
    EventRow,
    ProcessRemoved,
    ProcessRow,
    ProcessWritten,
    TimerSet,
    TimerUnset,
)
from pgprog.replication.messages import Delete, Insert, Reshaped, Truncate, Update
from pgprog.replication.published import Published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.cache.entries import Change
    from pgprog.replication import messages

# Rows come as the parameters of ProcessRow and so on.  What is not told would be kept for ever, but
# for events: they never change, and are removed after their process.
PUBLISHED: Final = Published(
    ("pgprog_processes", "pgprog_events"),
    {
        "pgprog_data.processes": ProcessRow.__struct_fields__,
        "pgprog_data.events": ("incarnation", *EventRow.__struct_fields__),
        "pgprog_data.timers": TimerSet._fields,
    },
    {
        "pgprog_data.processes": ("insert", "update", "delete", "truncate"),
        "pgprog_data.events": ("insert", "truncate"),
        "pgprog_data.timers": ("insert", "update", "delete", "truncate"),
    },
)


def changes_of(told: Sequence[messages.Change]) -> list[Change] | None:
    """Return the changes of a transaction; None when nothing that is kept can be kept.

    So it is, too, where one does not name its row: the replica identity of the table was altered
    before the stream told anything of it, which ends no stream.

    By `type(…) is` where it is hot: these classes have a metaclass, which makes isinstance slow.
    """
    changes: list[Change] = []
    for change in told:
        if type(change) is Update or type(change) is Insert:
            # The old row is there for its other key, the first two columns, or by its table's wish.
            old = change.old if type(change) is Update else None
            if old is not None and old[:2] != change.new[:2]:
                if None in old[:2]:
                    return None
                changes.append(_gone(change.relation.name, old))
            changes.append(_new(change.relation.name, change.new))
        elif type(change) is Delete:
            if change.relation.name != "events":
                if None in change.old[:2]:
                    return None
                changes.append(_gone(change.relation.name, change.old))
        elif type(change) is Truncate or type(change) is Reshaped:
            return None
    return changes


def _new(table: str, row: Sequence[Any]) -> Change:
    if table == "processes":
        return ProcessWritten(ProcessRow(*row))
    if table == "events":
        return EventAdded(row[0], EventRow(*row[1:]))
    return TimerSet(*row)


def _gone(table: str, key: Sequence[Any]) -> Change:
    """Return the end of a process or a timer, of whose row only the key is told."""
    if table == "processes":
        return ProcessRemoved(key[0], key[1])
    return TimerUnset(key[0], key[1])
