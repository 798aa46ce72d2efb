"""When a reader trusts its stream: it and the beats are of one server, and of one set of rules."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import until_on_loop

from pgprog.cache import reader as reading
from pgprog.cache.fence import Cache
from pgprog.cache.reader import Reader
from pgprog.cache.shelves import Shelf
from pgprog.client.cache_figures import cache_samples
from pgprog.errors import ReplicationLost
from pgprog.replication.messages import (
    Connected,
    Delete,
    Lost,
    Oversized,
    Relation,
    Transaction,
    Update,
)
from pgprog.store.beats import Beat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PUBLICATIONS = ("pgprog_processes", "pgprog_events")
CONNECTED = Connected("slot", "5:5:", "as opened", PUBLICATIONS, "here", 100)
BEAT = Beat(100, "7:7:", "as opened", [], False, False, "here")


class Answers:
    """Stands in for `Beats`: answers *beat*, and notes what it was asked."""

    def __init__(self) -> None:
        self.beat_now = BEAT
        self.asked: list[tuple[str, ...]] = []
        self.reconnects = 0
        self.xids_taken_at: list[str] = []

    async def take_xid(self) -> str:
        return self.xids_taken_at.pop(0) if self.xids_taken_at else self.beat_now.server

    async def beat(self, publications: Sequence[str]) -> Beat:
        self.asked.append((*publications,))
        return self.beat_now

    async def reconnect(self) -> None:
        self.reconnects += 1


class Stage:
    """A reader, and what it does."""

    def __init__(self) -> None:
        self.cache = Cache({"orders": Shelf(ttl=60.0, max_bytes=1 << 20, max_lag=1.0)})
        self.beats = Answers()
        self.opened = 0
        fake: Any = self.beats
        self.reader = Reader(self.cache, fake, reopen=self._reopen)

    def _reopen(self) -> None:
        self.opened += 1

    def figures(self) -> set[str]:
        """Return the names of what metrics show."""
        samples = cache_samples(self.cache, counts={}, connections=1, began_at=0.0)
        return {each.name for each in samples}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reader.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(reading, "_BEAT_SECONDS", 0.005)
    monkeypatch.setattr(reading, "_APART_SECONDS", 0.0)
    return Stage()


async def test_a_stream_is_trusted_where_beats_say_what_was_so_when_it_was_opened(
    stage: Stage,
) -> None:
    async with stage.running():
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.cache.lease.as_of > 0)

    assert stage.opened == 0
    assert {*stage.beats.asked} == {PUBLICATIONS}


async def test_13_publications_altered_before_the_first_beat_have_the_stream_opened_anew(
    stage: Stage,
) -> None:
    stage.beats.beat_now = BEAT._replace(fingerprint="altered")
    async with stage.running():
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.opened or stage.cache.is_warm)

    assert (stage.opened, stage.cache.is_warm) == (1, False)


async def test_13_publications_altered_beside_a_transaction_that_empties_the_cache_are_noticed(
    stage: Stage,
) -> None:
    async with stage.running():
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.cache.is_warm)
        stage.beats.beat_now = BEAT._replace(fingerprint="altered")
        stage.reader.hear(Oversized(9, 200, 1 << 30))
        await until_on_loop(lambda: stage.opened or stage.cache.is_warm)

    assert (stage.opened, stage.cache.is_warm) == (1, False)


@pytest.mark.parametrize("elsewhere", [{"server": "there"}, {"in_recovery": True}])
async def test_beats_of_another_server_than_the_stream_have_both_connect_anew(
    stage: Stage, elsewhere: dict[str, Any]
) -> None:
    stage.beats.beat_now = BEAT._replace(**elsewhere)
    async with stage.running():
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.beats.reconnects or stage.cache.is_warm)
        was_warm = stage.cache.is_warm
        stage.beats.beat_now = BEAT
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.cache.is_warm)

    assert (was_warm, stage.opened, stage.beats.reconnects) == (False, 1, 1)


async def test_a_transaction_id_of_another_server_is_no_beginning(stage: Stage) -> None:
    stage.beats.xids_taken_at = ["there", "there"]
    async with stage.running():
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.cache.is_warm)

    assert len(stage.beats.asked) > 2
    assert stage.beats.xids_taken_at == []


async def test_how_far_a_stream_is_behind_is_not_told_while_there_is_none(stage: Stage) -> None:
    async with stage.running():
        before = stage.figures()
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.cache.lease.as_of > 0)
        meanwhile = stage.figures()
        stage.reader.hear(Lost(ReplicationLost("gone")))
        after = stage.figures()

    assert "pgprog_replication_lag_bytes" in meanwhile
    assert before == after == meanwhile - {"pgprog_replication_lag_bytes"}


# Under a replica identity that is not the primary key.
NAMELESS = (None, None, 5)
ROWS = {
    "processes": ("orders", "o-1", 6, *[None] * 11),
    "timers": (6, "expiry", "orders", "o-1", None),
}


@pytest.mark.parametrize("table", ["processes", "timers"])
@pytest.mark.parametrize("kind", ["delete", "update"])
async def test_a_change_that_does_not_name_its_row_empties_the_cache(
    stage: Stage, table: str, kind: str
) -> None:
    relation, row = Relation(1, "pgprog_data", table, ()), ROWS[table]
    change = Delete(relation, NAMELESS) if kind == "delete" else Update(relation, NAMELESS, row)
    async with stage.running():
        stage.reader.hear(CONNECTED)
        await until_on_loop(lambda: stage.cache.is_warm)
        stage.reader.hear(Transaction(6, 110, 0, (change,), 10))
        is_warm = stage.cache.is_warm

    assert not is_warm
