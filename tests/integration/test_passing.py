"""Where the claims of a worker begin, while they are to pass by what has ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.store.engine_store import EngineStore
from pgprog.store.rows import Place, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgprog.store.rows import Claims

FIRST = Place(datetime.min.replace(tzinfo=UTC), 0)


class Passing:
    """A worker of PostgreSQL whose claims begin where the last one came to."""

    def __init__(self, store: EngineStore, worker_id: int) -> None:
        self.store = store
        self.since = FIRST
        self._worker_id = worker_id

    async def claimed(self, limit: int = 10) -> Claims:
        claims = await self.store.claim(self._worker_id, limit, held={}, since=self.since)
        self.since = claims.seen or self.since
        return claims


@pytest.fixture
async def passing(db: str) -> AsyncIterator[Passing]:
    store = EngineStore(db, name="test")
    serves = {"orders": Served(b"{}")}
    yield Passing(store, await store.register_worker("w", serves, timedelta(hours=1)))
    await store.close()


def init(connection: Any, process_id: str, *, more: str = "") -> None:
    connection.execute(f"select pgprog.init('orders', %s {more})", (process_id,))


async def test_a_look_says_what_waits_before_and_how_long_it_took_postgresql(
    sql: Any, passing: Passing
) -> None:
    passing.since = Place(datetime(2999, 1, 1, tzinfo=UTC), 0)
    assert (await passing.store.first_rank(passing.since))[0] is None
    init(sql, "before")
    rank, seconds = await passing.store.first_rank(passing.since)

    assert rank is not None
    assert 0 < seconds < 5
    claims = await passing.claimed()
    assert 0 < claims.seconds < 5
