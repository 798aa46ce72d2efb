"""What who follows all processes of a namespace makes of a stream that does not tell all."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.client import following
from pgprog.client.changes import Changed, News, Reached
from pgprog.replication.messages import (
    Connected,
    Delete,
    Insert,
    Oversized,
    Progress,
    Relation,
    Transaction,
    Update,
)
from pgprog.store.changes import Changes, Moment, WrittenProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from pgprog.replication.messages import FeedEvent
    from pgprog.replication.shared import Feed

BEGINS = Connected("slot", "100:100:", "publications", ("pgprog_processes",), "7", 10)
AT = datetime(2026, 1, 1, tzinfo=UTC)
PROCESSES = Relation(1, "pgprog_data", "processes", ())


def _row(incarnation: int, version: int, status: str = "running") -> WrittenProcess:
    return WrittenProcess("o-1", incarnation, version, status, AT, None, 50)


def _inserted(incarnation: int, version: int, status: str = "running") -> Insert:
    return Insert(PROCESSES, ("orders", *_row(incarnation, version, status)[:-1]))


def _updated(incarnation: int, version: int, status: str = "running") -> Update:
    return Update(PROCESSES, None, ("orders", *_row(incarnation, version, status)[:-1]))


DELETED = Delete(PROCESSES, ("orders", "o-1", None, None, None, None, None))

# Told under another replica identity.
NAMELESS = Delete(PROCESSES, (None, None, 1, None, None, None, None))


class Server(Changes):
    """A feed and a store: what each look finds, and what the stream tells while it looks."""

    def __init__(self) -> None:
        self.rows: list[WrittenProcess] = []
        self.lsn = 20
        self.meanwhile: list[FeedEvent] = []
        self.looks = 0

    @contextlib.contextmanager
    def told_to(self, _: object, hear: Callable[[FeedEvent], None]) -> Iterator[None]:
        self._hear = hear
        hear(BEGINS)
        yield

    def tell(self, *changes: Any) -> None:
        """Tell a transaction, the next in the log."""
        self.lsn += 10
        self._hear(Transaction(7, self.lsn, 0, changes, 10))

    def say(self, event: FeedEvent) -> None:
        self._hear(event)

    async def moment(self) -> Moment:
        return Moment(100, 100, self.lsn, self.lsn, AT, "1.7")

    async def written_page(self, *_: Any, **__: Any) -> tuple[list[WrittenProcess], str | None]:
        self.looks += 1
        for event in self.meanwhile:
            self._hear(event)
        self.meanwhile = []
        return [*self.rows], None

    async def missing(self, _: str, process_ids: Any) -> set[str]:
        return {*process_ids} - {row.process_id for row in self.rows}

    async def _rows(self, *_: object) -> list[dict[str, Any]]:
        raise NotImplementedError


@pytest.fixture
def server() -> Server:
    return Server()


def _watched(server: Any, status: str | None = None) -> AsyncGenerator[Changed | Reached, None]:
    feed: Feed = server
    return following.follow_all(server, feed, "orders", status=status, position=None)


async def _next(watched: AsyncGenerator[Changed | Reached, None]) -> tuple[str, int, int]:
    async with asyncio.timeout(10):
        while isinstance(found := await anext(watched), Reached):
            pass
    return found.what, found.incarnation, found.version


async def _waiting(
    watched: AsyncGenerator[Changed | Reached, None],
) -> asyncio.Task[tuple[str, int, int]]:
    """Return who waits for what comes next, once nothing is left to be told."""
    return await _waited(asyncio.create_task(_next(watched)))


async def _waited(told: asyncio.Task[tuple[str, int, int]]) -> asyncio.Task[tuple[str, int, int]]:
    for _ in range(20):
        await asyncio.sleep(0)
    return told


@pytest.fixture
def ear() -> following._Ear:
    ear = following._Ear("orders")
    ear.hear(BEGINS)
    return ear


def test_what_was_before_a_stream_began_has_to_be_looked_for_once(ear: following._Ear) -> None:
    assert (ear.is_open, ear.is_whole, ear.told.is_set()) == (True, False, True)
    assert ear.needs_look()
    assert not ear.needs_look()
    assert ear.is_whole


def test_a_transaction_that_is_too_large_to_be_told_is_looked_for(ear: following._Ear) -> None:
    ear.needs_look()
    ear.hear(Progress(20))
    heard = ear.needs_look()
    ear.hear(Oversized(101, 30, 1 << 30))

    assert not heard
    assert ear.needs_look()


async def test_a_stream_that_is_behind_a_look_tells_nothing_of_the_incarnation_before(
    server: Server,
) -> None:
    server.rows = [_row(2, 9)]
    server.lsn = 40  # where the look is, the stream is at 10
    server.meanwhile = [
        Transaction(7, 20, 0, (_updated(1, 5),), 10),
        Transaction(8, 30, 0, (DELETED,), 10),
    ]
    watched = _watched(server)
    first = await _next(watched)
    told = await _waiting(watched)
    server.say(Transaction(9, 40, 0, (_inserted(2, 9),), 10))
    server.tell(_updated(2, 11))

    assert (first, await told) == (("changed", 2, 9), ("changed", 2, 11))
    await watched.aclose()


async def test_a_removal_that_a_look_may_have_seen_is_told_once_the_stream_has_come_as_far(
    server: Server,
) -> None:
    server.rows = [_row(2, 9)]
    server.lsn = 40
    server.meanwhile = [Transaction(8, 30, 0, (DELETED,), 10)]
    watched = _watched(server)
    first = await _next(watched)
    told = await _waiting(watched)
    server.say(Progress(39))
    told = await _waited(told)
    is_early = told.done()
    server.say(Progress(40))

    assert (first, is_early) == (("changed", 2, 9), False)
    assert await told == ("removed", 2, 9)
    await watched.aclose()


async def test_a_removal_behind_the_look_is_told_as_it_is_heard(server: Server) -> None:
    server.rows = [_row(2, 9)]
    watched = _watched(server)
    told = [await _next(watched)]
    waiting = await _waiting(watched)
    server.say(Progress(20))
    server.tell(_updated(2, 11))
    told.append(await waiting)
    waiting = await _waiting(watched)
    server.tell(DELETED, _inserted(3, 12))
    told += [await waiting, await _next(watched)]
    await watched.aclose()

    assert told == [("changed", 2, 9), ("changed", 2, 11), ("removed", 2, 11), ("changed", 3, 12)]


async def test_what_a_removal_may_have_been_of_is_looked_at_where_the_stream_does_not_tell(
    server: Server,
) -> None:
    server.rows = [_row(2, 9)]
    server.lsn = 40
    server.meanwhile = [Transaction(8, 20, 0, (DELETED,), 10), Oversized(9, 40, 1 << 30)]
    watched = _watched(server)
    told = [await _next(watched)]
    server.say(Progress(50))
    server.lsn = 50
    server.rows = [_row(2, 13)]
    told.append(await _next(watched))
    await watched.aclose()

    assert told == [("changed", 2, 9), ("changed", 2, 13)]


async def test_a_removal_that_does_not_name_its_process_is_looked_for(server: Server) -> None:
    server.rows = [_row(2, 9)]
    watched = _watched(server)
    told = [await _next(watched)]
    waiting = await _waiting(watched)
    server.rows = []
    server.tell(NAMELESS)
    told.append(await waiting)
    await watched.aclose()

    assert told == [("changed", 2, 9), ("removed", 2, 9)]


@pytest.mark.parametrize(("status", "what"), [(None, "removed"), ("error", "left")])
def test_what_has_left_does_not_come_back_as_it_was(status: str | None, what: str) -> None:
    news = News(status=status, since=0)
    assert news.of(_row(1, 5, "error"))
    left = news.gone("o-1") if status is None else news.of(_row(1, 6))
    stale = news.of(_row(1, 5, "error"))
    again = news.of(_row(2, 8, "error"))

    assert (left and left.what, stale) == (what, None)
    assert again == Changed("changed", *_row(2, 8, "error")[:-1])


def test_of_what_has_left_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgprog.client.changes._MOST_PAST", 2)
    news = News(status=None, since=0)
    rows = [_row(1, number)._replace(process_id=f"o-{number}") for number in range(3)]
    for row in rows:
        news.of(row)
        news.gone(row.process_id)

    assert [row.process_id for row in rows if news.of(row)] == ["o-0"]
