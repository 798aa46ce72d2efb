"""Following a filter: each newest version is seen, late commits too, by the stream or by looks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.server_wide import wait_ended
from tests.integration.streams import END_STREAMS

from pgprog import AsyncClient, Changed, Client, Reached
from pgprog.client import following, lookout
from pgprog.client.changes import News, Position
from pgprog.errors import InvalidArgument, StoreUnavailable
from pgprog.store.changes import Changes, Moment, WrittenProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    import psycopg

    Watched = AsyncGenerator[Changed | Reached, None]

# As a step or an init does: the version is drawn in the writing transaction.
_WRITE = """
insert into pgprog_data.processes as p (
  namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at)
values ('orders', %s, nextval('pgprog_data.task_ids'), %s, now(), nextval('pgprog_data.versions'),
  now(), now())
on conflict (namespace, process_id) do update
set status = excluded.status, version = excluded.version
returning version
"""
_PUBLICATION = Path(__file__).parents[2] / "sql/publication.sql"
_REMOVE = "delete from pgprog_data.processes where process_id = %s"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(following, "_REST", 0)


def _write(sql: psycopg.Connection[Any], process_id: str, status: str = "running") -> int:
    [[version]] = sql.execute(_WRITE, (process_id, status)).fetchall()
    return int(version)


@contextlib.contextmanager
def _no_publication(sql: psycopg.Connection[Any]) -> Iterator[None]:
    sql.execute("drop publication pgprog_processes")
    try:
        yield
    finally:
        sql.execute(_PUBLICATION.read_bytes())


async def _next(watched: Watched) -> Changed:
    """Return what changes next."""
    async with asyncio.timeout(30):
        while isinstance(found := await anext(watched), Reached):
            pass
    return found


async def _reached(watched: Watched) -> tuple[list[str], str]:
    """Return the processes up to the next position, and that."""
    ids = []
    async with asyncio.timeout(30):
        while isinstance(found := await anext(watched), Changed):
            ids.append(found.process_id)
    return ids, found.position


def _told(found: Changed) -> tuple[str, str, str, int]:
    return found.what, found.process_id, found.status, found.version


async def _open(client: AsyncClient, watched: Watched, sql: psycopg.Connection[Any]) -> None:
    """Begin with a process, and wait for the stream and for the look that it brings."""
    _write(sql, "opened")
    assert (await _next(watched)).process_id == "opened"
    async with asyncio.timeout(30):
        while client._feed._connected is None:
            await asyncio.sleep(0.01)
    _write(sql, "streamed")
    assert (await _next(watched)).process_id == "streamed"


@pytest.mark.parametrize("wakeups", ["poll", "stream"])
async def test_a_filter_is_followed_into_it_out_of_it_and_through_removal(
    db: str, sql: psycopg.Connection[Any], wakeups: Any
) -> None:
    first = _write(sql, "o-1", "error")
    _write(sql, "o-2")
    async with AsyncClient(db, wakeups=wakeups) as client:
        watched = client.watch_all("orders", status="error")
        found = [await _next(watched)]
        second = _write(sql, "o-2", "error")
        found.append(await _next(watched))
        third = _write(sql, "o-1")
        found.append(await _next(watched))
        sql.execute(_REMOVE, ("o-2",))
        found.append(await _next(watched))
        await watched.aclose()

    assert [*map(_told, found)] == [
        ("changed", "o-1", "error", first),
        ("changed", "o-2", "error", second),
        ("left", "o-1", "running", third),
        ("removed", "o-2", "error", second),
    ]


@pytest.mark.parametrize("wakeups", ["poll", "stream"])
async def test_who_goes_on_from_a_position_is_told_of_a_late_commit_with_a_lower_version(
    db: str, sql: psycopg.Connection[Any], session: Any, wakeups: Any
) -> None:
    async with AsyncClient(db, wakeups=wakeups) as client:
        _write(sql, "before")
        await asyncio.to_thread(wait_ended, sql)
        late = session()
        with late.transaction():
            lower = _write(late, "late")
            higher = _write(sql, "early")
            watched = client.watch_all("orders")
            ids, position = await _reached(watched)
            await watched.aclose()
        again = client.watch_all("orders", position=position)
        found, _ = await _reached(again)
        await again.aclose()

    assert lower < higher
    assert ids == ["before", "early"]
    assert found == ["early", "late"]


@pytest.mark.parametrize("wakeups", ["poll", "stream"])
async def test_who_is_there_sees_a_late_commit_with_a_lower_version(
    db: str, sql: psycopg.Connection[Any], session: Any, wakeups: Any
) -> None:
    async with AsyncClient(db, wakeups=wakeups) as client:
        late = session()
        watched = client.watch_all("orders")
        with late.transaction():
            lower = _write(late, "late")
            higher = _write(sql, "early")
            first = await _next(watched)
        second = await _next(watched)
        await watched.aclose()

    assert [(each.process_id, each.version) for each in (first, second)] == [
        ("early", higher),
        ("late", lower),
    ]


async def test_a_position_of_the_stream_grows_and_what_is_before_it_does_not_come_again(
    db: str, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient(db, wakeups="stream") as client:
        watched = client.watch_all("orders")
        await _open(client, watched, sql)
        _, position = await _reached(watched)
        for number in range(3):
            await asyncio.to_thread(wait_ended, sql)
            _write(sql, f"o-{number}")
            _, grown = await _reached(watched)
            assert Position.parse(grown).xid > Position.parse(position).xid
            position = grown
        await asyncio.to_thread(wait_ended, sql)
        _write(sql, "o-8")
        _, position = await _reached(watched)
        await watched.aclose()
        _write(sql, "o-9")
        again = client.watch_all("orders", position=position)
        found, _ = await _reached(again)
        await again.aclose()

    assert found in (["o-9"], ["o-8", "o-9"])  # what ran beside o-8 may hold its position back


async def test_the_stream_tells_of_a_commit_without_a_look(
    db: str, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient(db, wakeups="stream") as client:
        watched = client.watch_all("orders")
        await _open(client, watched, sql)
        look, looks = client._store.written_page, [0]

        async def counted(*args: Any, **options: Any) -> Any:
            looks.append(len(looks))
            return await look(*args, **options)

        monkeypatch.setattr(client._store, "written_page", counted)
        number = 0
        async with asyncio.timeout(30):
            while looks:  # for as long as transactions of when it was opened run on the server
                looks.clear()
                number += 1
                version = _write(sql, f"o-{number}")
                assert (await _next(watched)).version == version
        await watched.aclose()


async def test_what_is_written_while_there_is_no_stream_is_seen(
    db: str, sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(db, wakeups="stream") as client:
        watched = client.watch_all("orders")
        await _open(client, watched, sql)
        await _reached(watched)
        with _no_publication(sql):  # so that it does not come back
            async with asyncio.timeout(30):
                while client._feed._connected is not None:
                    sql.execute(END_STREAMS)
                    await asyncio.sleep(0.01)
            _write(sql, "o-1")
            sql.execute(_REMOVE, ("opened",))
            told = [await _next(watched), await _next(watched)]
        await watched.aclose()

    assert {(each.what, each.process_id) for each in told} == {
        ("changed", "o-1"),
        ("removed", "opened"),
    }


async def test_a_refused_stream_is_one_warning_and_it_goes_on_by_looking(
    db: str, sql: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with _no_publication(sql):
        async with AsyncClient(db, wakeups="stream") as client:
            watched = client.watch_all("orders")
            for number in range(3):
                version = _write(sql, f"o-{number}")
                assert (await _next(watched)).version == version
            await watched.aclose()
    warned = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warned) <= 1


async def test_pages_are_gone_through_to_their_end(
    db: str, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_PAGE", 3)
    written = [f"o-{number}" for number in range(9)]
    for process_id in written:
        _write(sql, process_id)
    async with AsyncClient(db) as client:
        watched = client.watch_all("orders")
        ids, _ = await _reached(watched)
        sql.execute(_REMOVE, ("o-8",))
        removed = await _next(watched)
        await watched.aclose()

    assert ids == written
    assert (removed.what, removed.process_id) == ("removed", "o-8")


async def test_what_cannot_be_watched_is_told(db: str, sql: psycopg.Connection[Any]) -> None:
    async with AsyncClient(db) as client:
        for position in ("7", "7@1", f"7@{'F' * 9}.1", "-7@1.1"):
            with pytest.raises(InvalidArgument, match=r"XID@TIMELINE\.CLUSTER"):
                await anext(client.watch_all("orders", position=position))
        with pytest.raises(InvalidArgument, match="no status lost"):
            await anext(client.watch_all("orders", status="lost"))
        _write(sql, "o-1")
        watched = client.watch_all("orders")
        _, position = await _reached(watched)
        later = Position.parse(position)._replace(xid=1 << 59)
        with pytest.raises(InvalidArgument, match="another database"):
            await anext(client.watch_all("orders", position=str(later)))
        following = asyncio.create_task(anext(watched))
    with pytest.raises(StoreUnavailable, match="closed"):
        await following
    with contextlib.suppress(StopAsyncIteration):
        await anext(watched)


def test_a_blocking_client_follows_a_filter_too(db: str, sql: psycopg.Connection[Any]) -> None:
    version = _write(sql, "o-1")
    with Client(db) as client:
        for found in client.watch_all("orders", status="running"):
            assert isinstance(found, Changed)
            assert found.version == version
            break


class _Store(Changes):
    """Has the rows of each look, none if they are not given, and one moment after another."""

    def __init__(self, moments: list[Moment], rows: Sequence[list[WrittenProcess]] = ()) -> None:
        self.sinces: list[int] = []  # of the pages that were read
        self._moments, self._pages = iter(moments), iter(rows)

    async def moment(self) -> Moment:
        return next(self._moments)

    async def written_page(
        self, *_: object, since: int, **__: object
    ) -> tuple[list[WrittenProcess], str | None]:
        self.sinces.append(since)
        return [row for row in next(self._pages, []) if row.xid >= since], None

    async def missing(self, *_: object) -> set[str]:
        return set()

    async def _rows(self, *_: object) -> list[dict[str, Any]]:
        raise NotImplementedError


def _row(process_id: str, *, version: int, xid: int) -> WrittenProcess:
    return WrittenProcess(process_id, 1, version, "running", datetime.now(UTC), None, xid)


def _moment(
    xmin: int,
    xmax: int,
    *,
    lsn: int = 0,
    flushed: int = 0,
    life: int = 0,
    history: str = "1.7",
) -> Moment:
    return Moment(xmin, xmax, lsn, flushed, datetime.fromtimestamp(life, UTC), history)


async def _looked(looks: following._Looks) -> list[str]:
    """Return the positions that a look gives."""
    return [found.position async for found in looks.look() if isinstance(found, Reached)]


def _looks(store: _Store) -> following._Looks:
    news = News(status=None, since=0)
    return following._Looks(store, "orders", news, status=None, position=None)


async def test_it_looks_until_all_that_ran_when_the_stream_began_has_ended() -> None:
    looks = _looks(_Store([_moment(5, 9), _moment(8, 12), _moment(9, 12)]))
    looks.expect_all()
    seen = []
    for _ in range(3):
        await _looked(looks)
        seen.append(looks.has_seen_all)

    assert seen == [False, False, True]


async def test_no_position_is_told_that_a_crash_of_the_server_could_take_back() -> None:
    moments = [
        _moment(7, 9, lsn=20, flushed=10),
        _moment(8, 9, lsn=30, flushed=15),
        _moment(9, 9, lsn=40, flushed=20),
    ]
    looks = _looks(_Store(moments, [[_row("o-1", version=1, xid=6)]]))
    positions = [await _looked(looks) for _ in range(2)]  # each asks once more where it must

    assert positions == [[], ["7@1.7"]]


@pytest.mark.parametrize(("life", "history"), [(1, "1.7"), (0, "2.7")])
async def test_after_a_crash_or_a_recovery_what_was_seen_before_it_gives_no_position(
    life: int, history: str
) -> None:
    moments = [
        _moment(9, 9, lsn=20, flushed=10),
        _moment(7, 7, lsn=30, flushed=30, life=life, history=history),  # its xids come again
        _moment(7, 7, lsn=30, flushed=30, life=life, history=history),
    ]
    rows = [[_row("o-1", version=1, xid=6)], [_row("o-1", version=2, xid=6)]]
    looks = _looks(_Store(moments, rows))
    positions = [await _looked(looks) for _ in range(2)]

    assert positions == [[], [f"7@{history}"]]


async def test_behind_a_crash_that_took_xids_back_it_looks_at_everything_and_goes_on() -> None:
    moments = [_moment(50, 50), _moment(40, 40, life=1), _moment(41, 41, life=1)]
    store = _Store(moments, [[_row("o-1", version=1, xid=6)]])
    news = News(status=None, since=5)
    position = Position(5, "1.7")
    looks = following._Looks(store, "orders", news, status=None, position=position)
    positions = [await _looked(looks) for _ in range(3)]

    assert positions == [["50@1.7"], ["40@1.7"], []]
    assert store.sinces == [5, 5, 40]


async def test_a_position_of_another_history_begins_anew_and_one_of_this_goes_on() -> None:
    rows = [_row("o-1", version=5, xid=500), _row("o-2", version=6, xid=1500)]
    told = {}
    for history in ("1.7", "2.7", "1.8"):
        store = _Store([_moment(2000, 2000)], [rows])
        position = Position(1000, history)
        found = following.follow_all(store, None, "orders", status=None, position=position)
        told[history] = await _reached(found)
        await found.aclose()

    anew = (["o-1", "o-2"], "2000@1.7")
    assert told == {"1.7": (["o-2"], "2000@1.7"), "2.7": anew, "1.8": anew}


async def test_who_follows_through_a_recovery_is_told_what_processes_are_since() -> None:
    before, after = _moment(2000, 2000), _moment(2100, 2100, history="2.7")
    went_back, written = _row("o-1", version=4, xid=500), _row("o-2", version=5, xid=1990)
    store = _Store([before, after], [[_row("o-1", version=5, xid=1900)], [went_back, written]])
    watched = following.follow_all(store, None, "orders", status=None, position=None)
    first, position = await _reached(watched)
    seen, again = await _reached(watched)
    await watched.aclose()

    assert (first, position) == (["o-1"], "2000@1.7")
    assert (seen, again) == (["o-1", "o-2"], "2100@2.7")


async def test_a_stream_that_has_told_all_gives_no_position_in_a_history_it_did_not_tell() -> None:
    moments = [_moment(5, 5), _moment(9, 9, history="2.7")]
    looks = _looks(_Store(moments, [[_row("o-1", version=1, xid=3)]]))
    told = [found async for found in looks.look()]
    looks.has_news = True

    assert [type(each) for each in told] == [Changed, Reached]
    assert await looks.moved(lsn=10) is None
