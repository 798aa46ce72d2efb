"""A server that takes no writes: a standby, or one that was made so."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from psycopg import sql as composing
from psycopg.conninfo import make_conninfo

from pgprog import AsyncClient, Engine, Intent, Namespace, Step
from pgprog.cli import main
from pgprog.config import WorkerConfig
from pgprog.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

_ON = "default_transaction_read_only=on"


@pytest.mark.parametrize(
    "words",
    [
        ("db", "migrate"),
        ("db", "migrate", "--again"),
        ("db", "roles"),
        ("process", "remove", "orders", "o-1", "--yes"),
        ("process", "simple-repair", "orders", "o-1"),
        ("process", "repair", "--all", "--namespace", "orders", "--yes"),
        ("task", "cancel", "1", "--yes"),
        ("namespace", "set", "orders", "step_timeout=20s"),
        ("namespace", "pause", "orders"),
        ("namespace", "resume", "orders"),
        ("namespace", "purge", "orders", "--pause", "--yes"),
        ("worker", "log-level", "debug"),
    ],
    ids=" ".join,
)
def test_what_would_change_a_read_only_server_says_so_and_what_to_do(
    words: tuple[str, ...], sql: Any, db: str
) -> None:
    sql.execute("select pgprog_engine._create_namespace('orders', '{}')")
    sql.execute("select setval('pgprog_data.task_ids', 1, false), pgprog.init('orders', 'o-1')")
    place = make_conninfo(db, options=f"-c {_ON}")

    answer = CliRunner().invoke(main, [*words, "--dsn", place])

    assert isinstance(answer.exception, SystemExit), answer.exception
    assert answer.exit_code == 1
    assert "read-only transaction" in answer.stderr
    assert "target_session_attrs=read-write" in answer.stderr
    assert "discarding" not in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("process", "get", "orders", "o-1"),
        ("process", "explain", "orders", "o-1"),
        ("process", "list"),
        ("task", "list"),
        ("namespace", "show", "orders"),
        ("worker", "list"),
        ("top", "--once"),
        ("audit", "list"),
        ("db", "check"),
    ],
    ids=" ".join,
)
def test_what_only_reads_reads_on_a_read_only_server(
    words: tuple[str, ...], sql: Any, db: str
) -> None:
    sql.execute("select pgprog_engine._create_namespace('orders', '{}')")
    sql.execute("select pgprog.init('orders', 'o-1')")
    place = make_conninfo(db, options=f"-c {_ON}")

    answer = CliRunner().invoke(main, [*words, "--dsn", place])

    assert (answer.exit_code, answer.stderr) == (0, "")


@contextmanager
def read_only(sql: Any) -> Iterator[None]:
    """Have new sessions of the database write nothing, and end those that there are."""
    name = composing.Identifier(sql.info.dbname)
    sql.execute(
        composing.SQL("alter database {} set default_transaction_read_only = on").format(name)
    )
    try:
        sql.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        yield
    finally:
        sql.execute(
            composing.SQL("alter database {} reset default_transaction_read_only").format(name)
        )


async def test_a_client_that_met_a_read_only_server_goes_on_with_one_that_writes(
    sql: Any, db: str
) -> None:
    sql.execute("select pgprog_engine._create_namespace('orders', '{}')")
    sql.execute("select pgprog.init('orders', 'o-1')")
    async with AsyncExitStack() as closing:
        with read_only(sql):
            client = await closing.enter_async_context(AsyncClient(db))
            with pytest.raises(StoreUnavailable, match="read-only") as caught:
                await client.remove("orders", "o-1")
            submitting = asyncio.create_task(client.submit("init", "orders", "o-2"))
            with pytest.raises(StoreUnavailable, match="read-only"):
                await client.remove("orders", "o-1")
        await submitting
        is_removed = await removed(client)

    assert "standby" in str(caught.value.hint)
    assert is_removed


async def removed(client: AsyncClient) -> bool:
    """Remove a process; what the pool had connected to before writes nothing still."""
    async with asyncio.timeout(30):
        while True:
            with suppress(StoreUnavailable):
                return await client.remove("orders", "o-1")


async def test_an_engine_that_met_a_read_only_server_goes_on_with_one_that_writes(
    sql: Any, db: str
) -> None:
    orders: Namespace[Any] = Namespace("orders")

    @orders.init
    async def begin(step: Step[Any]) -> None: ...

    @orders.call
    async def name(step: Step[Any]) -> Intent[Any, str]:
        return Intent(response=step.process_id)

    quick = WorkerConfig(poll_every=timedelta(milliseconds=50), lease=timedelta(seconds=60))
    async with Engine(db, [orders], worker=quick) as engine:
        await engine.init("orders", "o-1")
        with read_only(sql):
            began_at = sql.execute("select clock_timestamp()").fetchone()[0]
            async with asyncio.timeout(30):
                while not is_back(sql, began_at):
                    await asyncio.sleep(0)
        answer = await engine.call("orders", "o-1", name="name", idempotency_key="k", timeout=30)

    assert answer == "o-1"


def is_back(sql: Any, since: Any) -> bool:
    """Return whether the engine has asked for work in a session that began since."""
    found = sql.execute(
        "select from pg_stat_activity where datname = current_database()"
        " and backend_start > %s and application_name like '%% claim'",
        (since,),
    )
    return bool(found.rowcount)
