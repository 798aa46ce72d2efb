"""What a feed tells of a real server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.streams import END_STREAMS, TABLE, ask, reading, write

from pgprog.replication import messages as m
from pgprog.replication.messages import UNCHANGED

PLAIN = "insert into notes (id) values (0)"
INSERT = "insert into notes values (1, 'a', '\\x00ff', '2026-11-28 12:00:00.5+00')"
ROW = (1, "a", b"\x00\xff", datetime(2026, 11, 28, 12, 0, 0, 500000, tzinfo=UTC))


@pytest.fixture
def noted(fresh_db: str) -> str:
    """A database with a published table."""
    write(fresh_db, TABLE)
    return fresh_db


async def test_committed_changes_are_told_in_order_and_each_transaction_at_once(
    noted: str,
) -> None:
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(
            noted, INSERT, f"begin; delete from notes; {INSERT}; update notes set name = 'b'; end"
        )
        first, second = await feed.next(m.Transaction), await feed.next(m.Transaction)

    assert [type(change) for change in first.changes] == [m.Insert]
    assert first.changes[0].new == ROW  # type: ignore[union-attr]
    assert [type(change) for change in second.changes] == [m.Delete, m.Insert, m.Update]
    assert first.end_lsn < second.end_lsn
    assert first.xid < second.xid


async def test_what_is_rolled_back_is_never_told(noted: str) -> None:
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, f"begin; {INSERT}; rollback", INSERT)
        changes = await feed.changes()

    assert len(changes) == 1


async def test_the_stream_begins_with_what_it_leaves_out(noted: str) -> None:
    write(noted, INSERT)
    async with reading(noted) as feed:
        connected = await feed.next(m.Connected)
        write(noted, "update notes set name = 'b'")
        told = await feed.next(m.Transaction)

    ((xmin, fingerprint),) = ask(
        noted, "select xmin::text, fingerprint from notes, pgprog.replication_state('{notes}')"
    )
    assert int(connected.snapshot.split(":")[1]) <= told.xid == int(xmin)
    assert connected.fingerprint == fingerprint
    assert connected.slot.startswith("pgprog_reader_")
    assert connected.lsn < told.end_lsn


async def test_15_a_toasted_value_that_an_update_leaves_alone_is_unchanged(noted: str) -> None:
    big = "repeat('x', 1000000)::bytea"
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, f"insert into notes (id, name, state) values (1, null, {big}), (2, '', '')")
        write(noted, "update notes set name = 'b'")
        inserted, updated = await feed.rows(), await feed.rows()

    assert inserted == [(1, None, b"x" * 1_000_000, None), (2, "", b"", None)]
    assert updated == [(1, "b", UNCHANGED, None), (2, "b", b"", None)]


async def test_14_truncate_is_told(noted: str) -> None:
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, INSERT, "truncate notes", INSERT)
        told = [await feed.changes() for _ in range(3)]

    assert [type(change) for (change,) in told] == [m.Insert, m.Truncate, m.Insert]


@pytest.mark.parametrize(
    ("ddl", "row"),
    [
        ("alter table notes add column more integer default 7", (*ROW, 7)),
        ("alter table notes drop column name", (ROW[0], *ROW[2:])),
        ("alter table notes rename column name to title", ROW),
        ("alter table notes alter column id type text", ("1", *ROW[1:])),
    ],
)
async def test_14_a_table_that_was_altered_is_told_before_its_rows(
    noted: str, ddl: str, row: Any
) -> None:
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, INSERT, ddl, "update notes set at = at")
        before, after = await feed.changes(), await feed.changes()

    assert [type(change) for change in before] == [m.Insert]
    assert [type(change) for change in after] == [m.Reshaped, m.Update]
    assert after[1].new == row  # type: ignore[union-attr]


async def test_14_a_change_of_columns_that_nobody_wants_is_not_told(noted: str) -> None:
    wanted = {"public.notes": ["name", "id"]}
    async with reading(noted, columns=wanted) as feed:
        await feed.next(m.Connected)
        write(noted, INSERT, "alter table notes drop column state", "update notes set at = at")
        told = [await feed.rows(), await feed.rows()]

    assert told == [[("a", 1)], [("a", 1)]]


async def test_14_a_wanted_column_that_was_dropped_ends_the_stream_with_the_fix(
    noted: str,
) -> None:
    async with reading(noted, columns={"public.notes": ["name", "id"]}) as feed:
        await feed.next(m.Connected)
        write(noted, "alter table notes drop column name", INSERT.replace("'a', ", ""))
        lost = await feed.next(m.Lost)

    assert "name" in str(lost.error)
    assert lost.error.hint == "run `pgprog db migrate --again`"


async def test_only_tasks_that_wait_wake_anybody_and_no_payload_is_sent(fresh_db: str) -> None:
    if ask(fresh_db, "select current_setting('server_version_num')::integer < 150000") == [(True,)]:
        pytest.skip("PostgreSQL 14 publishes whole rows, of any status")
    make = (
        "insert into pgprog_data.queue (task_id, namespace, process_id, incarnation, type, status,"
        " due_at, rank, created_at, args) select n, 'o', 'p', n, 'call', s, now(), now(), now(),"
        """ '{"secret": 1}' from unnest('{w,b,f,h}'::"char"[]) with ordinality as u (s, n)"""
    )
    async with reading(fresh_db, publications=["pgprog_wakeups"]) as feed:
        await feed.next(m.Connected)
        write(fresh_db, make, "update pgprog_data.queue set status = 'w'")
        write(fresh_db, "delete from pgprog_data.queue", make)
        told, next_told = await feed.rows(), await feed.rows()

    assert [row[:3] for row in told] == [(1, "o", "w"), (3, "o", "f")]
    assert [len(row) for row in told] == [4, 4]
    assert [row[:3] for row in next_told] == [row[:3] for row in told]


async def test_16_a_row_that_leaves_the_condition_of_its_publication_is_told_as_deleted(
    noted: str,
) -> None:
    if ask(noted, "select current_setting('server_version_num')::integer < 150000") == [(True,)]:
        pytest.skip("PostgreSQL 14 has no conditions")
    write(noted, "alter publication notes set table notes where (id > 0)")
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, INSERT, "update notes set id = -1", "update notes set id = 2")
        told = [await feed.changes() for _ in range(3)]

    assert [type(change) for (change,) in told] == [m.Insert, m.Delete, m.Insert]


async def test_a_cache_and_wake_ups_may_be_followed_by_one_stream(fresh_db: str) -> None:
    names = ["pgprog_processes", "pgprog_events", "pgprog_wakeups", "pgprog_answers"]
    async with reading(fresh_db, publications=names) as feed:
        await feed.next(m.Connected)
        write(fresh_db, "select pgprog_engine._create_namespace('o', '{}')")
        write(fresh_db, "select pgprog.init('o', 'p')")
        changes = await feed.changes()

    tables = {change.relation.name for change in changes if isinstance(change, m.Insert)}
    assert tables == {"processes", "queue"}


async def test_18_savepoints_are_told_with_their_transaction_and_those_rolled_back_not(
    noted: str,
) -> None:
    insert = "insert into notes (id) values ({})"
    parts = ["begin", insert.format(1)]
    for kept, end in ((2, "release s"), (3, "rollback to s")):
        parts += ["savepoint s", insert.format(kept), end]
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, "; ".join([*parts, insert.format(4), "commit"]))
        rows = await feed.rows()

    assert [row[0] for row in rows] == [1, 2, 4]


@pytest.mark.slow  # writes and reads 20 000 rows
async def test_18_a_transaction_of_20_000_rows_is_told_whole(noted: str) -> None:
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, "insert into notes (id) select generate_series(1, 20000)", PLAIN)
        rows, after = await feed.rows(), await feed.rows()

    assert [row[0] for row in rows] == list(range(1, 20001))
    assert after[0][0] == 0


async def test_a_transaction_over_the_bound_is_told_as_such_and_the_stream_goes_on(
    noted: str,
) -> None:
    async with reading(noted, max_bytes=2000) as feed:
        await feed.next(m.Connected)
        write(noted, "insert into notes (id) select generate_series(1, 100)", PLAIN)
        oversized, after = await feed.next(m.Oversized), await feed.rows()

    assert oversized.size > 2000
    assert after[0][0] == 0


async def test_rows_come_the_same_whatever_the_settings_of_the_server(noted: str) -> None:
    odd = make_conninfo(
        noted,
        options="-c datestyle=German -c timezone=Asia/Kathmandu -c bytea_output=escape",
        client_encoding="LATIN1",
    )
    async with reading(odd) as feed:
        await feed.next(m.Connected)
        write(noted, INSERT.replace("'a'", "'ä€'"))
        rows = await feed.rows()

    assert rows == [(ROW[0], "ä€", *ROW[2:])]


async def test_12_a_transaction_is_told_whole_or_not_at_all_when_the_stream_is_cut(
    noted: str,
) -> None:
    large = (
        "insert into notes (id, name) select n, repeat('x', 9000) from generate_series(1, 2000) n"
    )
    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, large)  # far more than a socket holds, and nobody reads it
        write(noted, END_STREAMS)
        lost = await feed.next(m.Lost)
        await feed.next(m.Connected)
        write(noted, PLAIN)
        rows = await feed.rows()

    assert "terminating" in str(lost.error)
    assert not [event for event in feed.passed if isinstance(event, m.Transaction)]
    assert [row[0] for row in rows] == [0]
