"""A stranger's question: does the database do what a worker asks of it?"""

from __future__ import annotations

import asyncio

import psycopg

from pgprog.errors import PgprogError
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
