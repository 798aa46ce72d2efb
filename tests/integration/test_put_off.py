"""What housekeeping puts off is told in the worker's log, in plain words."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgprog.store.engine_store import EngineStore

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = "lock table pgprog_data.attempts in share update exclusive mode"
FORGET = """
drop table pgprog_data.attempts_{week};
delete from pgprog_data.partitions where name = 'attempts_{week}'
"""
LAST_WEEK = (
    "select to_char(max(starts_at) at time zone 'UTC', 'YYYYMMDD') from pgprog_data.partitions"
)


@pytest.fixture
def held(fresh_db: str) -> Iterator[str]:
    """A database that lacks a partition of a table which somebody analyses."""
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        [[week]] = connection.execute(LAST_WEEK).fetchall()
        connection.execute(FORGET.format(week=week).encode())
        with connection.transaction():
            connection.execute(HOLD)
            yield fresh_db


async def test_partitions_that_are_put_off_are_logged_once(
    held: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = EngineStore(held, name="test")
    assert await store.maintain(key_ttl=timedelta(days=7))
    await store.close()

    told: list[Any] = [r for r in caplog.records if r.getMessage() == "put_off"]
    [record] = told
    assert record.fields["detail"] == (
        "somebody holds table pgprog_data.attempts:"
        " the partitions of its next weeks will be made later"
    )
