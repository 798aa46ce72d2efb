"""A dump that is restored into another cluster, whose transactions are counted from far below."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.conftest import QUICK
from tests.integration.memory import cached
from tests.integration.test_recovery import gap

from pgprog import Changed, Engine, Intent, Namespace, Reached, Step
from pgprog.embedded import EmbeddedPostgres
from pgprog.embedded.programs import find_programs

if TYPE_CHECKING:
    from pathlib import Path

COUNT_FAR = """
do $$
begin
  for number in 1..20000 loop
    perform pg_current_xact_id();
    commit;
  end loop;
end
$$
"""
NEXT = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


@pytest.fixture
def orders() -> Namespace[Any]:
    """Processes that count, and are read from memory."""
    namespace = Namespace[Any]("orders", cache={"enabled": True, "max_lag": "30s", "wait": "5s"})

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0, events=["begun"])

    @namespace.call
    async def add(step: Step[Any], amount: int) -> Intent[Any, int]:
        total = step.state + amount
        return Intent(state=total, events=[amount], response=total)

    return namespace


def run(program: str, *arguments: str) -> None:
    subprocess.run([find_programs() / program, *arguments], check=True)


async def told(engine: Engine, position: str | None) -> tuple[list[Changed], Reached]:
    """Return what there is to tell from a position on, and the next."""
    watched = engine.watch_all("orders", position=position)
    changed = []
    while isinstance(found := await anext(watched), Changed):
        changed.append(found)
    await watched.aclose()
    return changed, found


@pytest.fixture
async def dumped(fresh_db: str, orders: Namespace[Any], tmp_path: Path) -> tuple[Path, str, int]:
    """A dump of a process that has counted to 1, a position behind it, and how far ids were."""
    with psycopg.connect(fresh_db, autocommit=True) as sql:
        sql.execute("set synchronous_commit = off")
        sql.execute(COUNT_FAR)
        [[far]] = sql.execute(NEXT).fetchall()
    async with Engine(fresh_db, [orders], worker=QUICK) as engine:
        await engine.init("orders", "o-1")
        await engine.call("orders", "o-1", {"amount": 1}, name="add", idempotency_key="k-1")
        _, reached = await told(engine, None)
    dump = tmp_path / "dump"
    run("pg_dump", "--format=custom", f"--file={dump}", fresh_db)
    return dump, reached.position, far


@pytest.mark.slow  # a server starts, and a database is dumped and restored
@pytest.mark.direct("the stream")
async def test_a_dump_restored_where_transactions_are_counted_from_below_is_read_and_goes_on(
    dumped: tuple[Path, str, int], orders: Namespace[Any]
) -> None:
    dump, position, far = dumped
    with EmbeddedPostgres(durable=False) as server:
        run("pg_restore", f"--dbname={server.dsn}", str(dump))
        with psycopg.connect(server.dsn, autocommit=True) as sql:
            [[below]] = sql.execute(NEXT).fetchall()
            sql.execute(gap())
        async with Engine(server.dsn, [orders], worker=QUICK) as engine:
            changed, reached = await told(engine, position)
            again = await engine.call(
                "orders", "o-1", {"amount": 1}, name="add", idempotency_key="k-1"
            )
            answer = await engine.call("orders", "o-1", {"amount": 1}, name="add")
            process = await cached(engine, max_events=10)
            [news], _ = await told(engine, reached.position)

    assert below < far, "or nothing is shown"
    assert [each.process_id for each in changed] == ["o-1"]
    assert (again, answer) == (1, 2)
    assert [event.payload for event in process.history] == ["begun", 1, 1]
    assert news.version == process.version > changed[0].version
