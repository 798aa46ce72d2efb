"""One stream for all who listen in a program: one replication slot and one walsender."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pgprog.replication.feed import follow
from pgprog.replication.messages import (
    Connected,
    Delete,
    Insert,
    Lost,
    Progress,
    Relation,
    Transaction,
    Truncate,
    Update,
)
from pgprog.replication.published import Published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pgprog.replication.messages import Change, FeedEvent, Row


class Feed:
    """Follows what its listeners want, together; nothing is opened before something is wanted.

    A listener is a function that takes what `follow` yields, of its own tables only, with rows of
    its own columns.  It is called in the loop and waits for nothing, so that none can hold up
    another by a pause.  Of a table that others listen to, too, it hears whatever any of their
    publications publishes.
    """

    def __init__(self, dsn: str, *, name: str, reconnect: timedelta = timedelta(seconds=5)) -> None:
        self._dsn = dsn
        self._name = name
        self._reconnect = reconnect
        self._published = Published((), {})
        self._listeners: list[_Listener] = []
        self._is_wanted = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._connected: Connected | None = None  # as it would be now

    def expect(self, published: Published) -> None:
        """Follow *published*, too; a stream that is open without it is opened anew."""
        before, self._published = self._published, self._published.joined(published)
        self._is_wanted.set()
        if before != self._published:
            self.reopen()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has wanted something."""
        return self._is_wanted.is_set()

    @contextmanager
    def told_to(self, published: Published, hear: Callable[[FeedEvent], None]) -> Iterator[None]:
        """Have *hear* told of *published* for as long as the block lasts.

        Where the stream is open already, it begins for this listener here and now: with
        `Connected`, at the position up to which others have been told.  All that it is not told is
        below an xid that is taken from now on.
        """
        self.expect(published)
        listener = _Listener(published.columns, hear)
        self._listeners.append(listener)
        try:
            if self._connected is not None:
                listener.hear(self._connected)
            yield
        finally:
            self._listeners.remove(listener)

    def reopen(self) -> None:
        """Give up the stream, if one is open, and open another, which looks at everything first."""
        self._connected = None
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Follow until cancelled.  Warnings say why that is not possible.

        Raises:
            ConfigError: The DSN cannot be read.
        """
        if not self.is_wanted:
            self._is_wanted = asyncio.Event()  # of this loop; before it was another, perhaps
        await self._is_wanted.wait()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._following = tasks.create_task(self._follow())
                await asyncio.wait([self._following])

    async def _follow(self) -> None:
        events = follow(self._dsn, self._published, name=self._name, reconnect=self._reconnect)
        async with aclosing(events):
            async for event in events:
                self._tell(event)

    def _tell(self, event: FeedEvent) -> None:
        if type(event) is Connected:
            self._connected = event
        elif type(event) is Lost:
            self._connected = None
        for listener in [*self._listeners]:
            listener.hear(event)
        if self._connected is not None and type(event) is not Connected:
            self._connected = replace(self._connected, lsn=_end_of(event, self._connected.lsn))


class _Listener:
    """Takes out of what is told what one listener wants."""

    def __init__(
        self, columns: Mapping[str, Sequence[str]], hear: Callable[[FeedEvent], None]
    ) -> None:
        self._columns = columns
        self._hear = hear
        # By a table's oid: how its rows are for us, None if they are not.
        self._views: dict[int, _View | None] = {}

    def hear(self, event: FeedEvent) -> None:
        """Pass it on."""
        if type(event) is Connected:
            self._views.clear()
        elif type(event) is Transaction:
            changes = [own for each in event.changes if (own := self._own(each)) is not None]
            if not changes:
                self._hear(Progress(event.end_lsn))
                return
            event = replace(event, changes=tuple(changes))
        self._hear(event)

    def _own(self, change: Change) -> Change | None:
        if type(change) is Truncate:
            mine = tuple(each for each in change.relations if self._view(each) is not None)
            return Truncate(mine) if mine else None
        view = self._view(change.relation)
        return None if view is None else view.of(change)

    def _view(self, relation: Relation) -> _View | None:
        try:
            return self._views[relation.oid]
        except KeyError:
            wanted = self._columns.get(f"{relation.schema}.{relation.name}")
            view = None if wanted is None else _View(relation, wanted)
            return self._views.setdefault(relation.oid, view)


class _View:
    """Gives rows of a table the columns that one listener wants, in its order."""

    def __init__(self, relation: Relation, wanted: Sequence[str]) -> None:
        present = [column.name for column in relation.columns]
        self._places = tuple(present.index(name) for name in wanted)
        self._is_whole = self._places == tuple(range(len(present)))

    def of(self, change: Change) -> Change:
        """Return the change as it is for the listener."""
        if self._is_whole or type(change) is Truncate:
            return change
        relation = self._narrow(change.relation)
        if type(change) is Insert:
            return Insert(relation, self._row(change.new))
        if type(change) is Update:
            old = None if change.old is None else self._row(change.old)
            return Update(relation, old, self._row(change.new))
        if type(change) is Delete:
            return Delete(relation, self._row(change.old))
        return replace(change, relation=relation)

    def _row(self, row: Row) -> Row:
        return tuple(row[place] for place in self._places)

    def _narrow(self, relation: Relation) -> Relation:
        return replace(relation, columns=tuple(relation.columns[p] for p in self._places))


def _end_of(event: FeedEvent, before: int) -> int:
    """Return the position up to which everything has been told after an event."""
    if type(event) is Progress:
        return event.lsn
    return before if isinstance(event, Connected | Lost) else event.end_lsn
