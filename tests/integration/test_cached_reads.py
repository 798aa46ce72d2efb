"""`get` from memory: as fresh as asked, never older than what the client knows."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.integration.memory import cached
from tests.integration.streams import END_STREAMS, SLOTS
from tests.waiting import until_on_loop

import pgprog
from pgprog import AsyncClient, Client, Engine, Intent, Namespace, SetTimer, Step, UnsetTimer
from pgprog.client.cached_reads import CachedReads
from pgprog.config import CacheSettings
from pgprog.embedded import EmbeddedPostgres
from pgprog.errors import CallTimeout, InvalidArgument, StaleRead
from pgprog.store.beats import Beats

_PUBLICATION = Path(__file__).parents[2] / "sql/publication.sql"
# Lag is asked for where it is meant: a loaded machine is no reason to read PostgreSQL.
CACHED = CacheSettings(enabled=True, max_lag=timedelta(seconds=30), wait=timedelta(seconds=5))


@dataclass
class Order:
    lines: list[str] = field(default_factory=list)


@pytest.fixture
def orders() -> Namespace[Order]:
    namespace = Namespace(
        "orders", state=Order, cache={"enabled": True, "max_lag": "30s", "wait": "5s"}
    )

    @namespace.init
    def open_order(step: Step[Order], args: Any) -> Intent[Order]:
        return Intent(
            state=Order(["first"]),
            metadata={"tags": ["new"]},
            events=[{"opened": [1]}],
            timers=[SetTimer(after=timedelta(days=1), name="expiry")],
        )

    @namespace.call
    def add(step: Step[Order], line: str) -> Intent[Order, int]:
        lines = [*step.state.lines, line]
        return Intent(state=Order(lines), events=[{"added": line}], response=len(lines))

    @namespace.call
    def keep(step: Step[Order], args: Any) -> Intent[Order]:
        return Intent(timers=[UnsetTimer("expiry")])

    @namespace.call
    def tag(step: Step[Order], tags: list[str]) -> Intent[Order]:
        return Intent(metadata={"tags": tags})

    return namespace


@pytest.fixture
def engine(make_engine: Any, orders: Namespace[Order]) -> Engine:
    made: Engine = make_engine(orders)
    return made


async def test_a_cached_read_is_what_postgresql_would_say(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await engine.call("orders", "o-1", {"line": "second"}, name="add")
        kept = await cached(engine, max_events=10)
        read = await engine.get("orders", "o-1", max_events=10, cache=False)

    assert read is not None
    assert kept == read
    assert (read.source, read.lag) == ("postgresql", 0.0)
    assert 0 < kept.lag < 30
    assert kept.state == {"lines": ["first", "second"]}
    assert [each.event_id for each in kept.history] == [1, 2]
    assert list(kept.timers) == ["expiry"]


async def test_what_the_stream_tells_is_what_postgresql_would_say(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        await engine.call("orders", "o-1", {"line": "é"}, name="add")
        await engine.call("orders", "o-1", {"tags": ["a", "b"]}, name="tag")
        kept = await engine.get("orders", "o-1", max_events=10, direction="backward")
        read = await engine.get("orders", "o-1", max_events=10, direction="backward", cache=False)

    assert kept is not None
    assert kept.source == "cache"
    assert kept == read


class OrderId(str):
    """What frameworks make of texts: a kind of their own."""

    __slots__ = ()


async def test_an_id_of_a_kind_of_its_own_is_found_in_memory(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", OrderId("o-1"))
        await cached(engine)
        process = await engine.get("orders", OrderId("o-1"))

    assert process is not None
    assert process.source == "cache"


async def test_own_writes_are_always_read(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        lengths, sources = [], []
        for number in range(2, 40):
            length = await engine.call("orders", "o-1", {"line": str(number)}, name="add")
            process = await engine.get("orders", "o-1")
            assert process is not None
            lengths.append(len(process.state["lines"]) - length)
            sources.append(process.source)

    assert set(lengths) == {0}
    assert sources.count("cache") > 30


async def test_own_writes_are_read_while_the_stream_stands_still(
    make_engine: Any, orders: Namespace[Order], session: Any
) -> None:
    impatient = replace(CACHED, wait=timedelta(milliseconds=20))
    served = orders.with_settings(replace(orders.settings, cache=impatient))
    async with make_engine(served) as engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        [[sender]] = session().execute(f"select active_pid {SLOTS}").fetchall()
        os.kill(sender, signal.SIGSTOP)
        try:
            length = await engine.call("orders", "o-1", {"line": "2"}, name="add")
            process = await engine.get("orders", "o-1")
        finally:
            os.kill(sender, signal.SIGCONT)

    assert process is not None
    assert (len(process.state["lines"]), process.source) == (length, "postgresql")


async def test_own_writes_are_read_by_who_waited_for_them_twice(
    make_engine: Any, orders: Namespace[Order], session: Any
) -> None:
    may_add = asyncio.Event()

    @orders.call
    async def add_late(step: Step[Order]) -> Intent[Order]:
        await may_add.wait()
        return Intent(state=Order([*step.state.lines, "late"]))

    impatient = replace(CACHED, wait=timedelta(milliseconds=20))
    served = orders.with_settings(replace(orders.settings, cache=impatient))
    async with make_engine(served) as engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        task = await engine.submit("call", "orders", "o-1", name="add_late")
        with pytest.raises(CallTimeout):
            await engine.wait(task.task_id, timeout=0.01)
        [[sender]] = session().execute(f"select active_pid {SLOTS}").fetchall()
        os.kill(sender, signal.SIGSTOP)
        try:
            may_add.set()
            await engine.wait(task.task_id, timeout=5)
            process = await engine.get("orders", "o-1")
        finally:
            os.kill(sender, signal.SIGCONT)

    assert process is not None
    assert process.state["lines"] == ["first", "late"]


async def test_own_removal_and_next_init_are_read_at_once(engine: Engine) -> None:
    async with engine:
        for _ in range(5):
            await engine.init("orders", "o-1")
            first = await cached(engine)
            await engine.remove("orders", "o-1", version=first.version)
            assert await engine.get("orders", "o-1") is None


async def test_own_puts_repairs_and_cancels_are_read_at_once(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        process = await cached(engine, max_events=9)
        await engine.remove("orders", "o-1")
        version = await engine.put(replace(process, state={"lines": ["imported"]}))

        found = await engine.get("orders", "o-1", at_least=version)
        assert found is not None
        assert found.state == {"lines": ["imported"]}
        await cached(engine)
        [timer] = [t for t in await engine._store.tasks(
            namespace="orders", process_id="o-1", status=None, type_="timeout", limit=9
        ) if t["status"] == "waiting"]  # fmt: skip
        await engine.cancel(timer["task_id"])
        found = await engine.get("orders", "o-1")
        assert found is not None
        assert not found.timers


async def test_a_version_of_another_client_is_waited_for(
    engine: Engine, db: str, orders: Namespace[Order]
) -> None:
    async with engine, AsyncClient(db, cache={"orders": CACHED}) as other:
        await engine.init("orders", "o-1")
        await cached(other)
        for number in range(20):
            task = await engine.submit("call", "orders", "o-1", {"line": "x"}, name="add")
            await task.wait()
            found = await other.get(orders, "o-1", at_least=task.version)
            assert found is not None
            assert len(found.state.lines) == number + 2


async def test_a_version_that_does_not_come_is_a_stale_read(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        process = await cached(engine)
        with pytest.raises(StaleRead, match=rf"version {process.version}, .* asked for"):
            await engine.get("orders", "o-1", at_least=1 << 60, timeout=0.05, cache=False)
        with pytest.raises(InvalidArgument, match="at_least"):
            await engine.get("orders", "o-1", at_least=-1)


async def test_a_read_that_may_have_no_lag_is_of_postgresql(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        process = await engine.get("orders", "o-1", max_lag=0)

    assert process is not None
    assert process.source == "postgresql"


async def test_absence_is_never_cached(engine: Engine, db: str) -> None:
    async with engine, AsyncClient(db, cache={"orders": CACHED}) as other:
        await engine.init("orders", "o-1")
        await cached(other)
        for number in range(20):
            assert await other.get("orders", f"n-{number}") is None
            await engine.init("orders", f"n-{number}")
            assert await other.get("orders", f"n-{number}") is not None


@pytest.mark.parametrize("is_typed", [True, False])
async def test_changing_what_was_returned_never_changes_a_later_read(
    engine: Engine, orders: Namespace[Order], is_typed: bool
) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        for _ in range(2):
            process: Any = await engine.get(orders if is_typed else "orders", "o-1", max_events=9)
            assert process.source == "cache"
            lines = process.state.lines if is_typed else process.state["lines"]
            assert lines == ["first"]
            assert process.metadata == {"tags": ["new"]}
            assert process.history[0].payload == {"opened": [1]}
            assert list(process.timers) == ["expiry"]
            lines.append("mine")
            process.metadata["tags"].append("mine")
            process.history[0].payload["opened"].append(2)
            process.timers.clear()


@pytest.mark.parametrize("is_pickled", [True, False])
async def test_a_cached_process_can_be_copied(
    engine: Engine, orders: Namespace[Order], is_pickled: bool
) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        process = await engine.get(orders, "o-1")
        copied: Any = pickle.loads(pickle.dumps(process)) if is_pickled else copy.copy(process)

    assert copied == process
    with pytest.raises(AttributeError, match="'Process' object has no attribute 'colour'"):
        copied.colour  # noqa: B018


@pytest.mark.parametrize("read", ["history", "trace", "explain"])
async def test_no_read_of_a_process_is_older_than_what_was_shown_of_it(
    engine: Engine, session: Any, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """A commit is told a moment before a snapshot sees it."""
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        running = session()
        running.execute("begin")
        [xid] = running.execute("select pg_current_xact_id()::text::bigint").fetchone()
        monkeypatch.setattr(engine._cached, "told", lambda _: (xid % (1 << 32),))
        looks, get_fenced = 0, engine._store.get_fenced

        async def counted(*key: Any, **range_: Any) -> Any:
            nonlocal looks
            looks += 1
            return await get_fenced(*key, **range_)

        monkeypatch.setattr(engine._store, "get_fenced", counted)
        reading = asyncio.ensure_future(getattr(engine, read)("orders", "o-1"))
        await until_on_loop(lambda: looks > 2 or reading.done())
        was_early = reading.done()
        running.execute("commit")
        await reading

    assert not was_early


@pytest.mark.parametrize("read", ["history", "trace", "explain"])
async def test_nothing_is_shown_from_memory_that_is_older_than_a_read_of_a_process(
    engine: Engine, db: str, session: Any, read: str
) -> None:
    async with engine, AsyncClient(db, cache={"orders": CACHED}) as client:
        await engine.init("orders", "o-1")
        await cached(client)
        slots = session().execute(f"select active_pid {SLOTS}").fetchall()
        for (sender,) in slots:
            os.kill(sender, signal.SIGSTOP)
        try:
            await engine.call("orders", "o-1", {"line": "second"}, name="add")
            await getattr(client, read)("orders", "o-1")
            process = await client.get("orders", "o-1")
        finally:
            for (sender,) in slots:
                os.kill(sender, signal.SIGCONT)

    assert process is not None
    assert process.state == {"lines": ["first", "second"]}


async def test_a_timer_that_started_is_gone_from_the_cache(db: str, make_engine: Any) -> None:
    orders = Namespace("orders", cache={"enabled": True, "max_lag": "30s"})
    begun, ended = asyncio.Event(), asyncio.Event()

    @orders.init
    def begin(step: Step[Any], args: Any) -> Intent[Any]:
        return Intent(state={}, timers=[SetTimer(after=timedelta(days=1))])

    @orders.call
    def hurry(step: Step[Any], args: Any) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta(0))])

    @orders.timeout
    async def fire(step: Step[Any]) -> None:
        begun.set()
        await ended.wait()

    async with make_engine(orders) as engine:
        await engine.init("orders", "o-1")
        await cached(engine, where=lambda process: bool(process.timers))
        await engine.call("orders", "o-1", name="hurry")
        await begun.wait()
        process = await cached(engine, where=lambda process: not process.timers)
        ended.set()

    assert process.version > 0


async def test_events_beyond_the_window_come_from_postgresql(engine: Engine) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await asyncio.gather(
            *(engine.call("orders", "o-1", {"line": "x"}, name="add") for _ in range(70))
        )
        await cached(engine)
        old = await engine.get("orders", "o-1", max_events=5)
        new = await engine.get("orders", "o-1", max_events=5, after=60)
        newest = await cached(engine, max_events=2, direction="backward")

    assert old is not None
    assert new is not None
    assert [each.event_id for each in old.history] == [1, 2, 3, 4, 5]
    assert [each.event_id for each in new.history] == [61, 62, 63, 64, 65]
    assert [each.event_id for each in newest.history] == [71, 70]


async def test_a_process_whose_events_are_large_is_kept_with_the_newest_of_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"at": "2026-01-01T00:00:00Z", "task_id": 1, "payload": "x" * 10_000}
    events = [{**event, "event_id": number} for number in range(1, 51)]
    process = {"namespace": "orders", "process_id": "o-1", "status": "running"}
    async with engine:
        await engine.put({**process, "state": {"lines": []}, "history": events})
        await cached(engine)
        reads, get_fenced = 0, engine._store.get_fenced

        async def counted(*key: Any, **range_: Any) -> Any:
            nonlocal reads
            reads += 1
            return await get_fenced(*key, **range_)

        monkeypatch.setattr(engine._store, "get_fenced", counted)
        all_ = await engine.get("orders", "o-1", max_events=50)
        after_all = await engine.get("orders", "o-1", max_events=3, direction="backward")

    assert all_ is not None
    assert after_all is not None
    assert [each.event_id for each in all_.history] == [*range(1, 51)]
    assert [each.event_id for each in after_all.history] == [50, 49, 48]
    assert (all_.source, after_all.source, reads) == ("postgresql", "cache", 1)


async def test_many_who_miss_at_once_read_once(engine: Engine, sql: Any) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        engine._cached.cache.begin_fill(("orders", "o-1"), now=0.0)  # type: ignore[union-attr]
        engine._cached.cache._fills.clear()  # type: ignore[union-attr]
        reads = []
        get_fenced = engine._store.get_fenced

        async def counted(*args: Any, **options: Any) -> Any:
            reads.append(args)
            return await get_fenced(*args, **options)

        engine._store.get_fenced = counted  # type: ignore[method-assign]
        found = await asyncio.gather(*(engine.get("orders", "o-1") for _ in range(50)))

    assert len(reads) == 1
    assert all(process is not None for process in found)


def test_a_blocking_client_reads_from_the_cache_in_the_thread_of_its_caller(
    db: str, orders: Namespace[Order], engine: Engine
) -> None:
    with engine as client:
        client.init("orders", "o-1")
        for _ in range(1000):
            process = client.get("orders", "o-1")
            if process is not None and process.source == "cache":
                break
        found: list[Any] = []

        def read() -> None:
            found.extend(client.get(orders, "o-1") for _ in range(200))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(2, 30):
            assert client.call("orders", "o-1", {"line": "x"}, name="add") == number
            process = client.get(orders, "o-1")
            assert process is not None
            assert len(process.state.lines) == number
        for thread in threads:
            thread.join()

    assert len(found) == 800
    with Client(db, cache={"orders": CACHED}) as client:
        assert client.get("orders", "o-1", cache=False) is not None


async def test_what_is_read_is_kept_whatever_the_time_zones_of_the_connections(
    engine: Engine, db: str
) -> None:
    local = make_conninfo(db, options="-c timezone=Asia/Kathmandu -c datestyle=German")
    async with engine, AsyncClient(local, direct_dsn=db, cache={"orders": CACHED}) as client:
        await engine.init("orders", "o-1")
        kept = await cached(client)
        read = await client.get("orders", "o-1", cache=False)

    assert kept == read


async def test_a_lost_stream_empties_the_cache_and_is_opened_again(
    engine: Engine, sql: Any
) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        for number in range(3):
            sql.execute(END_STREAMS)
            await engine.call("orders", "o-1", {"line": "x"}, name="add")
            process = await engine.get("orders", "o-1")
            assert process is not None
            assert len(process.state["lines"]) == number + 2
            await cached(engine)


async def test_a_table_that_is_altered_empties_the_cache(engine: Engine, sql: Any) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        was = engine._cached.cache.lease  # type: ignore[union-attr]
        assert was.as_of > 0
        sql.execute("truncate pgprog_data.timers")
        process = await cached(engine, where=lambda process: not process.timers)

    assert process.state == {"lines": ["first"]}


async def test_changes_are_kept_of_tables_whose_replica_identity_is_the_whole_row(
    engine: Engine, sql: Any
) -> None:
    tables = ("pgprog_data.processes", "pgprog_data.timers")
    for table in tables:
        sql.execute(f"alter table {table} replica identity full")
    try:
        async with engine:
            await engine.init("orders", "o-1")
            await cached(engine)
            await engine.call("orders", "o-1", {"line": "second"}, name="add")
            process = await engine.get("orders", "o-1")
    finally:
        for table in tables:
            sql.execute(f"alter table {table} replica identity default")

    assert process is not None
    assert (process.state, process.source) == ({"lines": ["first", "second"]}, "cache")


async def test_publications_that_are_altered_end_the_cache_until_they_are_right(
    engine: Engine, sql: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        sql.execute("alter publication pgprog_processes drop table pgprog_data.processes")
        try:
            async with asyncio.timeout(20):
                while "replication_refused" not in caplog.text:
                    assert await engine.get("orders", "o-1") is not None
                    await asyncio.sleep(0.01)
            refusals = [r for r in caplog.records if r.getMessage() == "replication_refused"]
            await asyncio.sleep(0.5)
            process = await engine.get("orders", "o-1")
            assert process is not None
            assert process.source == "postgresql"
        finally:
            sql.execute("alter publication pgprog_processes add table pgprog_data.processes")
        await cached(engine)

    assert len(refusals) == 1
    assert caplog.text.count("cache_emptied") == 1


@pytest.mark.parametrize(
    "alteration",
    [
        "set (publish = 'insert')",
        "set (publish = 'insert, update, delete')",
        "set table pgprog_data.processes where (namespace <> 'orders'), pgprog_data.timers",
    ],
)
async def test_nothing_is_served_from_memory_of_which_the_publications_do_not_tell_all(
    engine: Engine, sql: Any, db: str, caplog: pytest.LogCaptureFixture, alteration: str
) -> None:
    if "where" in alteration and sql.info.server_version < 150000:
        pytest.skip("PostgreSQL 14 has no conditions")
    async with engine, AsyncClient(db) as other:
        await engine.init("orders", "o-1")
        await cached(engine)
        sql.execute(f"alter publication pgprog_processes {alteration}")
        try:
            await until_on_loop(lambda: "cache_emptied" in caplog.text)
            async with asyncio.timeout(20):
                while "replication_refused" not in caplog.text:
                    process = await engine.get("orders", "o-1")
                    if process is not None and process.source == "cache":
                        break
                    await asyncio.sleep(0.01)
            await other.call("orders", "o-1", {"tags": ["late"]}, name="tag")
            process = await engine.get("orders", "o-1")
        finally:
            sql.execute(_PUBLICATION.read_bytes())
        again = await cached(engine)

    assert process is not None
    assert process.metadata == again.metadata == {"tags": ["late"]}
    assert process.source == "postgresql"


async def test_events_that_are_too_old_to_be_kept_are_read_once_and_what_is_kept_stays(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine:
        await engine.init("orders", "o-1")
        for number in range(60):
            await engine.call("orders", "o-1", {"line": str(number)}, name="add")
        await cached(engine)
        assert isinstance(engine._cached, CachedReads)
        get_fenced = engine._store.get_fenced
        reads: list[dict[str, Any]] = []

        async def counted(*args: Any, **options: Any) -> Any:
            reads.append(options)
            return await get_fenced(*args, **options)

        monkeypatch.setattr(engine._store, "get_fenced", counted)
        shelf = engine._cached.cache.shelves["orders"]
        hits = shelf.hits
        old = await engine.get("orders", "o-1", max_events=5)
        newest = await engine.get("orders", "o-1", max_events=60, direction="backward")
        is_kept, new_hits = "o-1" in shelf.entries, shelf.hits - hits

    assert old is not None
    assert newest is not None
    assert [each.event_id for each in old.history] == [1, 2, 3, 4, 5]
    assert len(newest.history) == 60
    assert [each["max_events"] for each in reads] == [5, 60]
    assert (is_kept, new_hits) == (True, 0)


@pytest.mark.slow  # it needs a server of its own, whose commits wait for a standby
async def test_what_no_standby_has_acknowledged_is_not_served() -> None:
    with EmbeddedPostgres() as server, psycopg.connect(server.dsn, autocommit=True) as admin:
        pgprog.migrate(server.dsn)
        admin.execute("select pgprog_engine._create_namespace('orders', '{}')")
        async with AsyncClient(server.dsn, cache={"orders": CACHED}) as client:
            await client.put(
                {"namespace": "orders", "process_id": "o-1", "status": "running", "state": 1}
            )
            await cached(client)
            wait_for(admin, "ghost")
            gate = client._cached._reader._gate  # type: ignore[union-attr]
            await until_on_loop(lambda: gate.is_shut)
            removal = asyncio.create_task(client.remove("orders", "o-1"))
            await until_on_loop(lambda: gate.is_waiting)
            for _ in range(50):
                assert await client.get("orders", "o-1") is not None
                await asyncio.sleep(0.002)
            kept = await client.get("orders", "o-1")
            wait_for(admin, "")

            assert await removal
            assert await client.get("orders", "o-1") is None
    assert kept is not None
    assert kept.source == "cache"


def wait_for(admin: psycopg.Connection[Any], standby: str) -> None:
    """Let commits wait for a standby; for none, those that wait end."""
    admin.execute(sql.SQL("alter system set synchronous_standby_names = {}").format(standby))
    admin.execute("select pg_reload_conf()")


async def test_a_snapshot_taken_behind_a_transaction_id_knows_all_that_runs(
    db: str, session: Any
) -> None:
    beats = Beats(db, name="test")
    running = session(db)
    running.execute("begin")
    xid = int(running.execute("select pg_current_xact_id()::text").fetchone()[0])

    await beats.take_xid()
    [_, ends_at, runs] = (await beats.beat(["pgprog_processes"])).snapshot.split(":")
    running.execute("rollback")
    await beats.close()

    # Without one of its own, the snapshot ends before the transaction unless others ended since.
    assert xid < int(ends_at)
    assert str(xid) in runs.split(",")


async def test_a_beat_is_behind_what_was_acknowledged_before_it_was_on_disk(
    db: str, session: Any
) -> None:
    beats = Beats(db, name="test")
    hasty = session(db)
    hasty.execute("set synchronous_commit = off")

    ahead = []
    for number in range(20):  # somebody else may well have brought one to the disk meanwhile
        hasty.execute("select pg_logical_emit_message(true, 'test', %s)", (str(number) * 100,))
        [ends_at] = hasty.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()
        ahead.append(ends_at - (await beats.beat(["pgprog_processes"])).lsn)
    await beats.close()

    assert max(ahead) < 100  # but for the head of a page


async def test_reads_of_cached_namespaces_are_counted_by_where_they_came_from(
    engine: Engine,
) -> None:
    def figure(name: str, **labels: str) -> float | None:
        return engine.metrics.get_sample_value(name, labels)

    def count(result: str) -> float | None:
        return figure("pgprog_cache_requests_total", namespace="orders", result=result)

    async with engine:
        await engine.init("orders", "o-1")
        await cached(engine)
        before = {result: count(result) for result in ("hit", "bypass")}
        for _ in range(3):
            await engine.get("orders", "o-1")
        await engine.get("orders", "o-1", cache=False)
        misses, entries = count("miss"), figure("pgprog_cache_entries", namespace="orders")
        size = figure("pgprog_cache_bytes", namespace="orders")
        lag = figure("pgprog_replication_lag_seconds")

        assert before["hit"] is not None
        assert before["bypass"] is not None
        assert count("hit") == before["hit"] + 3
        assert count("bypass") == before["bypass"] + 1
        assert misses is not None
        assert misses >= 1  # more while a transaction of another test is open
        assert (entries, figure("pgprog_replication_reconnects_total")) == (1, 0)
        assert size is not None
        assert 1000 < size < 10_000
        assert lag is not None
        assert 0 < lag < 5
