"""`step.transaction()`: what is done on it commits together with the step, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgprog import Intent, Namespace, Reject, Step
from pgprog.errors import Rejected, StepFailed

if TYPE_CHECKING:
    import psycopg

INSERT = "insert into public.app_rows (process_id) values (%s)"


@pytest.fixture
def rows(sql: psycopg.Connection[Any]) -> Any:
    """Counts the rows of the application's table, which begins without any."""
    sql.execute("create table if not exists public.app_rows (process_id text)")
    sql.execute("truncate public.app_rows")
    sql.execute("alter table public.app_rows drop constraint if exists app_rows_once")

    def count() -> int:
        [[number]] = sql.execute("select count(*) from public.app_rows").fetchall()
        return int(number)

    return count


@pytest.fixture(params=["async", "sync"])
def shop(request: pytest.FixtureRequest) -> Namespace[Any]:
    """The same handlers in both colours; *then* says what they do after their insert."""
    namespace = Namespace("shop", on_call_error="reject")

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    async def insert(step: Step[Any], then: str) -> Intent[Any, int]:
        async with step.transaction() as connection:
            await connection.execute(INSERT, (step.process_id,))
            if then == "end it":
                await connection.execute("commit")
        return outcome(step, then)

    def insert_blocking(step: Step[Any], then: str) -> Intent[Any, int]:
        with step.transaction() as connection:
            connection.execute(INSERT, (step.process_id,))
            if then == "end it":
                connection.execute("commit")
        return outcome(step, then)

    def outcome(step: Step[Any], then: str) -> Intent[Any, int]:
        if then == "reject":
            raise Reject("no")
        if then == "fail":
            raise ValueError("after the insert")
        return Intent(state=step.state + 1, events=["inserted"], response=step.state + 1)

    namespace.call("insert")(insert if request.param == "async" else insert_blocking)
    return namespace


async def test_a_transaction_commits_together_with_its_step(
    make_engine: Any, shop: Namespace[Any], rows: Any
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        for number in (1, 2, 3):
            assert await engine.call("shop", "s", {"then": "end"}, name="insert") == number
        process = await engine.get("shop", "s")

    assert rows() == 3
    assert (process.state, process.last_event_id) == (3, 3)


@pytest.mark.parametrize(("then", "error"), [("reject", Rejected), ("fail", StepFailed)])
async def test_a_transaction_is_undone_with_a_step_that_does_not_finish(
    make_engine: Any, shop: Namespace[Any], rows: Any, then: str, error: type[Exception]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        with pytest.raises(error):
            await engine.call("shop", "s", {"then": then}, name="insert")
        assert await engine.call("shop", "s", {"then": "end"}, name="insert") == 1

    assert rows() == 1


async def test_a_handler_that_ends_the_transaction_by_itself_fails(
    make_engine: Any, shop: Namespace[Any], rows: Any
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        with pytest.raises(StepFailed, match="ended the transaction"):
            await engine.call("shop", "s", {"then": "end it"}, name="insert")
        process = await engine.get("shop", "s")

    assert (process.state, process.last_event_id) == (0, 0)


async def test_a_constraint_that_refuses_the_commit_fails_the_step(
    make_engine: Any, shop: Namespace[Any], rows: Any, sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "alter table public.app_rows add constraint app_rows_once"
        " unique (process_id) deferrable initially deferred"
    )
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        await engine.call("shop", "s", {"then": "end"}, name="insert")
        with pytest.raises(StepFailed, match="app_rows_once"):
            await engine.call("shop", "s", {"then": "end"}, name="insert")
        process = await engine.get("shop", "s")

    assert rows() == 1
    assert (process.state, process.last_event_id, process.status) == (1, 1, "running")


async def test_a_connection_cut_inside_a_transaction_runs_the_step_again(
    make_engine: Any, rows: Any, sql: psycopg.Connection[Any]
) -> None:
    shop = Namespace("shop")
    attempts: list[int] = []

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @shop.call
    async def insert(step: Step[Any]) -> Intent[Any, int]:
        attempts.append(step.attempt)
        async with step.transaction() as connection:
            await connection.execute(INSERT, (step.process_id,))
            if len(attempts) == 1:
                pid = connection.info.backend_pid
                sql.execute("select pg_terminate_backend(%s, 5000)", (pid,))
                await connection.execute("select 1")
        return Intent(response=len(attempts))

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")

        assert await engine.call("shop", "s", name="insert", timeout=10) == 2

    assert rows() == 1
    assert attempts == [1, 1]
