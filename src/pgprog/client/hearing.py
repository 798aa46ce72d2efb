"""How a client hears that a task has ended elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgprog.cache.stream import PUBLISHED
from pgprog.config import CacheSettings
from pgprog.replication import inserts
from pgprog.replication.shared import Feed
from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from pgprog.client.answers import Answers
    from pgprog.client.watching import Wakes
    from pgprog.config import Wakeups

_RECONNECT = CacheSettings().reconnect


def feed_for(
    cache: Mapping[str, CacheSettings], wakeups: Wakeups, direct_dsn: str, *, name: str
) -> Feed:
    """Return the feed of a client, which expects what its cache and its waiters want."""
    reconnect = min((each.reconnect for each in cache.values()), default=_RECONNECT)
    feed = Feed(direct_dsn, name=f"{name} reader", reconnect=reconnect)
    if cache:
        feed.expect(PUBLISHED)
    if wakeups == "stream":
        feed.expect(inserts.ENDED)
    return feed


async def hear_ends(answers: Answers, direct_dsn: str, *, name: str) -> None:
    """Have *answers* look for what their workers tell has ended; they poll in any case."""
    await wakeups.listen(
        direct_dsn,
        channels=(wakeups.ENDED,),
        hear=lambda _, payload: answers.hint(payload),
        name=name,
    )


@contextmanager
def hearing_ends(answers: Answers, wakes: Wakes, feed: Feed) -> Iterator[None]:
    """Have *answers*, and those who watch, look for what *feed* tells has ended."""

    def told(rows: Sequence[Sequence[Any]]) -> None:
        answers.ended(task_id for (task_id,) in rows)
        wakes.tell()

    def look() -> None:
        answers.hint("")
        wakes.tell()

    with inserts.hearing(feed, inserts.ENDED, told=told, look=look):
        yield
