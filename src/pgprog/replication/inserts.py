"""Hear by the replication stream of what is due and what has ended, whoever wrote it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pgprog.replication.messages import Connected, Insert, Oversized, Transaction
from pgprog.replication.published import Published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from pgprog.replication.messages import FeedEvent
    from pgprog.replication.shared import Feed


# The same columns of each table: rows are told without saying of which.
DUE: Final = Published(
    ("pgprog_wakeups",),
    {
        "pgprog_data.queue": ("namespace", "due_at"),
        "pgprog_data.timers": ("namespace", "due_at"),
    },
)
ENDED: Final = Published(("pgprog_answers",), {"pgprog_data.tasks": ("task_id",)})


@contextmanager
def hearing(
    feed: Feed,
    published: Published,
    *,
    told: Callable[[Sequence[Sequence[Any]]], None],
    look: Callable[[], None],
) -> Iterator[None]:
    """Call *told* with the rows that each transaction inserts, for as long as the block lasts.

    A moment later they are visible to a snapshot; where a synchronous standby stalls, much later.
    *look* is called after each connection and after each transaction too big to be told: there is
    something that *told* was not called for.
    """

    def hear(event: FeedEvent) -> None:
        if type(event) is Transaction:
            if rows := [each.new for each in event.changes if type(each) is Insert]:
                told(rows)
        elif type(event) is Connected or type(event) is Oversized:
            look()

    with feed.told_to(published, hear):
        yield
