"""A slow count of what metrics show says nothing about whether the database lives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.waiting import until_on_loop

from pgprog.errors import StoreUnavailable
from pgprog.store import gauges
from pgprog.store.faults import RolledBack
from pgprog.store.gauges import Gauges

NEVER = 0.05  # seconds: patience for what does not come
HEALTH = json.dumps({"components": []}).encode()


class Database:
    """Answers at once; counts only while *counts* is set, and is heard while *lives* is."""

    def __init__(self) -> None:
        self.age = 7.0
        self.begun = 0
        self.failure: Exception | None = None  # of a count
        self.refusal: Exception | None = None  # of all else
        self.counts = asyncio.Event()
        self.lives = asyncio.Event()
        self.lives.set()
        self.counts.set()

    def lane(self, dsn: str, *, name: str) -> Lane:
        return Lane(self)


class Lane:
    """One round trip at a time, as a connection carries them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()

    async def fetch(self, statement: str) -> list[Any]:
        database = self._database
        async with self._lock:
            if "select 1" in statement:
                await database.lives.wait()
                if database.refusal is not None:
                    raise database.refusal
                return [(1,)]
            if "health" in statement:
                return [(HEALTH,)]
            database.begun += 1
            await database.counts.wait()
            if database.failure is not None:
                raise database.failure
            return [("shop", 1, 0, 0, database.age, 0, 1, False)]

    async def close(self) -> None:
        pass


@pytest.fixture
async def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    """Nothing that it says is kept: each refresh looks again."""
    made = Database()
    monkeypatch.setattr(gauges, "Lane", made.lane)
    monkeypatch.setattr(gauges, "_KEEP_SECONDS", 0.0)
    monkeypatch.setattr(gauges, "_KEEP_FACTOR", 0)
    return made


def of(shown: Gauges, name: str) -> list[float]:
    return [sample.value for sample in shown.samples if sample.name == name]


def up(shown: Gauges) -> list[float]:
    return of(shown, "pgprog_database_up")


def age(shown: Gauges) -> list[float]:
    return of(shown, "pgprog_oldest_due_age_seconds")


async def test_while_a_slow_count_is_under_way_the_last_one_is_shown(database: Database) -> None:
    shown = Gauges("", name="test")
    await shown.refresh()
    database.age = 8.0
    database.counts.clear()
    for _ in range(3):
        await shown.refresh(patience=NEVER)
        assert (up(shown), age(shown), shown.components) == ([1], [7], [])
    begun = database.begun
    database.counts.set()
    await shown.refresh()

    assert begun == 2  # one count at a time
    assert age(shown) == [8]
    await shown.close()


async def test_while_the_first_count_is_under_way_the_database_is_up_and_nothing_else_is_told(
    database: Database,
) -> None:
    shown = Gauges("", name="test")
    database.counts.clear()
    await shown.refresh(patience=NEVER)

    assert [(sample.name, sample.value) for sample in shown.samples] == [("pgprog_database_up", 1)]
    assert shown.components == []
    await shown.close()


async def test_a_database_that_comes_is_shown_with_its_first_figures_to_all_who_look(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "_KEEP_SECONDS", 60.0)
    shown = Gauges("", name="test")
    database.counts.clear()
    looking = asyncio.create_task(shown.refresh(patience=20))
    await until_on_loop(lambda: database.begun)
    early = up(shown)
    other = asyncio.create_task(shown.refresh(patience=20))
    await asyncio.sleep(0)
    database.counts.set()
    await other
    beside = up(shown)
    await looking

    assert (early, beside) == ([0], [1])
    assert (up(shown), age(shown)) == ([1], [7])
    await shown.close()


async def test_a_database_that_falls_silent_in_a_slow_count_is_down(database: Database) -> None:
    shown = Gauges("", name="test")
    database.counts.clear()
    await shown.refresh(patience=NEVER)
    before = up(shown)
    database.lives.clear()
    await shown.refresh(patience=NEVER)
    [component] = shown.components
    silent = up(shown)
    database.lives.set()
    await shown.refresh(patience=NEVER)

    assert (before, silent, up(shown)) == ([1], [0], [1])
    assert (component.name, component.reason) == ("database", "the database does not answer")
    await shown.close()


async def test_a_database_that_refuses_connections_is_down_though_a_count_hangs_on_an_old_one(
    database: Database,
) -> None:
    shown = Gauges("", name="test")
    database.counts.clear()
    await shown.refresh(patience=NEVER)
    database.refusal = StoreUnavailable("connection refused")
    await shown.refresh(patience=NEVER)
    [component] = shown.components

    assert up(shown) == [0]
    assert component.reason == "connection refused"
    await shown.close()


async def test_a_count_that_is_cut_off_is_told_and_the_database_is_up(database: Database) -> None:
    shown = Gauges("", name="test")
    database.failure = RolledBack("canceling statement due to statement timeout")
    await shown.refresh()
    [component] = shown.components

    assert (up(shown), age(shown)) == ([1], [])
    assert component.name == "figures"
    assert component.reason == "canceling statement due to statement timeout"
    assert not component.is_needed
    await shown.close()


async def test_a_connection_that_is_lost_in_a_count_is_a_database_that_is_down(
    database: Database,
) -> None:
    shown = Gauges("", name="test")
    database.failure = StoreUnavailable("the connection is lost")
    await shown.refresh()
    [component] = shown.components

    assert up(shown) == [0]
    assert (component.name, component.reason) == ("database", "the connection is lost")
    await shown.close()


async def test_a_count_that_never_ends_leaves_its_figures_out_in_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Gauges("", name="test")
    await shown.refresh()
    database.counts.clear()
    await shown.refresh(patience=NEVER)
    kept = age(shown)
    monkeypatch.setattr(gauges, "_MOST_KEEP_SECONDS", -1.0)
    await shown.refresh(patience=NEVER)
    [component] = shown.components

    assert kept == [7]
    assert (up(shown), age(shown)) == ([1], [])
    assert component.name == "figures"
    assert component.reason.startswith("they have been counted for ")
    await shown.close()
