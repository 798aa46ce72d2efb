"""Migrations: once, forward only, safe together."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgprog.errors import SchemaMismatch
from pgprog.store.migrate import (
    SchemaFile,
    apply_again,
    latest_version,
    migrate,
    missing_publications,
    pending,
    publication,
    script,
    sql_directory,
)
from pgprog.store.package import digests_of_bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PUBLISHED = (
    "select t.pubname, t.tablename, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate"
    " from pg_publication_tables as t join pg_publication as p on p.pubname = t.pubname"
    " where t.pubname like 'pgprog%' order by 1, 2"
)
THIN = (
    "select tablename, attnames::text[], rowfilter is not null from pg_publication_tables"
    " where pubname in ('pgprog_answers', 'pgprog_wakeups') and tablename <> 'timers' order by 1"
)


def test_no_plain_string_of_the_sql_has_a_backslash() -> None:
    """Where standard_conforming_strings is off it would be another string; E'' is always one."""
    found = [
        (path.name, line)
        for path in sql_directory().rglob("*.sql")
        for line in path.read_text().splitlines()
        if "\\" in re.sub(r"\bE'[^']*'|^ *--.*", "", line)
    ]

    assert found == []


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


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_migrated_and_current(admin: Any, encoding: str) -> None:
    """SQL_ASCII is what initdb makes where no locale is set; its texts came as bytes."""
    name = f"of_{encoding.lower()}"
    admin.execute(
        f"create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        " template template0"
    )
    try:
        dsn = make_conninfo(admin.info.dsn, dbname=name)
        migrate(dsn)

        assert migrate(dsn) == []
        assert pending(dsn) == []
        with psycopg.connect(dsn, client_encoding="utf8") as connection:
            bodies = connection.execute(
                "select n.nspname || '.' || f.proname,"
                " encode(sha256(convert_to(f.prosrc, 'UTF8')), 'hex')"
                " from pg_proc as f join pg_namespace as n on n.oid = f.pronamespace"
                " where n.nspname in ('pgprog', 'pgprog_engine')"
            ).fetchall()
        assert digests_of_bodies().items() <= dict(bodies).items()
    finally:
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def on_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What is done between two tries of a migration, once each."""
    todo: list[Callable[[], object]] = []
    monkeypatch.setattr("pgprog.store.migrate.time.sleep", lambda _: todo.pop()())
    yield todo
    assert todo == []


def test_time_outs_of_a_role_do_not_end_a_migration(
    fresh_db: str, on_pause: list[Callable[[], object]]
) -> None:
    with psycopg.connect(fresh_db) as other:
        other.execute(f"alter database {other.info.dbname} set statement_timeout = '50ms'")
        other.commit()
        other.execute("select pg_advisory_xact_lock(hashtextextended('pgprog.migrate', 0))")
        on_pause.append(other.rollback)

        assert migrate(fresh_db, lock_timeout="200ms") == []


def test_a_view_that_somebody_reads_keeps_nobody_else_from_it_while_all_is_applied_again(
    fresh_db: str, on_pause: list[Callable[[], object]]
) -> None:
    """Whoever comes later waits behind who waits for the whole view: all workers did."""
    with psycopg.connect(fresh_db) as other:
        other.execute("select from pgprog.namespaces")
        on_pause.append(other.rollback)

        assert "views/views.sql" in apply_again(fresh_db, lock_timeout="100ms")


def test_a_migration_that_is_given_up_for_a_deadlock_is_tried_again(
    fresh_db: str, on_pause: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"lock table pgprog_data.queue; lock table pgprog_data.timers;"
    file = SchemaFile(name="functions/engine/locks.sql", text=text)
    monkeypatch.setattr("pgprog.store.migrate.functions", lambda: [file])
    with psycopg.connect(fresh_db) as other, ThreadPoolExecutor(1) as thread:
        other.execute("set local deadlock_timeout = '1 min'")
        other.execute("lock table pgprog_data.timers")
        migrating = thread.submit(migrate, fresh_db, lock_timeout="1 min")
        on_pause.append(other.rollback)
        with psycopg.connect(fresh_db, autocommit=True) as looking:
            while (
                looking.execute(
                    "select from pg_locks where relation = 'pgprog_data.timers'::regclass"
                    " and not granted"
                ).fetchone()
                is None
            ):
                pass
        other.execute("lock table pgprog_data.queue")

        assert migrating.result() == [file.name]


def test_an_edited_migration_is_refused(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        connection.execute("update pgprog_data.schema_migrations set sha256 = 'x'")

    with pytest.raises(SchemaMismatch, match=r"0001_tables\.sql was changed"):
        migrate(fresh_db)


def test_line_ends_of_windows_are_no_change(
    fresh_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "sql"
    shutil.copytree(sql_directory(), checkout)
    for path in checkout.rglob("*.sql"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr("pgprog.store.migrate.sql_directory", lambda: checkout)

    assert pending(fresh_db) == []
    assert migrate(fresh_db) == []


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
        connection.execute("set standard_conforming_strings = off")
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


@pytest.fixture
def limited(admin: Any) -> Iterator[str]:
    """A database whose role may make anything in it, where one publication is a DBA's."""
    admin.execute("create role limited login")
    admin.execute("create database limited")
    admin.execute("grant create on database limited to limited")
    dsn = make_conninfo(admin.info.dsn, dbname="limited")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create publication pgprog_events")
    yield dsn
    admin.execute("drop database limited with (force)")
    admin.execute("drop role limited")


def test_what_readers_follow_is_published(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        published = connection.execute(PUBLISHED).fetchall()

    assert published == [
        ("pgprog_answers", "tasks", True, False, False, False),
        ("pgprog_events", "events", True, False, False, True),
        ("pgprog_processes", "processes", True, True, True, True),
        ("pgprog_processes", "timers", True, True, True, True),
        ("pgprog_wakeups", "queue", True, False, False, False),
        ("pgprog_wakeups", "timers", True, False, False, False),
    ]


def test_wake_ups_are_published_without_payloads(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        if connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 14 publishes whole rows")
        thin = connection.execute(THIN).fetchall()

    assert thin == [
        ("queue", ["task_id", "namespace", "status", "due_at"], True),
        ("tasks", ["task_id", "namespace"], False),
    ]


def test_a_publication_that_was_dropped_is_made_again(fresh_db: str) -> None:
    with psycopg.connect(fresh_db) as connection:
        connection.execute("drop publication pgprog_events")
    missing = missing_publications(fresh_db), pending(fresh_db)

    assert missing == (["pgprog_events"], ["publication.sql"])
    assert migrate(fresh_db) == ["publication.sql"]
    assert (missing_publications(fresh_db), pending(fresh_db)) == ([], [])


def test_a_role_that_may_not_publish_migrates_the_rest_and_a_dba_does_it_later(
    limited: str,
) -> None:
    dsn = make_conninfo(limited, user="limited")
    applied = migrate(dsn)
    missing = missing_publications(dsn)
    with psycopg.connect(limited, autocommit=True) as dba:
        dba.execute(publication().text)

    assert "publication.sql" not in applied
    assert missing == ["pgprog_answers", "pgprog_processes", "pgprog_wakeups"]
    assert migrate(dsn) == pending(dsn) == missing_publications(dsn) == []


def test_the_publications_may_be_made_again_and_again(fresh_db: str) -> None:
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        before = connection.execute(PUBLISHED).fetchall()
        connection.execute("alter publication pgprog_events add table pgprog_data.keys")
        connection.execute("alter publication pgprog_processes set (publish = 'insert')")
        connection.execute(publication().text)

        assert connection.execute(PUBLISHED).fetchall() == before
