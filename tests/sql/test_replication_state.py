"""What a reader of the replication stream must know of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLICATIONS = ["pgprog_processes", "pgprog_events"]


@pytest.fixture
def database(fresh_db: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        yield connection


def state(connection: Any, publications: list[str] = PUBLICATIONS) -> Any:
    query = "select * from pgprog.replication_state(%s)"
    cursor = connection.cursor(row_factory=psycopg.rows.namedtuple_row)
    return cursor.execute(query, (publications,)).fetchone()


def test_the_state_holds_the_end_of_the_log_and_a_snapshot(database: Any) -> None:
    before = state(database)
    database.execute("select pgprog_engine._create_namespace('o', '{}')")
    after = state(database)

    assert before.flush_lsn < after.flush_lsn
    assert int(before.snapshot.split(":")[1]) < int(after.snapshot.split(":")[1])
    assert before.fingerprint == after.fingerprint
    assert (after.missing, after.in_recovery) == ([], False)


def test_the_snapshot_is_that_of_the_statement(database: Any) -> None:
    snapshot, told = database.execute(
        "select pg_current_snapshot()::text, s.snapshot"
        " from pgprog.replication_state('{pgprog_events}') as s"
    ).fetchone()

    assert told == snapshot


ALTERATIONS = """
alter publication pgprog_events drop table pgprog_data.events
alter publication pgprog_events add table pgprog_data.keys
alter publication pgprog_events set (publish = 'insert')
drop publication pgprog_events; create publication pgprog_events for table pgprog_data.events
alter publication pgprog_events set table pgprog_data.keys, pgprog_data.events
alter publication pgprog_events drop table pgprog_data.events; \
alter publication pgprog_events add table pgprog_data.events
alter publication pgprog_events add tables in schema pgprog_data
""".strip().replace("\\\n", "")


@pytest.mark.parametrize("alteration", ALTERATIONS.splitlines())
def test_13_any_alteration_of_a_publication_changes_its_fingerprint(
    database: Any, alteration: str
) -> None:
    if "schema" in alteration and database.info.server_version < 150000:
        pytest.skip("PostgreSQL 14 publishes no schemas")
    before = state(database).fingerprint

    database.execute(alteration)

    assert state(database).fingerprint != before


def test_13_a_dropped_publication_is_named(database: Any) -> None:
    database.execute("drop publication pgprog_events")

    assert state(database).missing == ["pgprog_events"]


def test_the_fingerprint_is_of_the_named_publications_only_and_stands_a_freeze(
    database: Any,
) -> None:
    before = state(database).fingerprint
    database.execute("drop publication pgprog_wakeups")
    for catalogue in ("pg_publication", "pg_publication_rel"):
        database.execute(f"vacuum (freeze) {catalogue}")

    assert state(database).fingerprint == before
