"""What an embedded engine counts, where it happens."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import (
    AsyncClient,
    Client,
    Engine,
    Intent,
    Namespace,
    PermanentError,
    Reject,
    Remove,
    Request,
    SetTimer,
    Step,
    TransientError,
)
from pgprog.config import PoolConfig
from pgprog.errors import NamespaceNotFound

if TYPE_CHECKING:
    import psycopg
    from tests.integration.conftest import EngineFactory


@pytest.fixture
def shop() -> Namespace[Any]:
    """Processes whose calls end in every way; the timer removes them."""
    namespace = Namespace("shop", retry={"initial_interval": "10ms"})

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @namespace.call
    async def refuse(step: Step[Any]) -> None:
        raise Reject("no")

    @namespace.call
    async def fail(step: Step[Any]) -> None:
        raise PermanentError("never")

    @namespace.call
    async def leave(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta(milliseconds=20))])

    @namespace.notify
    async def stumble(step: Step[Any]) -> None:
        if step.attempt == 1:
            raise TransientError("not yet")

    @namespace.timeout
    async def expire(step: Step[Any]) -> Intent[Any]:
        return Intent(then=Remove())

    return namespace


class Figures:
    """The metrics of an engine, by name and labels."""

    def __init__(self, asked: AsyncClient | Client) -> None:
        self._asked = asked

    def get(self, name: str, **labels: str) -> float:
        value = self._asked.metrics.get_sample_value(name, labels)
        return 0.0 if value is None else value

    async def wait(self, name: str, least: float, **labels: str) -> None:
        async with asyncio.timeout(10):
            while self.get(name, **labels) < least:
                await asyncio.sleep(0.01)


async def test_tasks_are_counted_by_their_ends_and_measured_on_their_way(
    make_engine: EngineFactory, shop: Namespace[Any]
) -> None:
    async with make_engine(shop) as engine:
        figures = Figures(engine)
        await engine.init("shop", "a")
        for name in ("refuse", "fail"):
            with pytest.raises(Exception, match=r"rejected|never"):
                await engine.call("shop", "a", name=name)
        await engine.init("shop", "b")
        await engine.notify("shop", "b", name="stumble")
        await engine.call("shop", "b", name="leave")
        await figures.wait("pgprog_retries_total", 1, namespace="shop", type="notify")
        ended = {"namespace": "shop", "type": "timeout", "outcome": "finished"}
        await figures.wait("pgprog_tasks_total", 1, **ended)

        get = figures.get
        for type_, outcome, count in (
            ("init", "finished", 2),
            ("call", "rejected", 1),
            ("call", "error", 1),
            ("call", "finished", 1),
        ):
            assert get("pgprog_tasks_total", namespace="shop", type=type_, outcome=outcome) == count
        of = "pgprog_%s_count"
        wait, processing = of % "task_wait_seconds", of % "task_processing_duration_seconds"
        for name in (wait, processing):
            assert get(name, namespace="shop", type="init") == 2
            assert get(name, namespace="shop", type="timeout") == 1
        assert get(of % "timer_lateness_seconds", namespace="shop") == 1
        preparing = of % "request_preparing_duration_seconds"
        assert get(preparing, namespace="shop", type="call") == 3
        completion = of % "task_completion_duration_seconds"
        assert get(completion, namespace="shop", outcome="error") == 1
        assert get(of % "process_removing_duration_seconds", namespace="shop") == 1
        assert get(of % "timers_scanning_duration_seconds", namespace="shop") >= 1
        assert get(of % "calls_scanning_duration_seconds", namespace="shop") >= 1


async def test_a_step_that_is_running_is_busy_and_its_wait_is_measured(
    make_engine: EngineFactory,
) -> None:
    slow, begun, free = Namespace[Any]("slow"), asyncio.Event(), asyncio.Event()

    @slow.init
    async def begin(step: Step[Any]) -> None:
        begun.set()
        await free.wait()

    async with make_engine(slow) as engine:
        figures = Figures(engine)
        calling = asyncio.create_task(engine.init("slow", "a"))
        await begun.wait()
        busy = figures.get("pgprog_steps_busy", namespace="slow")
        free.set()
        await calling

        assert busy == 1
        assert figures.get("pgprog_steps_busy", namespace="slow") == 0


def test_gauges_of_the_database_are_read_when_somebody_looks_from_another_thread(
    make_engine: EngineFactory, shop: Namespace[Any], db: str
) -> None:
    with make_engine(shop) as engine:
        engine.init("shop", "a")
        with pytest.raises(Exception, match="never"):
            engine.call("shop", "a", name="fail")
    with Client(db) as client:
        client.submit("init", "shop", "b")
        figures = Figures(client)

        assert figures.get("pgprog_database_up") == 1
        assert figures.get("pgprog_processes_in_error", namespace="shop") == 1
        assert figures.get("pgprog_queue_tasks", namespace="shop", status="waiting") == 1
        assert figures.get("pgprog_workers", namespace="shop") == 0
        assert figures.get("pgprog_oldest_due_age_seconds", namespace="shop") > 0


async def test_gauges_of_the_database_come_with_the_next_look_where_the_loop_itself_asks(
    make_engine: EngineFactory, shop: Namespace[Any]
) -> None:
    async with make_engine(shop) as engine:
        figures = Figures(engine)
        await figures.wait("pgprog_database_up", 1)

        assert figures.get("pgprog_workers", namespace="shop") == 1


async def test_a_database_that_fails_leaves_its_gauges_out_and_fails_no_look(
    make_engine: EngineFactory, shop: Namespace[Any], sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "a")
        sql.execute("alter function pgprog_engine.gauges() rename to gone")
        try:
            figures = Figures(engine)
            for _ in range(3):
                await asyncio.to_thread(figures.get, "pgprog_database_up")
        finally:
            sql.execute("alter function pgprog_engine.gone() rename to gauges")

        assert figures.get("pgprog_database_up") == 0
        assert figures.get("pgprog_workers", namespace="shop") == 0
        labels = {"namespace": "shop", "type": "init", "outcome": "finished"}
        assert figures.get("pgprog_tasks_total", **labels) == 1


async def test_pools_say_how_full_they_are_and_who_waited_in_vain(db: str) -> None:
    letters = Namespace[Any]("letters")
    open_, free = asyncio.Event(), asyncio.Event()

    @letters.init
    async def hold(step: Step[Any]) -> None:
        async with step.transaction():
            open_.set()
            await free.wait()

    pool = PoolConfig(transactions=1)
    async with Engine(db, [letters], pool=pool) as engine:
        figures = Figures(engine)
        first = asyncio.create_task(engine.init("letters", "a"))
        await open_.wait()
        second = asyncio.create_task(engine.init("letters", "b"))
        await figures.wait("pgprog_pool_waiting", 1, pool="transactions")
        free.set()
        await asyncio.gather(first, second)

        assert figures.get("pgprog_pool_max", pool="transactions") == 1
        assert figures.get("pgprog_pool_size", pool="transactions") == 1
        assert figures.get("pgprog_pool_max", pool="api") == 10


@pytest.mark.parametrize("is_engine", [True, False])
async def test_names_of_no_namespace_leave_no_series_behind(
    db: str, shop: Namespace[Any], make_engine: EngineFactory, is_engine: bool
) -> None:
    async with make_engine(shop) as engine, AsyncClient(db) as client:
        asking = engine if is_engine else client
        await asking.init("shop", "s")
        requests = [Request("notify", name, "s") for name in ("made up", "shop", "too")]
        outcomes = await asking.submit_many(requests)
        series = [*asking._figures.metrics.request_preparing]

    assert [isinstance(each, NamespaceNotFound) for each in outcomes] == [True, False, True]
    assert {*series} == {("shop", "init"), ("shop", "notify")}
