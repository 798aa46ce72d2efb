"""Reads and bound requests that PostgreSQL gives up: callers see errors that they can catch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pgprog import AsyncClient
from pgprog.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.direct("pgbouncer refuses options in a DSN")
async def test_a_read_that_the_database_gives_up_is_an_error_of_pgprog(
    db: str, sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(f"{db} options='-c lock_timeout=50ms'") as client:
        with sql.transaction():
            sql.execute("lock table pgprog_data.processes in access exclusive mode")
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                await client.get("idle", "i")


async def test_an_error_of_the_applications_own_transaction_stays_that_of_psycopg(
    db: str, session: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    own = session()
    sql.execute("select pgprog_engine._create_namespace('idle', '{}')")
    async with AsyncClient(db) as client:
        with sql.transaction():
            sql.execute("lock table pgprog_data.queue in access exclusive mode")
            own.execute("set lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                client.bind(own).submit("init", "idle", "i")


@pytest.mark.parametrize("cursor", [psycopg.RawCursor, psycopg.ClientCursor])
async def test_a_bound_client_takes_a_connection_as_its_application_has_set_it(
    db: str, session: Callable[[], Any], sql: psycopg.Connection[Any], cursor: Any
) -> None:
    sql.execute("select pgprog_engine._create_namespace('idle', '{}')")
    own: Any = session()
    own.row_factory = dict_row
    own.cursor_factory = cursor
    async with AsyncClient(db) as client:
        task_id = client.bind(own).submit("init", "idle", "i", {"a": 1})

        assert (await client.result(task_id)).status == "waiting"
