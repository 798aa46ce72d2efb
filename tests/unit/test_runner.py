"""The places of a runner."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgprog.engine.holdings import Holdings
from pgprog.engine.runner import Runner
from pgprog.store.rows import Claimed


def claimed(claim_id: int) -> Claimed:
    values = dict.fromkeys(Claimed._fields)
    return Claimed(**(values | {"task_id": claim_id, "claim_id": claim_id}))  # type: ignore[arg-type] # a row of nulls


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


@pytest.fixture
def runner(holdings: Holdings) -> Runner:
    nothing: Any = None
    return Runner(
        nothing,
        concurrency=2,
        holdings=holdings,
        lease=nothing,
        endings=nothing,
        on_free=lambda: None,
    )


async def test_a_step_that_is_cancelled_before_its_start_frees_its_place(
    runner: Runner, holdings: Holdings
) -> None:
    for claim_id in (1, 2, 3):
        runner.take(holdings.add(claimed(claim_id), since=0))
    assert runner.room == 0

    holdings.drop()
    await runner.wait_idle()
    await asyncio.sleep(0)

    assert (runner.room, runner.busy) == (2, 0)
