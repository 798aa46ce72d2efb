"""What clients are told of a process that does not move, of queues and of health."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import AsyncClient, Client, Engine, Intent, Namespace, Step
from pgprog.errors import NamespaceNotFound, ProcessNotFound

if TYPE_CHECKING:
    import psycopg


@pytest.fixture
def closed(db: str, counters: Namespace[Any]) -> str:
    """The database where c-1 counts and no worker lives."""
    with Engine(db, [counters]) as engine:
        engine.init("counters", "c-1")
    return db


async def test_a_process_of_which_nothing_waits_has_nothing_to_do(closed: str) -> None:
    async with AsyncClient(closed) as client:
        explanation = await client.explain("counters", "c-1")

    assert explanation.reason == "nothing to do"
    assert explanation.sentence == "no task and no timer waits"
    assert not explanation.is_runnable


async def test_a_task_that_no_worker_takes_is_explained_by_that(closed: str) -> None:
    async with AsyncClient(closed) as client:
        task = await client.notify("counters", "c-1", {"amount": 1}, name="note")
        explanation = await client.explain("counters", "c-1")

    assert explanation.reason == "no worker"
    assert explanation.details["task_id"] == task.task_id
    assert not explanation.is_runnable


async def test_a_task_that_runs_is_explained_while_it_runs(make_engine: Any) -> None:
    namespace: Namespace[Any] = Namespace("slow")
    may_end, has_begun = asyncio.Event(), asyncio.Event()

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        has_begun.set()
        await may_end.wait()
        return Intent(state=1)

    async with make_engine(namespace) as engine:
        task = await engine.submit("init", namespace, "s-1")
        await has_begun.wait()
        explanation = await engine.explain(namespace, "s-1")
        may_end.set()
        await task.wait(timeout=5)

    assert (explanation.reason, explanation.details["task_id"]) == ("running", task.task_id)


async def test_only_what_a_claim_would_take_is_runnable(
    closed: str, sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(closed) as client:
        await client.notify("counters", "c-1", {"amount": 1}, name="note")
        sql.execute(
            "insert into pgprog_data.workers (worker_id, name, namespaces, lease_until, started_at)"
            " values (9999, 'w', '{counters}', now() + interval '1 hour', now())"
        )
        explanation = await client.explain("counters", "c-1")

    assert explanation.reason == "ready"
    assert explanation.is_runnable


async def test_what_cannot_be_explained_is_named(closed: str) -> None:
    async with AsyncClient(closed) as client:
        with pytest.raises(ProcessNotFound, match="no process c-9 in namespace counters"):
            await client.explain("counters", "c-9")
        with pytest.raises(NamespaceNotFound, match="no namespace counter"):
            await client.explain("counter", "c-1")


async def test_the_stats_count_what_each_namespace_holds(
    closed: str, sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(closed) as client:
        await client.notify("counters", "c-1", {"amount": 1}, name="note")
        sql.execute("select pgprog.pause('counters')")
        [row] = await client.stats()

    assert (row.namespace, row.waiting, row.running, row.workers) == ("counters", 1, 0, 0)
    assert row.oldest_due_age is not None
    assert timedelta(0) <= row.oldest_due_age < timedelta(minutes=1)
    assert row.is_paused


async def test_health_names_the_namespace_that_no_worker_serves(closed: str) -> None:
    async with AsyncClient(closed) as client:
        before = await client.health()
        await client.notify("counters", "c-1", {"amount": 1}, name="note")
        after = await client.health()

    assert before["status"] == "passing"
    assert after["status"] == "critical"
    assert "no live worker serves namespace counters" in [c["reason"] for c in after["components"]]


def test_the_blocking_client_is_told_the_same(closed: str) -> None:
    with Client(closed) as client:
        explanation = client.explain("counters", "c-1")
        [row] = client.stats()
        health = client.health()

    assert explanation.reason == "nothing to do"
    assert (row.namespace, row.oldest_due_age) == ("counters", None)
    assert health["status"] == "passing"
