"""What a client is told when it cannot begin."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout
from psycopg_pool.base import AttemptWithBackoff

from pgprog import AsyncClient, Client, Engine, Namespace, Request
from pgprog.errors import (
    ConfigError,
    PgprogError,
    SchemaMismatch,
    StoreUnavailable,
    TaskCancelled,
)
from pgprog.store import pool
from pgprog.store.pool import AsyncPool, make_pool, place_of, without_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # bound and never listening: nobody else gets it
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def bare_db() -> str:
    """A database without pgprog's schema; not template1, which others are copying."""
    return make_conninfo(os.environ["PGPROG_TEST_DSN"], dbname="postgres")


@pytest.fixture
def onlooker(fresh_db: str, admin: Any) -> Iterator[str]:
    """A DSN whose role may see which schema there is, and ask for nothing."""
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        connection.execute("create role pgprog_test_onlooker")
        connection.execute("grant usage on schema pgprog to pgprog_test_onlooker")
        connection.execute(
            "grant execute on function pgprog.schema_version() to pgprog_test_onlooker"
        )
        yield make_conninfo(fresh_db, options="-c role=pgprog_test_onlooker")
        connection.execute("drop owned by pgprog_test_onlooker")
    admin.execute("drop role pgprog_test_onlooker")


async def test_a_database_that_does_not_listen_is_told_at_once_by_its_host(
    closed_port: int,
) -> None:
    dsn = f"postgresql://me:sesame@127.0.0.1:{closed_port}/shop"

    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as caught:
        await AsyncClient(dsn).__aenter__()

    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "character"),
    [
        ("postgresql://me:sesame@db/sh\0op", "a NUL character"),
        ("host=db password=sesame dbname=sh\udce9op", "the lone surrogate U+DCE9"),
    ],
)
def test_a_dsn_that_holds_what_libpq_does_not_take_is_refused_by_what_it_is(
    dsn: str, character: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        place_of(dsn)

    assert str(caught.value) == f"the DSN holds {character}"
    assert without_password(dsn) == "(it cannot be read)"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:sesame@[::1/shop",
        "host=h password=sesame oops",
        "sesame",
        "postgresql://me:open@sesame@localhost/shop",
        "postgres://me:open/sesame@localhost/shop",
        "postgresql://me:open@sesame/now@localhost",
    ],
)
def test_a_dsn_that_cannot_be_read_is_not_repeated_in_the_message(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Client(dsn).__enter__()

    assert "sesame" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:a%40b%2Fc@localhost/shop?application_name=x@y/z",
        "postgresql://me:a?b@localhost,other:5433/shop",
        "postgresql:///shop?host=@abstract",
    ],
)
def test_a_dsn_whose_password_is_quoted_is_read(dsn: str) -> None:
    assert "shop" in place_of(dsn)


@pytest.mark.parametrize("direct_dsn", ["host=h password=sesame oops", "host=a..b"])
async def test_a_direct_dsn_that_cannot_be_used_is_told_at_once(db: str, direct_dsn: str) -> None:
    with pytest.raises(ConfigError, match="DSN") as caught:
        await AsyncClient(db, direct_dsn=direct_dsn).__aenter__()

    assert "sesame" not in f"{caught.value}{caught.value.hint}"


async def test_a_database_without_the_schema_is_told_by_client_and_engine(bare_db: str) -> None:
    with pytest.raises(SchemaMismatch) as by_client:
        await AsyncClient(bare_db).__aenter__()
    with pytest.raises(SchemaMismatch) as by_engine:
        await Engine(bare_db, [Namespace("orders")]).__aenter__()

    assert by_client.value.hint == by_engine.value.hint == "run `pgprog db migrate`"


async def test_who_may_not_ask_is_told_so_each_time(onlooker: str) -> None:
    hints = []
    async with AsyncClient(onlooker) as client:
        for _ in range(2):
            with pytest.raises(PgprogError, match="permission denied") as caught:
                await client.notify("orders", "o-1", timeout=5)
            hints.append(caught.value.hint)

    assert ["pgprog db roles" in (hint or "") for hint in hints] == [True, True]


_UNREADABLE = """
create function unreadable() returns trigger language plpgsql as $$
begin
  raise exception 'could not read block 5' using errcode = 'XX001';
end $$;
create trigger unreadable before insert on pgprog_data.queue
for each row when (new.process_id = 'bad') execute function unreadable();
"""
_NO_RESULT_OF = """
create or replace function pgprog.results(task_ids bigint[])
returns table (task_id bigint, status text, response jsonb, error jsonb, version bigint)
language plpgsql as $$
begin
  if %d = any (task_ids) then
    raise exception 'could not read block 5' using errcode = 'XX001';
  end if;
end $$
"""


@pytest.fixture
def damaged(fresh_db: str) -> Iterator[psycopg.Connection[Any]]:
    """A database of one's own, which a test damages."""
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        connection.execute("select pgprog_engine._create_namespace('orders', '{}')")
        yield connection


@pytest.mark.parametrize("kind", [AsyncClient, partial(Engine, namespaces=[Namespace("others")])])
async def test_a_request_that_meets_damaged_data_is_told_so_and_others_go_on(
    fresh_db: str, damaged: psycopg.Connection[Any], kind: Callable[[str], AsyncClient]
) -> None:
    damaged.execute(_UNREADABLE.encode())
    async with kind(fresh_db) as client:
        with pytest.raises(PgprogError, match=r"could not read block 5.*XX001"):
            await client.submit("init", "orders", "bad", timeout=5)
        [many] = await client.submit_many([Request("init", "orders", "bad")], timeout=5)
        task = await client.submit("init", "orders", "good", timeout=5)

    assert (type(many), task.task_id > 0) == (PgprogError, True)


async def test_who_waits_meets_damaged_data_and_is_told_so_and_others_wait_on(
    fresh_db: str, damaged: psycopg.Connection[Any]
) -> None:
    [[works]] = damaged.execute("select pg_get_functiondef('pgprog.results'::regproc)").fetchall()
    async with AsyncClient(fresh_db) as client:
        bad, good = [await client.submit("init", "orders", each) for each in ("o-1", "o-2")]
        damaged.execute((_NO_RESULT_OF % bad.task_id).encode())
        other = asyncio.create_task(good.wait(timeout=5))
        with pytest.raises(PgprogError, match=r"could not read block 5.*XX001"):
            await bad.wait(timeout=5)
        damaged.execute(works)
        await client.cancel(good.task_id)
        with pytest.raises(TaskCancelled):
            await other


@pytest.mark.parametrize("place", ["the role", "the dsn"])
def test_ids_are_kept_whatever_the_encoding_of_a_session(fresh_db: str, place: str) -> None:
    """Packed as UTF-8 they were taken for LATIN1, and other ids were stored without a word."""
    dsn = fresh_db
    with psycopg.connect(fresh_db, autocommit=True, client_encoding="utf8") as connection:
        connection.execute("select pgprog.set_settings('orders', '{}', 0)")
        if place == "the dsn":
            dsn = make_conninfo(fresh_db, client_encoding="latin1")
        else:
            name = connection.info.dbname
            connection.execute(f"alter database {name} set client_encoding = latin1")
        with Client(dsn) as client:
            client.submit("init", "orders", "żółw €")
            found = client.get("orders", "żółw €")
        stored = connection.execute("select process_id from pgprog.processes").fetchall()

    assert stored == [("żółw €",)]
    assert found is not None
    assert found.process_id == "żółw €"


@pytest.mark.slow  # a database is away for two seconds
async def test_a_pool_connects_as_soon_as_the_database_is_back(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All takes a fiftieth of its time."""
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 0.02)
    monkeypatch.setattr(pool, "RECONNECT_SECONDS", pool.RECONNECT_SECONDS / 50)
    is_away = True
    connect = AsyncPool._connect

    async def or_fail(self: AsyncPool, timeout: float | None = None) -> Any:
        if is_away:
            raise psycopg.OperationalError
        return await connect(self, timeout)

    monkeypatch.setattr(AsyncPool, "_connect", or_fail)
    patience = timedelta(seconds=0.1)
    async with make_pool(db, size=2, checkout_timeout=patience, name="pgprog test") as connections:
        away_until = time.monotonic() + 2
        while time.monotonic() < away_until:
            with pytest.raises(PoolTimeout):
                await connections.getconn()
        is_away = False
        async with asyncio.timeout(0.5):
            while True:
                with suppress(PoolTimeout):
                    await connections.putconn(await connections.getconn())
                    break
