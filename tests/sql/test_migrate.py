"""Migrations: once, forward only, safe together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pgprog.errors import SchemaMismatch
from pgprog.store.migrate import latest_version, migrate, pending, script


def test_a_second_migration_finds_nothing_to_do(fresh_db: str) -> None:
    assert migrate(fresh_db) == []
    assert pending(fresh_db) == []


def test_two_migrations_at_once_are_safe(admin: Any) -> None:
    admin.execute("create database twice")
    dsn = psycopg.conninfo.make_conninfo(admin.info.dsn, dbname="twice")
    with ThreadPoolExecutor(2) as threads:
        applied = list(threads.map(migrate, [dsn, dsn]))
    admin.execute("drop database twice with (force)")

    assert sorted(map(bool, applied)) == [False, True]


def test_an_edited_migration_is_refused(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        connection.execute("update pgprog_data.schema_migrations set sha256 = 'x'")

    with pytest.raises(SchemaMismatch, match=r"0001_tables\.sql was changed"):
        migrate(fresh_db)


def test_a_changed_function_is_applied_again(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        connection.execute(
            "update pgprog_data.schema_functions set sha256 = 'x' where name like '%api/get.sql'"
        )

    assert migrate(fresh_db) == ["functions/api/get.sql"]


def test_the_printed_script_is_the_whole_schema(admin: Any) -> None:
    admin.execute("create database printed")
    dsn = psycopg.conninfo.make_conninfo(admin.info.dsn, dbname="printed")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script().encode())
        version = connection.execute("select pgprog.schema_version()").fetchone()
    left = migrate(dsn)
    admin.execute("drop database printed with (force)")

    assert version == (latest_version(),)
    assert left == []


def test_nothing_is_executable_by_everybody_and_definers_pin_their_path(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        loose = connection.execute(
            "select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname in ('pgprog', 'pgprog_engine') and ("
            "   has_function_privilege('public', p.oid, 'execute')"
            "   or (p.prosecdef"
            "     and not coalesce(p.proconfig::text, '') ~ 'search_path=pg_catalog'))"
        ).fetchall()

    assert loose == []


def test_every_function_has_a_comment(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        bare = connection.execute(
            "select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname in ('pgprog', 'pgprog_engine')"
            "   and obj_description(p.oid, 'pg_proc') is null"
        ).fetchall()

    assert bare == []
