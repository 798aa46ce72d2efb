"""A namespace beside another with a long backlog, on a worker with few places."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog import AsyncClient, Intent, Namespace, Step
from pgprog.config import WorkerConfig
from pgprog.store.engine_store import EngineStore
from pgprog.store.lane import Lane

if TYPE_CHECKING:
    from tests.integration.conftest import EngineFactory

_PLACES = 3
_BACKLOG = 30


class Gate:
    """Handlers that begin by saying so, and end when they are let, one by one."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.end = asyncio.Semaphore(0)

    def namespace(self, name: str) -> Namespace[Any]:
        namespace: Namespace[Any] = Namespace(name)

        @namespace.init
        async def begin(step: Step[Any]) -> Intent[Any]:
            self.begun.put_nowait(name)
            await self.end.acquire()
            return Intent(state=0)

        return namespace

    async def begin(self, count: int) -> list[str]:
        """Return where the next handlers to begin are from."""
        async with asyncio.timeout(10):
            return [await self.begun.get() for _ in range(count)]


@pytest.mark.parametrize("poll_every", [timedelta(milliseconds=50), timedelta(hours=1)])
async def test_the_next_free_place_goes_to_who_has_none_however_long_others_wait(
    make_engine: EngineFactory, db: str, poll_every: timedelta
) -> None:
    gate = Gate()
    crowd, quiet = gate.namespace("crowd"), gate.namespace("quiet")
    worker = WorkerConfig(concurrency=_PLACES, poll_every=poll_every)
    async with make_engine(crowd, quiet, worker=worker), AsyncClient(db) as client:
        backlog = [client.submit("init", "crowd", f"c{number}") for number in range(_BACKLOG)]
        await asyncio.gather(*backlog)
        assert await gate.begin(_PLACES) == ["crowd"] * _PLACES

        await client.submit("init", "quiet", "q")
        gate.end.release()
        assert await gate.begin(1) == ["quiet"]

        for _ in range(_BACKLOG + 1):
            gate.end.release()
        assert await gate.begin(_BACKLOG - _PLACES) == ["crowd"] * (_BACKLOG - _PLACES)


async def test_a_hint_does_not_wait_until_the_queues_are_measured(db: str, session: Any) -> None:
    stranger = session()
    store = EngineStore(db, name="test")
    with stranger.transaction():
        stranger.execute("lock table pgprog_data.measurements")
        measuring = asyncio.create_task(store.measure_queues())
        await asyncio.sleep(0)

        await asyncio.wait_for(store.announce("some_channel", ["hello"]), 5)
        assert not measuring.done()
    await measuring
    await store.close()


async def test_a_hint_of_few_does_not_wait_for_the_hints_of_many(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EngineStore(db, name="test")
    fetch, held, sent = Lane.fetch, asyncio.Event(), asyncio.Event()

    async def slow(lane: Lane, statement: Any, values: Any = ()) -> list[Any]:
        if not sent.is_set():
            sent.set()
            async with lane._lock:  # as a round trip on it does
                await held.wait()
        return await fetch(lane, statement, values)

    monkeypatch.setattr(Lane, "fetch", slow)
    telling = asyncio.create_task(store.announce("some_channel", ["many"]))
    await asyncio.wait_for(sent.wait(), 5)

    await asyncio.wait_for(store.announce("some_channel", ["few"], lane="few"), 5)
    assert not telling.done()
    held.set()
    await telling
    await store.close()
