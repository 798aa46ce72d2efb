"""What is due starts within milliseconds, each way of hearing of it by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.conftest import QUICK
from tests.integration.streams import END_STREAMS, SLOTS

from pgprog import AsyncClient, Engine, Intent, Namespace, Step, migrate
from pgprog.embedded import EmbeddedPostgres
from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgprog.config import WorkerConfig
    from pgprog.model import Process

# Nothing is found by polling while a test runs.
PATIENT = replace(QUICK, poll_every=timedelta(hours=1))
STREAM = replace(PATIENT, wakeups="stream")


class Served:
    """Processes whose steps say that they ran, and what was waited for."""

    def __init__(self) -> None:
        self.ran: asyncio.Queue[str] = asyncio.Queue()
        self.client: AsyncClient | None = None
        self.namespace: Namespace[Any] = Namespace("orders")

        @self.namespace.init
        async def begin(step: Step[Any]) -> Intent[Any, str]:
            while self.client and not self.client._answers.is_awaited(step.task_id):
                await asyncio.sleep(0.001)  # an end that comes before its waiter is found by a poll
            return self._note(step)

        @self.namespace.notify
        async def tell(step: Step[Any]) -> Intent[Any, str]:
            return self._note(step)

        @self.namespace.timeout
        async def fire(step: Step[Any]) -> Intent[Any, str]:
            return self._note(step)

    def _note(self, step: Step[Any]) -> Intent[Any, str]:
        self.ran.put_nowait(step.type)
        return Intent(state=0, response="done")

    async def next(self) -> str:
        """Return the type of the next task that ran."""
        async with asyncio.timeout(20):
            return await self.ran.get()


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sends a hint to other programs."""
    monkeypatch.setattr(wakeups.Hints, "add", lambda *_: None)


async def _followed(sql: psycopg.Connection[Any], streams: int, listening: int) -> None:
    """Wait until so many streams are followed, and so many listen: what begins looks around."""
    query = (
        "select (select count(*) from pg_stat_replication as s"
        "   join pg_replication_slots as r on r.active_pid = s.pid"
        "   where r.database = current_database() and s.state = 'streaming'),"
        " (select count(*) from pg_stat_activity"
        "   where datname = current_database() and query ilike 'listen %')"
    )
    async with asyncio.timeout(20):
        while sql.execute(query).fetchone() != (streams, listening):
            await asyncio.sleep(0.01)


async def _idle(engine: Engine) -> None:
    """Wait until the scanner sleeps for an hour."""
    scanner = engine._worker._scanner
    async with asyncio.timeout(20):
        while scanner._sleeps_until < time.monotonic() + 60 or scanner._awake.is_set():
            await asyncio.sleep(0.01)


def _engine(dsn: str, served: Served, worker: WorkerConfig) -> Engine:
    return Engine(dsn, [served.namespace], worker=worker)


async def test_what_plain_sql_inserts_starts_by_the_stream_alone(
    db: str, served: Served, sql: psycopg.Connection[Any]
) -> None:
    async with _engine(db, served, STREAM) as engine:
        await _followed(sql, 1, 2)
        await _idle(engine)
        for number in range(5):
            sql.execute("select pgprog.init('orders', %s)", (f"o-{number}",))
            assert await served.next() == "init"
            await _idle(engine)


async def test_a_timer_that_plain_sql_sets_fires_by_the_stream_alone(
    db: str, served: Served, sql: psycopg.Connection[Any]
) -> None:
    put = (
        "select pgprog.put(jsonb_build_object('namespace', 'orders', 'process_id', 'o-1', 'status',"
        " 'running', 'state', 1, 'timers', jsonb_build_object("
        "   '', now() + interval '300 milliseconds')))"
    )
    async with _engine(db, served, STREAM) as engine:
        await _followed(sql, 1, 2)
        await _idle(engine)
        sql.execute(put)
        assert await served.next() == "timeout"


@pytest.mark.usefixtures("deaf")
async def test_an_engine_has_one_slot_for_its_cache_its_worker_those_who_wait_and_who_watch(
    db: str, served: Served, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.client.answers._POLL_SECONDS", 3600.0)
    monkeypatch.setattr("pgprog.client.lookout.POLL_SECONDS", 3600.0)
    async with (
        Engine(db, [served.namespace, _kept()], worker=STREAM) as engine,
        asyncio.timeout(30),
    ):
        await _followed(sql, 1, 2)
        await engine.init("kept", "k-1")
        while (found := await engine.get("kept", "k-1")) is None or found.source != "cache":
            await asyncio.sleep(0.01)
        seen = [each async for each in _until_two(engine, sql)]
        sql.execute("select pgprog.init('orders', 'o-1')")
        assert await served.next() == "init"
        assert sql.execute(f"select count(*) {SLOTS}").fetchone() == (1,)

    assert [(each.state, each.source) for each in seen] == [
        ({"n": 1}, "cache"),
        ({"n": 2}, "cache"),
    ]


def _kept() -> Namespace[Any]:
    kept: Namespace[Any] = Namespace("kept", cache={"enabled": True, "max_lag": "30s"})

    @kept.init
    def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state={"n": 1})

    @kept.notify
    def tell(step: Step[Any]) -> Intent[Any]:
        return Intent(state={"n": 2})

    return kept


async def _until_two(engine: Engine, sql: psycopg.Connection[Any]) -> AsyncIterator[Process[Any]]:
    """Watch a process that plain SQL changes once somebody watches, to that change."""
    async with aclosing(engine.watch("kept", "k-1")) as watching:
        async for process in watching:
            yield process
            if process.state == {"n": 2}:
                return
            sql.execute("select pgprog.notify('kept', 'k-1', name => 'tell')")


@pytest.mark.usefixtures("deaf")
async def test_those_who_wait_for_an_answer_are_woken_by_the_stream_alone(
    db: str, served: Served, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.client.answers._POLL_SECONDS", 3600.0)
    served.client = client = AsyncClient(db, wakeups="stream")
    async with _engine(db, served, STREAM), client:
        await _followed(sql, 2, 3)
        async with asyncio.timeout(20):
            for number in range(5):
                assert await client.init("orders", f"o-{number}") == "done"


async def test_what_a_client_makes_due_starts_by_its_notification_alone(
    db: str, served: Served, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.client.answers._POLL_SECONDS", 3600.0)
    served.client = client = AsyncClient(db)
    async with _engine(db, served, PATIENT) as engine, client:
        await _idle(engine)
        async with asyncio.timeout(20):
            assert await client.init("orders", "o-1") == "done"
        assert sql.execute(f"select count(*) {SLOTS}").fetchone() == (0,)


async def test_with_polling_alone_nobody_listens_and_nothing_waits_longer_than_a_poll(
    db: str, served: Served, sql: psycopg.Connection[Any]
) -> None:
    polling = replace(QUICK, wakeups="poll")
    async with _engine(db, served, polling), AsyncClient(db, wakeups="poll") as client:
        assert await client.init("orders", "o-1") == "done"
        sql.execute("select pgprog.notify('orders', 'o-1', name => 'tell')")
        assert [await served.next(), await served.next()] == ["init", "notify"]
        listening = (
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and query ilike 'listen %'"
        )
        assert sql.execute(listening).fetchone() == (0,)


@pytest.fixture
def plain_role(admin: Any, db: str) -> Iterator[str]:
    """A DSN of a role that may not replicate."""
    admin.execute("create role modest login")
    yield make_conninfo(db, user="modest")
    admin.execute("drop role modest")


async def test_a_stream_that_is_refused_is_one_warning_and_polling_goes_on(
    db: str,
    plain_role: str,
    served: Served,
    sql: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = replace(QUICK, wakeups="stream")
    engine = Engine(db, [served.namespace], worker=worker, direct_dsn=plain_role)
    with caplog.at_level(logging.WARNING):
        async with engine:
            for number in range(10):
                sql.execute("select pgprog.init('orders', %s)", (f"o-{number}",))
                assert await served.next() == "init"
                await asyncio.sleep(0.05)

    refusals = [each for each in caplog.records if each.getMessage() == "replication_refused"]
    hints = {each.fields["hint"] for each in refusals}  # type: ignore[attr-defined]
    assert len(refusals) == 1  # one stream for the worker and the client of the engine
    assert hints == {"alter role modest replication; membership in a role does not pass it on"}


async def test_a_stream_that_is_lost_is_followed_again_and_what_came_meanwhile_is_found(
    db: str, served: Served, sql: psycopg.Connection[Any]
) -> None:
    async with _engine(db, served, STREAM) as engine:
        for number in range(3):
            await _followed(sql, 1, 2)
            await _idle(engine)
            with sql.transaction():
                sql.execute(END_STREAMS)
                sql.execute("select pgprog.init('orders', %s)", (f"o-{number}",))
            assert await served.next() == "init"


_MUCH_TO_TELL = """
select pg_notify('something', lpad(n::text, 7000, '0')) from generate_series(1, 1000) as n
"""


@pytest.mark.slow  # it needs a server of its own, whose queue of notifications is small
async def test_hints_that_find_no_room_are_lost_and_end_nothing(
    sql: psycopg.Connection[Any],
) -> None:
    """Some session listens and stays in its transaction: what comes behind it piles up."""
    if sql.info.server_version < 170000:
        pytest.skip("before PostgreSQL 17 the queue of notifications has 8 GB")
    served = Served()
    small = {"max_notify_queue_pages": "64"}
    with EmbeddedPostgres(durable=False, settings=small) as server:
        migrate(server.dsn)
        with psycopg.connect(server.dsn) as idle, psycopg.connect(server.dsn) as writer:
            writer.autocommit = True
            idle.execute("listen something")
            idle.commit()
            idle.execute("select 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="NOTIFY queue"):
                writer.execute(_MUCH_TO_TELL)
            async with Engine(server.dsn, [served.namespace], worker=QUICK) as engine:
                async with AsyncClient(server.dsn) as client:
                    answers = [await client.init("orders", f"o-{n}", timeout=20) for n in range(3)]
                answers.append(await engine.init("orders", "o-3", timeout=20))

    assert answers == ["done"] * 4
