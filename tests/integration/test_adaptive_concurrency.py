"""A worker that is to find out how many steps at once do not make its handlers slower."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.conftest import QUICK

from pgprog import AsyncClient, Intent, Namespace, Step
from pgprog.engine import places

if TYPE_CHECKING:
    from tests.integration.conftest import EngineFactory

pytestmark = pytest.mark.slow  # the worker needs some of its seconds to find out

FRIEND_BEARS = 8
MOST = 80
WORKER = dataclasses.replace(QUICK, concurrency=MOST, min_concurrency=2)


class Friend:
    """A server that does eight things at once, in 40 ms each; *most* saw so many wait or run."""

    def __init__(self) -> None:
        self.most = 0
        self.here = 0
        self._free = asyncio.Semaphore(FRIEND_BEARS)

    async def ask(self) -> None:
        self.here += 1
        self.most = max(self.most, self.here)
        async with self._free:
            await asyncio.sleep(0.04)
        self.here -= 1


async def test_a_worker_finds_how_many_steps_a_friend_bears_and_stays_there(
    db: str, make_engine: EngineFactory, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_TICK_SECONDS", 0.1)
    monkeypatch.setattr(places, "_BUSY_CPU", 100.0)  # of a machine that others use, too
    friend = Friend()
    askers: Namespace[Any] = Namespace("askers")

    @askers.init
    async def ask(step: Step[Any]) -> Intent[Any]:
        await friend.ask()
        return Intent()

    sql.execute("select pgprog_engine._create_namespace('askers', '{}')")
    sql.execute("select pgprog.init('askers', 'a' || n) from generate_series(1, 700) as n")
    async with make_engine(askers, worker=WORKER), AsyncClient(db) as client:
        while (await client.stats())[0].waiting:
            await asyncio.sleep(0.1)

    assert FRIEND_BEARS <= friend.most < MOST / 2
