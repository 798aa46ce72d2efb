"""Which process each change of a transaction belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgprog.cache.entries import ProcessRemoved, ProcessWritten, TimerSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.cache.entries import Change, EventAdded, Key, TimerUnset


def by_process(
    changes: Sequence[Change], keys: Mapping[int, Key]
) -> tuple[dict[Key, list[Change]], set[int]]:
    """Return the changes of each process, and the incarnations of the others.

    A change that names an incarnation alone is placed by the others of its transaction and by
    *keys*, the processes of incarnations that are kept.  Events are written before their process.
    """
    here: dict[int, Key] = {}
    for change in changes:
        if isinstance(change, ProcessWritten):
            here[change.row.incarnation] = change.row.namespace, change.row.process_id
        elif isinstance(change, TimerSet):
            here[change.incarnation] = change.namespace, change.process_id
    groups: dict[Key, list[Change]] = {}
    loose: set[int] = set()
    for change in changes:
        key = _key_of(change, here=here, kept=keys)
        if key is not None:
            groups.setdefault(key, []).append(change)
        elif not isinstance(change, ProcessRemoved):
            loose.add(_incarnation_of(change))
    return groups, loose


def _key_of(change: Change, *, here: Mapping[int, Key], kept: Mapping[int, Key]) -> Key | None:
    if isinstance(change, ProcessRemoved):
        return change.namespace, change.process_id
    incarnation = _incarnation_of(change)
    return here.get(incarnation) or kept.get(incarnation)


def _incarnation_of(change: ProcessWritten | EventAdded | TimerSet | TimerUnset) -> int:
    return change.row.incarnation if isinstance(change, ProcessWritten) else change.incarnation
