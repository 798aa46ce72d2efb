"""What is shown of the database may be old, but never says that a dead one lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgprog.metrics import Sample
from pgprog.store import gauges
from pgprog.store.gauges import Gauges

if TYPE_CHECKING:
    import pytest


async def wait_until_up_is(shown: Gauges, wanted: float) -> None:
    async with asyncio.timeout(20):
        while [s.value for s in shown.samples if s.name == "pgprog_database_up"] != [wanted]:
            await asyncio.sleep(0.05)
            await shown.refresh()


async def test_a_database_that_is_lost_after_a_slow_look_is_down_within_seconds(
    fresh_db: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "_KEEP_FACTOR", 1_000_000)  # as if the look had taken a minute
    name = conninfo_to_dict(fresh_db)["dbname"]
    shown = Gauges(fresh_db, name="test")
    await wait_until_up_is(shown, 1.0)
    admin.execute(f"alter database {name} allow_connections false".encode())
    try:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,)
        )
        await wait_until_up_is(shown, 0.0)
    finally:
        admin.execute(f"alter database {name} allow_connections true".encode())
    await wait_until_up_is(shown, 1.0)
    await shown.close()


async def test_a_count_that_waits_for_a_lock_leaves_the_database_up_and_the_last_figures(
    fresh_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "_KEEP_SECONDS", 0.0)
    monkeypatch.setattr(gauges, "_KEEP_FACTOR", 0)
    shown = Gauges(fresh_db, name="test")
    with psycopg.connect(fresh_db, autocommit=True) as operator:
        operator.execute("select pgprog_engine._create_namespace('orders', '{}')")
        await wait_until_up_is(shown, 1.0)
        await shown.refresh()
        before = (shown.samples, shown.components)
        with operator.transaction():
            operator.execute("lock table pgprog_data.queue")
            for _ in range(2):  # the second asks on another connection
                await shown.refresh(patience=0.1)
                await wait_until_up_is(shown, 1.0)  # a connection takes what it takes
                assert (shown.samples, shown.components) == before
        await shown.refresh()
    await shown.close()

    assert Sample("pgprog_database_up", (), 1.0) in before[0]
    assert Sample("pgprog_workers", ("orders",), 0.0) in before[0]
