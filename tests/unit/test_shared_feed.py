"""One stream for all who listen in a program: each hears of its own tables, in its own columns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.errors import ReplicationLost
from pgprog.replication.messages import (
    Column,
    Connected,
    Delete,
    FeedEvent,
    Insert,
    Lost,
    Oversized,
    Progress,
    Relation,
    Transaction,
    Truncate,
    Update,
)
from pgprog.replication.published import Published
from pgprog.replication.shared import Feed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

CONNECTED = Connected("slot", "5:5:", "f", ("notes",), "1", 100)
NOTES = Published(
    ("notes",), {"public.notes": ("id", "name")}, {"public.notes": ("insert", "update")}
)
NAMES = Published(("names", "more"), {"public.notes": ("name",), "public.more": ("id",)})


def _table(oid: int, name: str, *columns: str) -> Relation:
    return Relation(oid, "public", name, tuple(Column(each, 25, -1, False) for each in columns))


NOTE, MORE = _table(1, "notes", "id", "name"), _table(2, "more", "id")


def _told(lsn: int, *changes: Any) -> Transaction:
    return Transaction(lsn, lsn, 0, changes, 10)


class Server:
    """Stands in for `follow`: one stream for each that is opened, each told by hand."""

    def __init__(self) -> None:
        self.opened: list[Published] = []
        self.closed = 0
        self._events: asyncio.Queue[FeedEvent] = asyncio.Queue()

    async def follow(
        self, _dsn: str, published: Published, **_: Any
    ) -> AsyncGenerator[FeedEvent, None]:
        self.opened.append(published)
        try:
            yield CONNECTED
            while True:
                yield await self._events.get()
        finally:
            self.closed += 1

    async def tell(self, *events: FeedEvent) -> None:
        """Tell, and wait until all has been heard."""
        for event in events:
            self._events.put_nowait(event)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr("pgprog.replication.shared.follow", server.follow)
    return server


@pytest.fixture
async def feed(server: Server) -> AsyncIterator[Feed]:
    feed = Feed("", name="test")
    running = asyncio.create_task(feed.run())
    yield feed
    running.cancel()
    await asyncio.wait([running])
    assert server.closed == len(server.opened)


async def test_what_all_want_is_followed_together(server: Server, feed: Feed) -> None:
    with feed.told_to(NOTES, lambda _: None), feed.told_to(NAMES, lambda _: None):
        await server.tell()

    columns = {"public.notes": ("id", "name"), "public.more": ("id",)}
    whole = {"public.notes": ("insert", "update")}
    assert server.opened == [(("notes", "names", "more"), columns, whole)]


async def test_nothing_is_opened_for_nobody(server: Server, feed: Feed) -> None:
    await server.tell()

    assert server.opened == []


async def test_each_hears_of_its_own_tables_in_its_own_columns(server: Server, feed: Feed) -> None:
    notes: list[FeedEvent] = []
    names: list[FeedEvent] = []
    with feed.told_to(NOTES, notes.append), feed.told_to(NAMES, names.append):
        inserted, elsewhere = Insert(NOTE, (1, "a")), Insert(MORE, (7,))
        changed, deleted = Update(NOTE, (1, None), (2, "b")), Delete(NOTE, (2, None))
        await server.tell(
            _told(110, inserted, elsewhere), _told(120, changed, deleted, Truncate((NOTE, MORE)))
        )

    narrow = _table(1, "notes", "name")
    assert notes == [
        CONNECTED,
        _told(110, inserted),
        _told(120, changed, deleted, Truncate((NOTE,))),
    ]
    assert names == [
        CONNECTED,
        _told(110, Insert(narrow, ("a",)), elsewhere),
        _told(
            120,
            Update(narrow, (None,), ("b",)),
            Delete(narrow, (None,)),
            Truncate((NOTE, MORE)),
        ),
    ]


async def test_a_transaction_on_tables_of_others_is_progress(server: Server, feed: Feed) -> None:
    heard: list[FeedEvent] = []
    with feed.told_to(NOTES, heard.append), feed.told_to(NAMES, lambda _: None):
        await server.tell(_told(110, Insert(MORE, (7,))), _told(120, Truncate((MORE,))))

    assert heard == [CONNECTED, Progress(110), Progress(120)]


@pytest.mark.parametrize(
    "event", [_told(110, Insert(NOTE, (1, "a"))), Progress(110), Oversized(9, 110, 1 << 30)]
)
async def test_the_stream_begins_for_one_who_comes_later_where_the_others_are(
    server: Server, feed: Feed, event: FeedEvent
) -> None:
    heard: list[FeedEvent] = []
    with feed.told_to(NOTES, lambda _: None):
        await server.tell(event)
        with feed.told_to(NOTES, heard.append):
            await server.tell(Progress(120))
        await server.tell(Progress(130))

    assert [(type(each), getattr(each, "lsn", 0)) for each in heard] == [
        (Connected, 110),
        (Progress, 120),
    ]
    assert len(server.opened) == 1


async def test_one_who_comes_while_the_stream_is_lost_is_told_when_there_is_one(
    server: Server, feed: Feed
) -> None:
    heard: list[FeedEvent] = []
    with feed.told_to(NOTES, lambda _: None):
        await server.tell(Lost(ReplicationLost("gone")))
        with feed.told_to(NOTES, heard.append):
            await server.tell()
            assert heard == []
            await server.tell(CONNECTED)

    assert heard == [CONNECTED]


async def test_one_who_wants_more_has_the_stream_opened_anew(server: Server, feed: Feed) -> None:
    heard: list[FeedEvent] = []
    with feed.told_to(NOTES, heard.append):
        await server.tell()
        with feed.told_to(NAMES, lambda _: None):
            await server.tell()

    assert heard == [CONNECTED, CONNECTED]
    assert server.closed == 1


async def test_a_listener_may_have_the_stream_opened_anew_for_all(
    server: Server, feed: Feed
) -> None:
    first: list[FeedEvent] = []
    second: list[FeedEvent] = []
    with feed.told_to(NOTES, first.append), feed.told_to(NOTES, second.append):
        await server.tell()
        feed.reopen()
        await server.tell()

    assert first == second == [CONNECTED, CONNECTED]
    assert server.closed == 1
