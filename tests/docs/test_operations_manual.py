"""A restore by the manual for operators goes on where the backup was."""

from __future__ import annotations

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
