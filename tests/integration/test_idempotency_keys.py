"""A request that is repeated under its key, through clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import AsyncClient
from pgprog.errors import IdempotencyConflict

if TYPE_CHECKING:
    from pgprog import Namespace


@pytest.mark.parametrize("pause", [True, False])
async def test_a_repeated_call_gets_the_same_answer_and_runs_once(
    make_engine: Any, counters: Namespace[Any], pause: bool
) -> None:
    async with make_engine(counters) as engine:
        await engine.init("counters", "c-1")
        calls = [
            engine.call("counters", "c-1", {"amount": 5}, name="add", idempotency_key="k")
            for _ in range(2)
        ]
        answers = [await call for call in calls] if pause else await asyncio.gather(*calls)

        assert [*answers] == [5, 5]
        assert (await engine.get("counters", "c-1")).state == 5


async def test_a_repeated_request_of_a_mere_client_is_the_same_task(
    db: str, make_engine: Any, counters: Namespace[Any]
) -> None:
    async with make_engine(counters), AsyncClient(db) as client:
        await client.init("counters", "c-1", idempotency_key="i")
        await client.init("counters", "c-1", idempotency_key="i")
        first = await client.notify(
            "counters", "c-1", {"amount": 1}, name="note", idempotency_key="k"
        )
        again = await client.notify(
            "counters", "c-1", {"amount": 1}, name="note", idempotency_key="k"
        )

        assert first.task_id == again.task_id


async def test_a_key_with_other_args_is_a_conflict_that_names_it(
    make_engine: Any, counters: Namespace[Any]
) -> None:
    async with make_engine(counters) as engine:
        await engine.init("counters", "c-1")
        await engine.call("counters", "c-1", {"amount": 5}, name="add", idempotency_key="k")
        with pytest.raises(IdempotencyConflict, match="idempotency key k in namespace counters"):
            await engine.call("counters", "c-1", {"amount": 6}, name="add", idempotency_key="k")
