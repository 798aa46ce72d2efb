"""Questions of strangers: does the database do what a worker asks of it, and which one is it?"""

from __future__ import annotations

import asyncio

import psycopg

from pgprog.errors import PgprogError, StoreUnavailable
from pgprog.store.faults import RolledBack, translated
from pgprog.store.pool import connect


async def answers(dsn: str, *, name: str, within: float) -> bool:
    """Return whether it answers on a new connection within so many seconds.

    What is asked for changes nothing, and waits for the locks that a claim and a renewal wait for:
    a migration that holds the tables of all workers lets nobody through here either.
    """
    try:
        async with asyncio.timeout(within), connect(dsn, name=name) as connection:
            with translated():
                await connection.execute("select from pgprog.namespaces limit 1")
                await connection.execute("select pgprog_engine.hand_back('{}', '{}')")
    except (PgprogError, RolledBack, TimeoutError, psycopg.Error):
        return False
    return True


async def database_of(dsn: str, *, name: str) -> str:
    """Return what tells a database from every other: of which cluster it is, and its name.

    A standby is of the cluster of its primary.

    Raises:
        StoreUnavailable: It cannot be asked.
    """
    query = "select current_database(), system_identifier from pg_control_system()"
    try:
        async with connect(dsn, name=name) as connection:
            row = await (await connection.execute(query)).fetchone()
    except psycopg.Error as e:
        raise StoreUnavailable(str(e)) from e
    assert row is not None  # noqa: S101 - it answers with one row
    return f"database {row[0]} of cluster {row[1]}"
