"""Clients that are closed, cut or forked while others use them: nobody waits in vain."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from pgprog import AsyncClient, Client, Engine, Request
from pgprog.config import CacheSettings
from pgprog.errors import PgprogError, StoreUnavailable
from pgprog.store import wakeups

if TYPE_CHECKING:
    import psycopg


@pytest.fixture
def task_id(sql: psycopg.Connection[Any]) -> int:
    """A task that nobody runs."""
    sql.execute("select pgprog_engine._create_namespace('idle', '{}')")
    [[task_id]] = sql.execute("select pgprog.init('idle', 'i')").fetchall()
    return int(task_id)


async def test_who_waits_when_a_client_is_closed_is_told_so_at_once(db: str, task_id: int) -> None:
    async with AsyncClient(db) as client:
        waiting = asyncio.create_task(client.wait(task_id, timeout=60))
        while not client._answers.is_awaited(task_id):
            await asyncio.sleep(0)

    with pytest.raises(StoreUnavailable, match="closed"):
        await asyncio.wait_for(waiting, 5)


async def test_what_is_asked_of_a_closed_client_is_refused_at_once(db: str, task_id: int) -> None:
    async with AsyncClient(db) as client:
        pass

    for asking in (
        client.submit("notify", "idle", "i"),
        client.call("idle", "i"),
        client.get("idle", "i"),
        client.wait(task_id),
    ):
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(asking, 5)


async def test_a_client_that_is_not_open_says_so(db: str) -> None:
    client, blocking = AsyncClient(db), Client(db)

    for asking in (client.submit("notify", "idle", "i"), client.get("idle", "i"), client.wait(1)):
        with pytest.raises(StoreUnavailable, match="not open"):
            await asking
    with pytest.raises(StoreUnavailable, match="not open"):
        blocking.get("idle", "i")


async def test_a_client_that_is_open_is_not_opened_once_more(db: str, task_id: int) -> None:
    client = AsyncClient(db)
    async with client:
        with pytest.raises(RuntimeError, match="opened once more"):
            await client.__aenter__()

        assert await client.get("idle", "i") is not None


@pytest.mark.parametrize("kind", [Client, Engine])
def test_a_blocking_client_that_is_open_is_not_opened_once_more(
    db: str, task_id: int, kind: Any
) -> None:
    opened = Client(db) if kind is Client else Engine(db, [])
    with opened as client:
        with pytest.raises(RuntimeError, match="opened once more"):
            opened.__enter__()

        assert client.get("idle", "i") is not None
    with pytest.raises(StoreUnavailable, match="closed"):
        client.get("idle", "i")


async def test_who_gives_up_to_close_a_client_leaves_no_connection_behind(db: str) -> None:
    client = await AsyncClient(db).__aenter__()
    store, lane = client._store, client._store._results
    connection = lane._connection
    asking = asyncio.create_task(lane.fetch("select pg_sleep(30)"))
    while not lane.flights:
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await store.close()
    _, waiting = await asyncio.wait([asking], timeout=5)
    await client.__aexit__()

    assert not waiting
    assert store._pool.closed
    assert connection is not None
    assert connection.closed


def test_a_client_that_is_opened_again_in_another_loop_is_as_good_as_new(
    db: str, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("select pgprog_engine._create_namespace('idle', '{}')")
    process = {"namespace": "idle", "process_id": "i-1", "status": "running"}
    sql.execute("select pgprog.put(%s)", (Jsonb(process),))
    client = AsyncClient(db, cache={"idle": CacheSettings(enabled=True)}, wakeups="stream")

    async def use() -> list[tuple[str, tuple[str, ...]]]:
        async with client:
            async with aclosing(client.watch("idle", "i-1")) as watched:
                await anext(watched)
            async with aclosing(client.watch_all("idle")) as changes:
                await anext(changes)
            return [(each.name, each.labels) for each in client._figures.metrics.samples()]

    first, again = asyncio.run(use()), asyncio.run(use())

    assert sorted(again) == sorted(first)


def test_a_thread_that_waits_when_a_blocking_client_is_closed_is_told_so_at_once(
    db: str, task_id: int
) -> None:
    told: list[PgprogError] = []

    def wait() -> None:
        try:
            client.wait(task_id, timeout=60)
        except PgprogError as e:
            told.append(e)

    with Client(db) as client:
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while not client._client._answers.is_awaited(task_id):
            pass
    thread.join(5)

    assert [type(error) for error in told] == [StoreUnavailable]


def test_a_closed_blocking_client_says_so(db: str) -> None:
    with Client(db) as client:
        pass

    with pytest.raises(StoreUnavailable, match="closed"):
        client.get("idle", "i")


def test_to_close_a_blocking_client_once_more_is_harmless(db: str) -> None:
    with Client(db) as client:
        client.__exit__(None, None, None)

    with pytest.raises(StoreUnavailable, match="closed"):
        client.get("idle", "i")


def test_a_blocking_client_in_a_forked_child_says_so(db: str) -> None:
    with Client(db) as client:
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            try:
                client.get("idle", "i")
            except StoreUnavailable:
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)

    assert status == 0


async def test_a_client_in_another_event_loop_says_so_and_sends_nothing(
    db: str, sql: psycopg.Connection[Any], task_id: int
) -> None:
    async def use(client: AsyncClient) -> None:
        for asking in (
            client.submit("notify", "idle", "i"),
            client.submit_many([Request("notify", "idle", "i")]),
            client.wait(task_id, timeout=5),
            client.get("idle", "i"),
        ):
            with pytest.raises(RuntimeError, match="event loop in which it was opened"):
                await asking

    async with AsyncClient(db) as client:
        await asyncio.to_thread(lambda: asyncio.run(use(client)))

        assert sql.execute("select count(*) from pgprog.tasks").fetchone() == (1,)
        assert await client.get("idle", "i") is not None


async def test_a_client_in_a_forked_child_says_so_and_leaves_its_connections_alone(
    db: str, task_id: int
) -> None:
    async def use(client: AsyncClient) -> None:
        with pytest.raises(RuntimeError, match="event loop in which it was opened"):
            await client.get("idle", "i")

    async with AsyncClient(db) as client:
        await client.get("idle", "i")
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            try:
                asyncio.run(use(client))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)

        assert status == 0
        assert await client.get("idle", "i") is not None


def test_workers_are_told_of_what_was_asked_just_before_a_client_is_closed(
    db: str, task_id: int, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_PAUSE_SECONDS", 1)
    monkeypatch.setattr(wakeups, "_LONGEST_PAUSE_SECONDS", 1)
    listening = session()
    listening.execute("listen pgprog_due")
    with Client(db) as client:
        client.submit("init", "idle", "first")
        client.submit("init", "idle", "second")  # its hint waits for the pause behind the other

    heard = [note.payload for note in listening.notifies(timeout=5, stop_after=2)]

    assert heard == ["idle", "idle"]


@pytest.mark.parametrize("payload", ["hello", "1,", "9" * 30])
async def test_a_strangers_notification_harms_no_client(
    db: str, task_id: int, sql: psycopg.Connection[Any], payload: str
) -> None:
    async with AsyncClient(db) as client:
        waiting = asyncio.create_task(client.wait(task_id, timeout=10))
        while not sql.execute(
            "select from pg_stat_activity"
            " where datname = current_database() and query = 'listen pgprog_ended'"
        ).fetchall():
            await asyncio.sleep(0.01)
        sql.execute("select pg_notify('pgprog_ended', %s)", (payload,))
        sql.execute("select pgprog.cancel(%s)", (task_id,))
        with pytest.raises(PgprogError, match="cancelled"):
            await waiting
