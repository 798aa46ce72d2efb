"""What the manual for operators says of restores and connections is so."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.docs.guide import Reader

from pgprog import Engine, Intent, Namespace, SetTimer, Step
from pgprog.config import WorkerConfig
from pgprog.embedded.programs import find_programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = WorkerConfig(lease=timedelta(seconds=1), heartbeat_every=timedelta(milliseconds=200))


COUNTED = """
select
  count(*) filter (where application_name like 'pgprog worker%' and not is_step),
  count(*) filter (where is_step),
  count(*) filter (where application_name like 'pgprog client%')
from (
  select application_name, application_name like '% transaction' as is_step
  from pg_stat_activity
  where datname = current_database()) as a
"""


@pytest.fixture
def orders() -> Namespace[Any]:
    """Orders with a timer; each call adds."""
    namespace = Namespace("orders")

    @namespace.init
    async def begin(step: Step[Any], after: float) -> Intent[Any]:
        return Intent(state=0, events=["begun"], timers=[SetTimer(after=timedelta(seconds=after))])

    @namespace.call
    async def add(step: Step[Any]) -> Intent[Any, int]:
        return Intent(state=step.state + 1, events=["added"], response=step.state + 1)

    @namespace.call
    async def add_in_a_transaction(step: Step[Any]) -> Intent[Any, int]:
        async with step.transaction() as connection:
            await connection.execute("select 1")
        return Intent(response=step.state)

    return namespace


@pytest.fixture
def restored(fresh_db: str, admin: psycopg.Connection[Any]) -> Iterator[str]:
    """The DSN of the database that the manual restores into."""
    yield make_conninfo(fresh_db, dbname="restored")
    admin.execute("drop database if exists restored with (force)")


@pytest.fixture
def dead(fresh_db: str, orders: Namespace[Any]) -> str:
    """A database with an order whose worker died in a step, and a timer to come."""
    with Engine(fresh_db, [orders]) as engine:
        engine.init("orders", "o-1", {"after": 3600})
        engine.call("orders", "o-1", name="add", idempotency_key="k-1")
        engine.init("orders", "o-2", {"after": 3600})
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        connection.execute("select pgprog.call('orders', 'o-1', name => 'add')")
        connection.execute(
            "select pgprog_engine.claim("
            "  pgprog_engine.register_worker('dead', '{orders}', '{}', '10 s'), 1)"
        )
    return fresh_db


@pytest.mark.slow  # dumps a database and restores it
def test_a_restored_database_goes_on_where_the_backup_was(
    dead: str,
    restored: str,
    orders: Namespace[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{find_programs()}{os.pathsep}{os.environ['PATH']}")
    with psycopg.connect(dead) as connection:
        [[last]] = connection.execute("select max(task_id) from pgprog.tasks").fetchall()

    Reader(tmp_path, dead).follow("operations/manual.md")

    with Engine(restored, [orders], worker=QUICK) as engine:
        again = engine.call("orders", "o-1", name="add", idempotency_key="k-1")
        after = engine.submit("call", "orders", "o-1", name="add")
        assert after.wait(timeout=20) == 3  # behind the step that was lost
        process = engine.get(orders, "o-1", max_events=10)
        timers = [engine.explain("orders", name).reason for name in ("o-1", "o-2")]

    assert again == 1
    assert process is not None
    assert [event.payload for event in process.history] == ["begun", "added", "added", "added"]
    assert timers == ["timer", "timer"]
    assert after.task_id > last + 1_000_000


@pytest.mark.slow  # an engine under load
@pytest.mark.direct("sessions of a pooler bear the name of who had them last")
async def test_a_worker_and_its_client_hold_no_more_connections_than_the_manual_says(
    db: str, orders: Namespace[Any]
) -> None:
    names = [f"o-{number}" for number in range(100)]
    async with Engine(db, [orders]) as engine:
        await asyncio.gather(*(engine.init("orders", name, {"after": 3600}) for name in names))
        await asyncio.gather(*(engine.call("orders", name, name="add") for name in names))
        await asyncio.gather(
            *(engine.call("orders", name, name="add_in_a_transaction") for name in names),
            *(engine.get("orders", name) for name in names),
        )
        async with await psycopg.AsyncConnection.connect(db) as connection:
            [[worker, steps, client]] = await (await connection.execute(COUNTED)).fetchall()

    assert worker <= 12
    assert 1 <= steps <= 10
    assert client <= 12
