"""`step.transaction()`: what is done on it commits together with the step, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.waiting import until, until_on_loop

from pgprog import Engine, Intent, Namespace, Reject, Step
from pgprog.config import PoolConfig
from pgprog.errors import Rejected, StepFailed
from pgprog.store import transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture
def guard(rows: Any, sql: psycopg.Connection[Any]) -> Iterator[Any]:
    """Has the application's table guarded by a deferred trigger, which does so much."""
    trigger = (
        "create constraint trigger app_guard after insert on public.app_rows"
        " deferrable initially deferred for each row execute function public.app_guard()"
    )

    def begin(does: str) -> None:
        body = f"begin {does}; return null; end"
        sql.execute(
            f"create function public.app_guard() returns trigger language plpgsql as '{body}'"
        )
        sql.execute(trigger)

    yield begin
    sql.execute("drop function public.app_guard() cascade")


@pytest.mark.parametrize(
    ("does", "fault"),
    [
        ("assert false, $$the guard$$", "the guard"),
        ("raise exception $$the guard$$ using errcode = $$ZZ001$$", "the guard"),
        ("perform from public.no_such_table", "no_such_table"),
        ("perform pgprog.notify($$shop$$, $$absent$$)", "absent"),
    ],
)
async def test_a_trigger_that_refuses_the_commit_fails_the_step(
    make_engine: Any, shop: Namespace[Any], guard: Any, does: str, fault: str
) -> None:
    guard(does)
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        with pytest.raises(StepFailed, match=fault):
            await engine.call("shop", "s", {"then": "end"}, name="insert", timeout=5)


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
                cursor = await connection.execute("select pg_backend_pid()")
                sql.execute("select pg_terminate_backend(%s, 5000)", await cursor.fetchone())
                await connection.execute("select 1")
        return Intent(response=len(attempts))

    async with make_engine(shop) as engine:
        await engine.init("shop", "s")

        assert await engine.call("shop", "s", name="insert", timeout=10) == 2

    assert rows() == 1
    assert attempts == [1, 1]


IDLE = "select from pg_stat_activity where datname = current_database() and state like 'idle in %'"


async def test_a_step_whose_worker_stands_still_before_the_commit_runs_again(
    make_engine: Any,
    shop: Namespace[Any],
    rows: Any,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits, stills = iter(["50"]), iter([True])
    refused = transactions._refused_at_commit

    def stand_still() -> contextlib.AbstractContextManager[None]:
        if next(stills, False):
            until(lambda: not sql.execute(IDLE).fetchall())
        return refused()

    monkeypatch.setattr(transactions, "_milliseconds", lambda _: next(limits, "10000"))
    monkeypatch.setattr(transactions, "_refused_at_commit", stand_still)
    async with make_engine(shop) as engine:
        await engine.init("shop", "s")
        answer = await engine.call("shop", "s", {"then": "end"}, name="insert", timeout=10)
        trace = await engine.trace("shop", "s")

    assert (answer, rows()) == (1, 1)
    assert [task.attempt for task in trace] == [1, 1]


@pytest.fixture
def free() -> Namespace[Any]:
    """A namespace whose broken calls leave the process as it was."""
    namespace = Namespace("free", on_call_error="reject", step_timeout="5s")

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    return namespace


LIMITS = ["idle_in_transaction_session_timeout", "transaction_timeout"]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("colour", ["async", "sync", "sync, by an error of its own"])
async def test_a_step_whose_transaction_postgresql_ends_for_its_length_fails(
    make_engine: Any, free: Namespace[Any], sql: psycopg.Connection[Any], limit: str, colour: str
) -> None:
    if limit == "transaction_timeout" and sql.info.server_version < 170000:
        pytest.skip("PostgreSQL 17 has it")
    runs: list[int] = []

    async def idle(step: Step[Any]) -> None:
        async with step.transaction() as connection:
            runs.append(step.attempt)
            await connection.execute(f"set local {limit} = '50ms'")
            await until_on_loop(lambda: not sql.execute(IDLE).fetchall())
            await connection.execute("select 1")

    def idle_blocking(step: Step[Any]) -> None:
        with step.transaction() as connection:
            runs.append(step.attempt)
            connection.execute(f"set local {limit} = '50ms'")
            until(lambda: not sql.execute(IDLE).fetchall())
            try:
                connection.execute("select 1")
            except psycopg.Error as e:
                if colour != "sync":
                    raise LookupError from e
                raise

    free.call("idle")(idle if colour == "async" else idle_blocking)
    async with make_engine(free) as engine:
        await engine.init("free", "f")
        with pytest.raises(StepFailed, match=r"Timeout|LookupError"):
            await engine.call("free", "f", name="idle", timeout=5)

    assert runs == [1]


async def test_two_blocks_of_a_step_at_once_share_one_transaction(
    make_engine: Any, free: Namespace[Any], rows: Any
) -> None:
    async def insert(step: Step[Any]) -> int:
        async with step.transaction() as connection:
            await connection.execute(INSERT, (step.process_id,))
            return int(connection.info.backend_pid)

    @free.call
    async def twice(step: Step[Any]) -> Intent[Any, int]:
        return Intent(response=len({*await asyncio.gather(insert(step), insert(step))}))

    async with make_engine(free) as engine:
        await engine.init("free", "f")

        assert await engine.call("free", "f", name="twice") == 1
    assert rows() == 2


async def test_two_blocks_of_a_sync_step_at_once_share_one_transaction(
    make_engine: Any, free: Namespace[Any], rows: Any
) -> None:
    at_once = threading.Barrier(2)

    def insert(step: Step[Any]) -> int:
        at_once.wait()
        with step.transaction() as connection:
            connection.execute(INSERT, (step.process_id,))
            return int(connection.info.backend_pid)

    @free.call
    def twice(step: Step[Any]) -> Intent[Any, int]:
        with ThreadPoolExecutor(2) as threads:
            pids = {*threads.map(insert, [step, step])}
        return Intent(response=len(pids))

    async with make_engine(free) as engine:
        await engine.init("free", "f")

        assert await engine.call("free", "f", name="twice") == 1
    assert rows() == 2


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_an_inner_block_that_fails_leaves_the_connection_to_the_outer_one(
    make_engine: Any, free: Namespace[Any], rows: Any, colour: str
) -> None:
    async def nest(step: Step[Any]) -> Intent[Any]:
        async with step.transaction() as outer:
            with contextlib.suppress(ValueError):
                async with step.transaction():
                    raise ValueError("in the inner block")
            await outer.execute(INSERT, (step.process_id,))
        raise Reject("undo it")

    def nest_blocking(step: Step[Any]) -> Intent[Any]:
        with step.transaction() as outer:
            with contextlib.suppress(ValueError), step.transaction():
                raise ValueError("in the inner block")
            outer.execute(INSERT, (step.process_id,))
        raise Reject("undo it")

    free.call("nest")(nest if colour == "async" else nest_blocking)
    async with make_engine(free) as engine:
        await engine.init("free", "f")
        with pytest.raises(Rejected):
            await engine.call("free", "f", name="nest")

    assert rows() == 0


@pytest.mark.direct("a pooler may reset another session than the handler had")
@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_what_a_handler_sets_on_its_connection_is_gone_in_the_next_step(
    make_engine: Any, free: Namespace[Any], rows: Any, colour: str
) -> None:
    async def look(step: Step[Any]) -> Intent[Any, Any]:
        async with step.transaction() as connection:
            cursor = await connection.execute("select current_setting('search_path')")
            found = await cursor.fetchone()
            connection.row_factory = dict_row
            await connection.execute("set search_path = elsewhere")
        return Intent(response=found)

    def look_blocking(step: Step[Any]) -> Intent[Any, Any]:
        with step.transaction() as connection:
            found = connection.execute("select current_setting('search_path')").fetchone()
            connection.row_factory = dict_row
            connection.execute("set search_path = elsewhere")
        return Intent(response=found)

    free.call("look")(look if colour == "async" else look_blocking)
    async with make_engine(free) as engine:
        await engine.init("free", "f")
        for _ in range(2):
            assert await engine.call("free", "f", name="look") == ['"$user", public']


@pytest.mark.direct("a pooler gives each transaction any session")
@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_a_connection_keeps_its_plans_from_one_step_to_the_next(
    db: str, sql: psycopg.Connection[Any], colour: str
) -> None:
    # An immutable function is called when a plan is made: it tells when that was.
    sql.execute(
        "create or replace function public.planned_at() returns text language plpgsql immutable"
        " as 'begin return clock_timestamp(); end'"
    )
    sql.execute(
        "create or replace function public.kept() returns text language plpgsql"
        " set plan_cache_mode = force_generic_plan as"
        " 'begin return (select public.planned_at() from (values (1)) as x); end'"
    )
    free = Namespace("free")

    @free.init
    async def begin(step: Step[Any]) -> None: ...

    async def ask(step: Step[Any]) -> Intent[Any, Any]:
        async with step.transaction() as connection:
            cursor = await connection.execute("select public.kept(), pg_backend_pid()")
            return Intent(response=await cursor.fetchone())

    def ask_blocking(step: Step[Any]) -> Intent[Any, Any]:
        with step.transaction() as connection:
            cursor = connection.execute("select public.kept(), pg_backend_pid()")
            return Intent(response=cursor.fetchone())

    free.call("ask")(ask if colour == "async" else ask_blocking)
    async with Engine(db, [free], pool=PoolConfig(transactions=1)) as engine:
        await engine.init("free", "f")
        first, second = [await engine.call("free", "f", name="ask") for _ in range(2)]

    assert first == second


@pytest.mark.parametrize("statement", ["set transaction read only", "set role pg_monitor"])
async def test_a_transaction_in_which_the_step_cannot_end_fails_the_step(
    make_engine: Any, free: Namespace[Any], rows: Any, statement: str
) -> None:
    @free.call
    async def spoil(step: Step[Any]) -> Intent[Any]:
        async with step.transaction() as connection:
            await connection.execute(statement)
        return Intent(state=1)

    async with make_engine(free) as engine:
        await engine.init("free", "f")
        with pytest.raises(StepFailed, match="cannot end in the transaction"):
            await engine.call("free", "f", name="spoil", timeout=5)


async def test_a_step_that_finds_no_connection_free_is_run_again_and_burns_no_attempt(
    db: str, rows: Any
) -> None:
    holding = asyncio.Event()
    free = Namespace("free", step_timeout="1s")

    @free.init
    async def begin(step: Step[Any]) -> None: ...

    @free.call
    async def hold(step: Step[Any]) -> None:
        async with step.transaction():
            holding.set()
            await asyncio.Event().wait()

    @free.call
    async def insert(step: Step[Any]) -> Intent[Any, int]:
        async with step.transaction() as connection:
            await connection.execute(INSERT, (step.process_id,))
        return Intent(response=step.attempt)

    async with Engine(db, [free], pool=PoolConfig(transactions=1)) as engine:
        for process_id in ("f", "g"):
            await engine.init("free", process_id)
        held = await engine.submit("call", "free", "f", name="hold")
        await holding.wait()

        assert await engine.call("free", "g", name="insert", timeout=10) == 1
        with pytest.raises(StepFailed, match="StepTimeout"):
            await held.wait()


async def test_what_a_step_has_left_behind_in_its_transaction_meets_no_other_step(
    db: str, free: Namespace[Any], rows: Any
) -> None:
    is_inside, may_insert = asyncio.Event(), asyncio.Event()
    left: list[asyncio.Task[None]] = []

    @free.call
    async def leave(step: Step[Any]) -> None:
        async def insert_late() -> None:
            async with step.transaction() as connection:
                is_inside.set()
                await may_insert.wait()
                await connection.execute(INSERT, ("left behind",))

        left.append(asyncio.create_task(insert_late()))
        await is_inside.wait()
        raise ValueError("as gather does, which lets the others run")

    @free.call
    async def insert(step: Step[Any]) -> Intent[Any, int]:
        async with step.transaction() as connection:
            may_insert.set()
            await asyncio.wait(left)
            await connection.execute(INSERT, (step.process_id,))
        return Intent(response=1)

    async with Engine(db, [free], pool=PoolConfig(transactions=1)) as engine:
        await engine.init("free", "f")
        with pytest.raises(StepFailed, match="as gather does"):
            await engine.call("free", "f", name="leave", timeout=5)

        assert await engine.call("free", "f", name="insert", timeout=5) == 1

    assert rows() == 1
    assert isinstance(left[0].exception(), psycopg.OperationalError)
