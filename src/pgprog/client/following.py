"""Follow the processes of a namespace: look at all, then hear of each, or look again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from pgprog import logs
from pgprog.client import lookout
from pgprog.client.changes import Changed, News, Position, Reached
from pgprog.errors import InvalidArgument, Overloaded, StoreUnavailable
from pgprog.replication.messages import (
    Connected,
    Delete,
    Insert,
    Lost,
    Oversized,
    Progress,
    Transaction,
    Update,
)
from pgprog.replication.published import Published
from pgprog.store.changes import WrittenProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from datetime import datetime

    from pgprog.client.watching import Wakes
    from pgprog.replication.messages import Change, FeedEvent
    from pgprog.replication.shared import Feed
    from pgprog.store.changes import Changes, Moment

log = logs.get(__name__)

_COLUMNS: Final = ("namespace", *WrittenProcess._fields[:-1])
_PUBLISHED: Final = Published(
    ("pgprog_processes",),
    {"pgprog_data.processes": _COLUMNS},
    {"pgprog_data.processes": ("insert", "update", "delete", "truncate")},
)
_PAGE = 5000
_MOST_HEARD = 100_000
# Looking at a million processes takes seconds: after a look nine times as long without one.
_REST = 9


async def follow_all(
    store: Changes,
    feed: Feed | None,
    namespace: str,
    *,
    status: str | None,
    position: Position | None,
    wakes: Wakes | None = None,
) -> AsyncGenerator[Changed | Reached, None]:
    """Yield the processes of a namespace, in *status* if that is given, whenever they have changed.

    What is guaranteed is told by `AsyncClient.watch_all`.  It looks at all processes, and again
    while there is no stream, or one that has not told all since the last look.  What the stream
    does not tell was written below an xid taken once it listens; with a synchronous standby such
    a commit may be invisible still, so that it looks until all those have ended.
    """
    ear = _Ear(namespace)
    news = News(status=status, since=0 if position is None else position.xid)
    looks = _Looks(store, namespace, news, status=status, position=position)
    with contextlib.ExitStack() as listening:
        if feed is not None:
            listening.enter_context(feed.told_to(_PUBLISHED, ear.hear))
        if wakes is not None:
            listening.enter_context(wakes.calling(ear.told.set))
        while wakes is None or not wakes.is_closed:
            ear.told.clear()
            try:
                async for found in _news(ear, news, looks):
                    yield found
            except (StoreUnavailable, Overloaded):
                if looks.is_first:
                    raise
            await _pause(ear, looks)


async def _news(ear: _Ear, news: News, looks: _Looks) -> AsyncGenerator[Changed | Reached, None]:
    """Yield what is to be seen and heard at this moment."""
    if ear.needs_look():
        looks.expect_all()
    if not ear.is_open or not looks.has_seen_all:
        ear.looked()
        async for found in looks.look():
            yield found
    if ear.is_open and ear.behind == math.inf:
        ear.looked(await looks.reached())
    lsn = ear.lsn  # before what is taken: that is all up to there
    for heard in ear.take(news):
        yield heard
        looks.has_news = True
    if ear.is_whole and (reached := await looks.moved(lsn)) is not None:
        yield reached


async def _pause(ear: _Ear, looks: _Looks) -> None:
    """Wait until something is told, or it is time to look."""
    is_told = ear.is_open and looks.has_seen_all
    seconds = lookout.POLL_SECONDS if is_told else max(lookout.POLL_SECONDS, looks.rest)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ear.told.wait()


class _Ear:
    """What the stream has told of a namespace and nobody has taken yet."""

    def __init__(self, namespace: str) -> None:
        self.told = asyncio.Event()
        self.is_open = False
        self.lsn = 0  # all up to there was told
        self.behind: float = 0  # a look saw nothing from there on; 0 when all before was taken
        self._namespace = namespace
        self._heard: deque[Change] = deque()
        self._misses = False
        self._removed: dict[str, None] = {}  # perhaps in an incarnation before one looked at

    @property
    def is_whole(self) -> bool:
        """Whether all that was told is kept."""
        return self.is_open and not self._misses

    def needs_look(self) -> bool:
        """Return once whether something was not told."""
        misses, self._misses = self._misses, False
        return misses

    def looked(self, lsn: float = math.inf) -> None:
        """Take what is not taken, up to *lsn*, for what a look may have seen."""
        self.behind = lsn

    def hear(self, event: FeedEvent) -> None:
        """Keep it."""
        match event:
            case Connected():
                self.is_open, self.lsn = True, event.lsn
                self._miss()
            case Transaction():
                self._heard.extend(event.changes)
                self.lsn = event.end_lsn
                self.told.set()
                if len(self._heard) > _MOST_HEARD:
                    self._miss()
            case Oversized():
                self.lsn = event.end_lsn
                self._miss()
            case Progress():
                self.lsn = event.lsn
                if self._removed and self.lsn >= self.behind:
                    self.told.set()
            case Lost():
                self.is_open = False
                self.told.set()

    def take(self, news: News) -> Iterator[Changed]:
        """Return what is news of what was heard, in the order of the commits.

        A removal does not say of which incarnation: while the stream is behind a look, one is told
        once it has come as far and has told of no other.
        """
        while self._heard:
            if (found := self._news_of(self._heard.popleft(), news)) is not None:
                yield found
        if self.behind and self.lsn >= self.behind:
            self.behind, removed, self._removed = 0, self._removed, {}
            yield from filter(None, map(news.gone, removed))

    def _news_of(self, change: Change, news: News) -> Changed | None:
        if isinstance(change, Insert | Update):
            namespace, *row = change.new
            # Whatever the stream tells was written since we began.
            written = WrittenProcess._make([*row, news.start])
            if namespace != self._namespace:
                return None
            self._removed.pop(written.process_id, None)
            return news.of(written)
        if isinstance(change, Delete):
            namespace, process_id, *_ = change.old
            if namespace is None or process_id is None:
                self._miss()  # another replica identity: it does not say which one is gone
                return None
            if namespace != self._namespace:
                return None
            if self.behind:
                self._removed[str(process_id)] = None
                return None
            return news.gone(str(process_id))
        self._miss()  # truncated, or of another shape
        return None

    def _miss(self) -> None:
        self._heard.clear()
        self._removed.clear()
        self._misses = True
        self.told.set()


class _Looks:
    """Looks at all processes, and finds the position that follows from it."""

    def __init__(
        self,
        store: Changes,
        namespace: str,
        news: News,
        *,
        status: str | None,
        position: Position | None,
    ) -> None:
        self.is_first = True
        self.has_news = True  # since the last position that was told
        self.has_seen_all = True  # that the stream does not tell
        self.rest = 0.0
        self._all_below: int | None = None
        self._store = store
        self._namespace = namespace
        self._news = news
        self._status = status
        self._since = news.start
        self._history = None if position is None else position.history
        self._mark: Moment | None = None
        self._marked_at = 0.0
        self._life: tuple[datetime | None, str] | None = None  # from one crash to the next
        self._unflushed: Moment | None = None  # of the oldest look that has given no position yet

    def expect_all(self) -> None:
        """Look until all that was written before now has been seen."""
        self.has_seen_all, self._all_below, self._mark = False, None, None

    async def look(self) -> AsyncGenerator[Changed | Reached, None]:
        """Yield what is news, and the position when all pages have been read."""
        began_at = time.monotonic()
        began = await self._store.moment()
        self._enter(began)
        if (reached := self._reach_flushed(began)) is not None:
            yield reached
        after: str | None = ""
        while after is not None:
            # Another status is of interest only where ours has been told.
            rows, after = await self._store.written_page(
                self._namespace,
                since=self._since,
                status=self._status if self.is_first else None,
                after=after,
                size=_PAGE,
            )
            for row in rows:
                if (found := self._news.of(row)) is not None:
                    yield found
                    self.has_news = True
        for found in await self._gone():
            yield found
            self.has_news = True
        self.is_first, self.rest = False, _REST * (time.monotonic() - began_at)
        if self._all_below is None:
            self._all_below = began.xmax
        self.has_seen_all = began.xmin >= self._all_below
        self._unflushed = self._unflushed or began
        if self.has_news and self._unflushed.lsn > began.flushed:
            began = await self._store.moment()
        if (reached := self._reach_flushed(began)) is not None:
            yield reached

    async def reached(self) -> int:
        """Return a position in the log that is behind all that looks have seen."""
        return (await self._store.moment()).lsn

    async def moved(self, lsn: int) -> Reached | None:
        """Return the position that follows from a stream that has told all up to *lsn*."""
        if not self.has_news or not self.has_seen_all:
            return None
        if self._mark is None and time.monotonic() > self._marked_at + lookout.POLL_SECONDS:
            self._mark, self._marked_at = await self._store.moment(), time.monotonic()
        if self._mark is None or lsn < self._mark.lsn or self._mark.history != self._history:
            return None
        mark, self._mark = self._mark, None
        return self._reach(mark)

    def _enter(self, began: Moment) -> None:
        """Begin anew in another history, look at all behind a crash: xids are given again."""
        if self._history not in {None, began.history}:
            log.warning(
                "position_of_another_history",
                namespace=self._namespace,
                history=began.history,
                position=f"{self._since}@{self._history}",
                hint="the database was restored, recovered or promoted; all is told again",
            )
            self._news.tell_all_again()
        if self._life != (began.counted_since, began.history):
            self._life = began.counted_since, began.history
            self._since, self._unflushed = self._news.start, None
            self.has_news = True  # the last position that was told is none any more
        if self._since > began.xmax:
            msg = f"position {self._since} is of another database: this one is at {began.xmax}"
            raise InvalidArgument(msg)
        self._history = began.history

    def _reach_flushed(self, now: Moment) -> Reached | None:
        """Return the position of the oldest look without one, if no crash takes back what it saw.

        Such a crash gives the xids below that position again, to what would never be told.
        """
        if (seen := self._unflushed) is None or seen.lsn > now.flushed:
            return None
        if (seen.counted_since, seen.history) != (now.counted_since, now.history):
            return None
        self._unflushed = None
        return self._reach(seen)

    def _reach(self, moment: Moment) -> Reached | None:
        is_news = self.has_news and moment.xmin >= self._since
        self._since = max(self._since, moment.xmin)
        if not is_news:
            return None
        self.has_news = False
        return Reached(str(Position(self._since, moment.history)))

    async def _gone(self) -> list[Changed]:
        told = [*self._news.told]
        gone: list[Changed | None] = []
        for first in range(0, len(told), _PAGE):
            missing = await self._store.missing(self._namespace, told[first : first + _PAGE])
            gone += [self._news.gone(process_id) for process_id in sorted(missing)]
        return [found for found in gone if found is not None]
