"""PostgreSQL that is killed and started again under a working engine."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import until

from pgprog import Engine, migrate
from pgprog.config import WorkerConfig
from pgprog.embedded import DevelopmentServer

if TYPE_CHECKING:
    from pathlib import Path

    from pgprog import Namespace

WORKER = WorkerConfig(
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(seconds=3),
    heartbeat_every=timedelta(milliseconds=300),
)


@pytest.mark.slow  # a server starts three times
@pytest.mark.parametrize("lease_seconds", [3, 60])
async def test_a_restart_of_postgresql_loses_no_call_and_repeats_none(
    home: Path, counters: Namespace[Any], lease_seconds: int
) -> None:
    server = DevelopmentServer(home)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(migrate, server.dsn)
    config = replace(WORKER, lease=timedelta(seconds=lease_seconds))
    answers: dict[int, list[int]] = {number: [] for number in range(5)}

    async def call_on(engine: Engine, number: int) -> None:
        for call in range(60):
            answers[number].append(
                await engine.call(
                    "counters",
                    f"c{number}",
                    {"amount": 1},
                    name="add",
                    idempotency_key=f"{number} {call}",
                    timeout=60,
                )
            )

    async with Engine(server.dsn, [counters], worker=config) as engine:
        for number in answers:
            await engine.init("counters", f"c{number}")
        calling = [asyncio.create_task(call_on(engine, number)) for number in answers]
        for restart in range(2):
            while min(len(done) for done in answers.values()) < 15 * (restart + 1):
                await asyncio.sleep(0.001)
                assert not any(task.done() and task.exception() for task in calling)
            await asyncio.to_thread(_kill_and_start, server)
        await asyncio.gather(*calling)
        histories = [await engine.history("counters", f"c{n}", max_events=1000) for n in answers]

    assert list(answers.values()) == [[*range(1, 61)]] * 5
    assert [len(history) for history in histories] == [61] * 5


def _kill_and_start(server: DevelopmentServer) -> None:
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)  # an immediate shutdown: as a crash, for those connected
    until(lambda: not server.status().is_running)
    server.start()
