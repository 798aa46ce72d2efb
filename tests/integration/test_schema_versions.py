"""A worker and the schema of its database, of which one may be older than the other."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgprog import Engine, Namespace
from pgprog.engine import served
from pgprog.errors import SchemaMismatch
from pgprog.store.migrate import latest_version

_LATER = 9999


@pytest.fixture
def later_db(fresh_db: str) -> str:
    """A database that a later version of pgprog has migrated."""
    with psycopg.connect(fresh_db) as connection:
        connection.execute(
            "insert into pgprog_data.schema_migrations (name, sha256) values (%s, '')",
            (f"migrations/{_LATER}_later.sql",),
        )
    return fresh_db


async def test_a_worker_that_falls_after_a_migration_that_serves_it_starts_again(
    later_db: str,
) -> None:
    async with Engine(later_db, [Namespace[Any]("orders")]):
        pass


async def test_a_worker_that_a_later_schema_does_not_serve_refuses(later_db: str) -> None:
    with psycopg.connect(later_db) as connection:
        connection.execute(
            "create or replace function pgprog_engine.oldest_served() returns integer"
            f" language sql as 'select {_LATER}'"
        )

    with pytest.raises(SchemaMismatch, match=f"the database is {_LATER}") as caught:
        await Engine(later_db, [Namespace[Any]("orders")]).__aenter__()

    assert caught.value.hint == f"install a version of pgprog of schema {_LATER} or later"


async def test_a_worker_refuses_a_schema_before_its_own(
    fresh_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "latest_version", lambda: _LATER)

    with pytest.raises(SchemaMismatch, match=f"needs {_LATER}") as caught:
        await Engine(fresh_db, [Namespace[Any]("orders")]).__aenter__()

    assert caught.value.hint == "run `pgprog db migrate`"


def test_the_oldest_workers_that_are_served_are_not_newer_than_the_schema(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        row = connection.execute("select pgprog_engine.oldest_served()").fetchone()

    assert row is not None
    assert row[0] <= latest_version()
