"""Vacuum of the hot tables: it locks nobody out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import pytest
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

# Some hundred pages each.
_FILL: dict[str, LiteralString] = {
    "queue": """
insert into pgprog_data.queue (
  task_id, incarnation, namespace, process_id, type, status, rank, due_at, created_at, args)
select n, n, 'orders', 'p' || n, 'call', 'w', now(), now(), now(), to_jsonb(repeat('x', 200))
from generate_series(1, 5000) as n
""",
    "timers": """
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select n, '', n, 'orders', 'p' || n, 'timeout', now(), now() from generate_series(1, 5000) as n
""",
}


@pytest.mark.parametrize("table", _FILL)
def test_vacuum_never_cuts_a_hot_table_short_which_would_lock_everybody_out(
    session: Callable[[], psycopg.Connection[Any]], table: str
) -> None:
    connection = session()
    name = sql.Identifier("pgprog_data", table)
    connection.execute(_FILL[table])
    connection.execute(sql.SQL("delete from {}").format(name))

    connection.execute(sql.SQL("vacuum {}").format(name))

    assert _pages(connection, table) > 0
    connection.execute(sql.SQL("vacuum (truncate) {}").format(name))
    assert _pages(connection, table) == 0  # nothing else had kept them


@pytest.mark.parametrize("table", _FILL)
def test_nor_what_of_it_is_stored_apart(
    session: Callable[[], psycopg.Connection[Any]], table: str
) -> None:
    [options] = (
        session()
        .execute(
            "select t.reloptions from pg_class as c join pg_class as t on t.oid = c.reltoastrelid"
            " where c.oid = format('pgprog_data.%%I', %s::text)::regclass",
            (table,),
        )
        .fetchall()
    )

    assert options == (["vacuum_truncate=off"],)


def _pages(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute(
        "select pg_relation_size(format('pgprog_data.%%I', %s::text)::regclass) / 8192", (table,)
    ).fetchone()
    return 0 if row is None else int(row[0])
