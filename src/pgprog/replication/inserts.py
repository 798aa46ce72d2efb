"""Hear by the replication stream of what is due and what has ended, whoever wrote it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

from pgprog.replication.feed import follow
from pgprog.replication.messages import Connected, Insert, Oversized, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


class Published(NamedTuple):
    """A publication, and what is wanted of its tables: the same columns of each."""

    publication: str
    columns: Mapping[str, Sequence[str]]


DUE: Final = Published(
    "pgprog_wakeups",
    {
        "pgprog_data.queue": ("namespace", "due_at"),
        "pgprog_data.timers": ("namespace", "due_at"),
    },
)
ENDED: Final = Published("pgprog_answers", {"pgprog_data.tasks": ("task_id",)})


async def hear(
    direct_dsn: str,
    published: Published,
    *,
    told: Callable[[Sequence[Sequence[Any]]], None],
    look: Callable[[], None],
    name: str,
) -> None:
    """Call *told* with the rows that each transaction inserts, until cancelled.

    A moment later they are visible to a snapshot; where a synchronous standby stalls, much later.
    *look* is called after each connection and after each transaction too big to be told: there is
    something that *told* was not called for.  A stream that cannot be followed is a warning, once.
    """
    feed = follow(
        direct_dsn,
        publications=[published.publication],
        columns=published.columns,
        name=f"{name} wakeups",
    )
    async with aclosing(feed) as events:
        async for event in events:
            if type(event) is Transaction:
                if rows := [each.new for each in event.changes if type(each) is Insert]:
                    told(rows)
            elif type(event) is Connected or type(event) is Oversized:
                look()
