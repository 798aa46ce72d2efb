"""One idempotency key in thousands of requests at once: one task, and one answer for all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgprog import AsyncClient
from pgprog.config import PoolConfig
from pgprog.errors import IdempotencyConflict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgprog import Engine, Namespace

pytestmark = pytest.mark.slow  # thousands of requests

REQUEST = (
    "select pgprog.call('counters', 'c-1', jsonb_build_object('amount', %s::integer),"
    " name => 'add', idempotency_key => 'k') from generate_series(1, %s)"
)
TASKS = "select count(*), count(distinct task_id) from pgprog.tasks where type = 'call'"
STATE = "select state from pgprog.process_payloads"
WAITING = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and cardinality(pg_blocking_pids(pid)) > 0"
)


@pytest.fixture
async def engine(make_engine: Any, counters: Namespace[Any]) -> AsyncIterator[Engine]:
    """An engine with one process, c-1."""
    async with make_engine(counters) as engine:
        await engine.init("counters", "c-1")
        yield engine


async def ask_by_sql(dsn: str, statements: int, amount: int = 5) -> set[int]:
    """Ask ten times in each statement, on a connection of its own; return the tasks."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        tasks: set[int] = set()
        for _ in range(statements):
            cursor = await connection.execute(REQUEST, (amount, 10))
            tasks |= {task_id for (task_id,) in await cursor.fetchall()}
        return tasks


async def ask_by_client(client: AsyncClient, count: int) -> tuple[set[int], set[Any]]:
    """Submit and call *count* times each; return the tasks and the answers."""
    request: dict[str, Any] = {"name": "add", "idempotency_key": "k", "timeout": 60}
    args = {"amount": 5}
    submits = [client.submit("call", "counters", "c-1", args, **request) for _ in range(count)]
    calls = [client.call("counters", "c-1", args, **request) for _ in range(count)]
    tasks, answers = await asyncio.gather(asyncio.gather(*submits), asyncio.gather(*calls))
    return {task.task_id for task in tasks}, set(answers)


async def test_ten_thousand_duplicates_on_fifty_connections_are_one_task(
    db: str, engine: Engine, sql: Any
) -> None:
    found = await asyncio.gather(*(ask_by_sql(db, 20) for _ in range(50)))

    [task_id] = set.union(*found)
    assert (await engine.wait(task_id, timeout=20)) == 5
    assert sql.execute(TASKS).fetchone() == (1, 1)
    assert sql.execute(STATE).fetchone() == (5,)


@pytest.mark.parametrize("first", ["nobody", "rolls back", "stays open"])
async def test_duplicates_by_clients_an_engine_and_sql_are_one_task_with_one_answer(
    db: str, engine: Engine, sql: Any, session: Any, first: str
) -> None:
    stranger = session()
    count = 1000 if first == "nobody" else 100
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(db, pool=PoolConfig(api=10)))
            for _ in range(5)
        ]
        known = None
        if first != "nobody":
            stranger.execute("begin")
            [known] = stranger.execute(REQUEST, (5, 1)).fetchone()
        asking = [asyncio.ensure_future(ask_by_sql(db, 2)) for _ in range(10)]
        asking_here = [
            asyncio.ensure_future(ask_by_client(client, count)) for client in [*clients, engine]
        ]
        if first != "nobody":
            # The sessions wait for the stranger, the clients ask again and again.
            while sql.execute(WAITING).fetchone()[0] < 11:
                await asyncio.sleep(0.01)
            stranger.execute("commit" if first == "stays open" else "rollback")
        tasks = set.union(*await asyncio.gather(*asking))
        found = await asyncio.gather(*asking_here)

    assert {task_id for ids, _ in found for task_id in ids} == tasks
    assert {answer for _, answers in found for answer in answers} == {5}
    assert (tasks == {known}) is (first == "stays open")
    assert sql.execute(TASKS).fetchone() == (1, 1)


async def test_duplicates_with_other_args_are_refused_and_the_rest_are_one_task(
    db: str, engine: Engine, sql: Any
) -> None:
    request: dict[str, Any] = {"name": "add", "idempotency_key": "k"}
    outcomes = await asyncio.gather(
        *(
            engine.call("counters", "c-1", {"amount": 5 + number % 2}, **request)
            for number in range(200)
        ),
        *(ask_by_sql(db, 1, 5 + number % 2) for number in range(20)),
        return_exceptions=True,
    )

    codes = {getattr(outcome, "sqlstate", None) for outcome in outcomes[200:]}
    refused = [outcome for outcome in outcomes[:200] if isinstance(outcome, IdempotencyConflict)]
    assert (len(refused), codes) == (100, {None, "UP008"})
    assert len({outcome for outcome in outcomes[:200] if isinstance(outcome, int)}) == 1
    assert sql.execute(TASKS).fetchone() == (1, 1)
