"""Servers that cannot be followed: what is wrong is named, and tried again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.streams import TABLE, ask, reading, write

from pgprog.cache.stream import PUBLISHED as CACHED
from pgprog.embedded import EmbeddedPostgres
from pgprog.errors import ConfigError, ReplicationLost, ReplicationRefused
from pgprog.replication import messages as m
from pgprog.replication import opening
from pgprog.store.faults import RolledBack
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.streams import Reading

PLAIN = "insert into notes (id) values (0)"
NOTES = {"public.notes": ["id", "name"]}


@pytest.fixture
def noted(fresh_db: str) -> str:
    write(fresh_db, TABLE)
    return fresh_db


async def refused(feed: Reading) -> ReplicationRefused:
    """Return why the next attempt fails."""
    error = (await feed.next(m.Lost)).error
    assert isinstance(error, ReplicationRefused), error
    assert error.hint
    return error


async def refused_by(feed: Reading, reason: str) -> ReplicationRefused:
    """Wait until an attempt fails for this reason; the server may not have seen the fix before."""
    while (error := await refused(feed)).reason != reason:
        pass
    return error


@pytest.fixture
def follower(admin: Any, noted: str) -> Iterator[str]:
    """A role that may nothing but log in."""
    admin.execute("create role follower login")
    yield make_conninfo(noted, user="follower")
    admin.execute("drop owned by follower")
    write(noted, "drop owned by follower")
    admin.execute("drop role follower")


async def test_a_role_needs_replication_and_the_state_and_no_table(
    admin: Any, noted: str, follower: str
) -> None:
    async with reading(follower) as feed:
        first = await refused(feed)
        admin.execute("alter role follower replication")
        second = await refused_by(feed, "privilege")
        while "replication_state" not in str(second) and "schema" not in str(second):
            second = await refused(feed)
        write(noted, "grant usage on schema pgprog to follower")
        write(noted, "grant execute on function pgprog.replication_state to follower")
        await feed.next(m.Connected)
        write(noted, PLAIN)
        rows = await feed.rows()

    assert first.reason == second.reason == "privilege"
    assert "alter role follower replication" in str(first.hint)
    assert "grant pgprog_replicator to follower" in str(second.hint)
    assert rows == [(0, None, None, None)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(follower, "select * from notes")


async def test_a_question_that_is_cut_off_leaves_why_one_is_kept_out_untold_and_ends_nothing(
    follower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(_: object) -> bool:
        msg = "canceling statement due to statement timeout"
        raise RolledBack(msg)

    monkeypatch.setattr(opening, "is_pooled", cut_off)
    async with reading(follower) as feed:
        errors = [(await feed.next(m.Lost)).error for _ in range(2)]

    assert [type(error) for error in errors] == [ReplicationLost] * 2


async def test_13_a_publication_that_is_missing_is_named_and_waited_for(fresh_db: str) -> None:
    async with reading(fresh_db, publications=["pgprog_events", "notes"]) as feed:
        error = await refused(feed)
        write(fresh_db, TABLE)
        await feed.next(m.Connected)

    assert error.reason == "publication"
    assert str(error) == "there is no publication notes"
    assert "db migrate" in str(error.hint)


async def test_13_a_wanted_table_that_is_not_published_is_named(noted: str) -> None:
    wanted = {"public.notes": ["id"], "pgprog_data.events": ["event_id"]}
    async with reading(noted, columns=wanted) as feed:
        error = await refused(feed)

    assert error.reason == "publication"
    assert "pgprog_data.events" in str(error)
    assert "public.notes" not in str(error)


WHOLE = {"public.notes": ["insert", "update", "delete", "truncate"]}


@pytest.mark.parametrize(
    ("alteration", "left_out"),
    [
        ("set (publish = 'insert')", "update of public.notes, delete of public.notes, truncate of"),
        ("set (publish = 'insert, update, delete')", "every truncate of public.notes"),
        ("set table notes where (id > 0)", "every insert of public.notes, update of public.notes,"),
        ("set table notes (id)", "leave out public.notes.name"),
    ],
)
async def test_13_what_a_publication_leaves_out_is_named_and_waited_for(
    noted: str, alteration: str, left_out: str
) -> None:
    if "notes " in alteration and _is_before_15(noted):
        pytest.skip("PostgreSQL 14 has neither lists of columns nor conditions")
    write(noted, f"alter publication notes {alteration}")
    async with reading(noted, columns=NOTES, whole=WHOLE) as feed:
        error = await refused(feed)
        write(noted, "alter publication notes set table notes")
        write(noted, "alter publication notes set (publish = 'insert, update, delete, truncate')")
        await feed.next(m.Connected)

    assert error.reason == "publication"
    assert left_out in str(error)
    assert "db migrate --again" in str(error.hint)


async def test_13_a_table_that_is_told_by_a_publication_of_less_is_not_told(
    fresh_db: str,
) -> None:
    write(fresh_db, "alter publication pgprog_processes drop table pgprog_data.timers")
    names = ["pgprog_processes", "pgprog_events", "pgprog_wakeups"]
    wanted = {"columns": CACHED.columns, "whole": CACHED.whole}
    async with reading(fresh_db, publications=names, **wanted) as feed:
        error = await refused(feed)

    assert error.reason == "publication"
    assert "every update of pgprog_data.timers, delete of pgprog_data.timers" in str(error)


async def test_13_what_one_publication_leaves_out_may_be_told_by_another(noted: str) -> None:
    write(noted, "alter publication notes set (publish = 'insert, truncate')")
    write(noted, "create publication others for table notes with (publish = 'update, delete')")
    names = ["notes", "others"]
    async with reading(noted, publications=names, columns=NOTES, whole=WHOLE) as feed:
        await feed.next(m.Connected)
        write(noted, PLAIN, "update notes set name = 'b'", "delete from notes", "truncate notes")
        told = [type(change) for _ in range(4) for change in await feed.changes()]

    assert told == [m.Insert, m.Update, m.Delete, m.Truncate]


async def test_13_a_publication_that_is_altered_while_a_slot_is_made_is_looked_at_again(
    noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slot = opening._Opening._make_slot

    async def meanwhile(self: Any, slot: str) -> int:
        write(noted, "alter publication notes set (publish = 'insert')")
        return await make_slot(self, slot)

    monkeypatch.setattr(opening._Opening, "_make_slot", meanwhile)
    async with reading(noted, columns=NOTES, whole=WHOLE) as feed:
        first = await anext(feed.events)

    assert isinstance(first, m.Lost)
    assert "update of public.notes" in str(first.error)


def _is_before_15(dsn: str) -> bool:
    [(is_before,)] = ask(dsn, "select current_setting('server_version_num')::integer < 150000")
    return bool(is_before)


async def test_a_replica_identity_without_the_primary_key_is_named_and_waited_for(
    noted: str,
) -> None:
    write(noted, "alter table notes alter column name set not null")
    write(noted, "create unique index names on notes (name)")
    write(noted, "alter table notes replica identity using index names")
    async with reading(noted, columns=NOTES) as feed:
        error = await refused(feed)
        write(noted, str(error.hint))
        await feed.next(m.Connected)

    assert error.reason == "identity"
    assert "replica identity of public.notes is without the primary key" in str(error)
    assert error.hint == "alter table public.notes replica identity default"


async def test_a_replica_identity_that_is_altered_ends_the_stream(noted: str) -> None:
    write(noted, "alter table notes alter column name set not null")
    write(noted, "create unique index names on notes (name)")
    async with reading(noted, columns=NOTES) as feed:
        await feed.next(m.Connected)
        write(noted, "insert into notes (id, name) values (0, 'a')")
        await feed.rows()
        write(noted, "alter table notes replica identity using index names", "delete from notes")
        lost = (await feed.next(m.Lost)).error
        error = await refused(feed)

    assert "replica identity of public.notes was altered" in str(lost)
    assert error.reason == "identity"
    assert not [each for each in feed.passed if isinstance(each, m.Transaction)]


@pytest.mark.parametrize("identity", ["full", "using index notes_pkey"])
async def test_a_replica_identity_with_the_primary_key_is_followed(
    noted: str, identity: str
) -> None:
    write(noted, f"alter table notes replica identity {identity}")
    async with reading(noted, columns=NOTES) as feed:
        await feed.next(m.Connected)
        write(noted, PLAIN, "delete from notes")
        await feed.rows()
        [deleted] = await feed.changes()

    assert isinstance(deleted, m.Delete)
    assert deleted.old[0] == 0


async def test_13_a_publication_that_is_dropped_ends_the_stream_or_changes_the_fingerprint(
    noted: str,
) -> None:
    state = "select fingerprint, missing from pgprog.replication_state('{notes}')"
    async with reading(noted) as feed:
        connected = await feed.next(m.Connected)
        write(noted, "drop publication notes", PLAIN)
        ((fingerprint, missing),) = ask(noted, state)
        if ask(noted, "select current_setting('server_version_num')::integer < 180000") == [
            (True,)
        ]:
            await feed.next(m.Lost)
            assert (await refused(feed)).reason == "publication"

    assert fingerprint != connected.fingerprint
    assert missing == ["notes"]


async def test_a_database_without_our_schema_is_refused_with_the_fix(admin: Any) -> None:
    admin.execute("create database bare")
    dsn = make_conninfo(admin.info.dsn, dbname="bare")
    write(dsn, TABLE)
    async with reading(dsn) as feed:
        error = await refused(feed)
    admin.execute("drop database bare with (force)")

    assert (error.reason, error.hint) == ("schema", "run `pgprog db migrate`")


async def test_a_slot_that_waits_for_a_transaction_is_tried_again(
    noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_SETTINGS", "set lock_timeout = '50ms'")
    with psycopg.connect(noted) as writer:
        writer.execute(PLAIN.encode())
        async with reading(noted) as feed:
            lost = await feed.next(m.Lost)
            writer.commit()
            await feed.next(m.Connected)

    assert "a slot waits for its end" in str(lost.error.hint)


async def test_a_server_that_is_not_there_is_said_once_and_tried_again(
    noted: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with reading(make_conninfo(noted, host="/nowhere")) as feed:
        errors = [(await feed.next(m.Lost)).error for _ in range(3)]

    assert [type(error) for error in errors] == [ReplicationLost] * 3
    assert [record.message for record in caplog.records] == ["replication_lost"]


async def test_a_dsn_that_cannot_be_read_is_no_matter_of_replication() -> None:
    async with reading("nonsense") as feed:
        with pytest.raises(ConfigError):
            await feed.next(m.Lost)


@pytest.fixture(scope="module")
def narrow() -> Iterator[str]:
    """A server with one sender and two slots, which knows prepared transactions."""
    room = {"max_wal_senders": "1", "max_replication_slots": "2", "max_prepared_transactions": "2"}
    with EmbeddedPostgres(durable=False, settings=room) as server:
        migrate(server.dsn)
        write(server.dsn, TABLE)
        yield server.dsn


@pytest.mark.slow  # starts a server of its own
async def test_a_server_without_a_free_slot_is_named_and_waited_for(narrow: str) -> None:
    write(narrow, *(f"select pg_create_physical_replication_slot('{n}', true)" for n in "ab"))
    async with reading(narrow) as feed:
        error = await refused(feed)
        write(narrow, *(f"select pg_drop_replication_slot('{n}')" for n in "ab"))
        await feed.next(m.Connected)

    assert error.reason == "slots"
    assert "max_replication_slots" in str(error.hint)


@pytest.mark.slow  # starts a server of its own
async def test_a_server_without_a_free_sender_is_named_and_waited_for(narrow: str) -> None:
    async with reading(narrow) as waiting:
        async with reading(narrow) as first:
            while not await _is_connected(first):
                pass
            error = await refused(waiting)
        await waiting.next(m.Connected)

    assert error.reason == "senders"
    assert "max_wal_senders" in str(error.hint)


async def _is_connected(feed: Reading) -> bool:
    """Tell whether the next event is a connection; the sender of an earlier test may be ending."""
    return isinstance(await anext(feed.events), m.Connected)


@pytest.mark.slow  # starts a server of its own
async def test_18_a_prepared_transaction_is_told_when_it_is_committed(narrow: str) -> None:
    async with reading(narrow) as feed:
        await feed.next(m.Connected)
        write(narrow, "begin; insert into notes (id) values (1); prepare transaction 'one'")
        write(narrow, "begin; insert into notes (id) values (2); prepare transaction 'two'")
        write(narrow, "insert into notes (id) values (3)")
        write(narrow, "rollback prepared 'one'", "commit prepared 'two'")
        told = [await feed.rows(), await feed.rows()]

    assert [[row[0] for row in rows] for rows in told] == [[3], [2]]


@pytest.mark.slow  # starts a server of its own
async def test_a_server_whose_log_is_not_logical_is_refused_with_the_fix() -> None:
    with EmbeddedPostgres(durable=False, settings={"wal_level": "replica"}) as server:
        migrate(server.dsn)
        async with reading(server.dsn, publications=["pgprog_events"]) as feed:
            error = await refused(feed)

    assert error.reason == "wal_level"
    assert "wal_level = logical" in str(error.hint)
