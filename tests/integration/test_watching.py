"""Following a process: every event once and in order, whatever becomes of connections."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.conftest import QUICK

from pgprog import AsyncClient, Client, Engine, Intent, Namespace, Seen, Step, migrate
from pgprog.client import lookout, watching
from pgprog.client.cached_reads import CachedReads
from pgprog.client.lookout import Lookout
from pgprog.config import CacheSettings
from pgprog.embedded import DevelopmentServer
from pgprog.errors import ProcessNotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    import psycopg

    from pgprog.model import Process


_END_THE_READING_SESSIONS = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name like 'pgprog client%'"
    "   and query like '%pgprog.get%'"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "POLL_SECONDS", 0.02)


@pytest.fixture
def numbers() -> Namespace[int]:
    """Counters whose steps write their numbers as events."""
    counters: Namespace[int] = Namespace("counters", state=int)

    @counters.init
    def begin(step: Step[int]) -> Intent[int]:
        return Intent(state=0, events=[0])

    @counters.call
    def add(step: Step[int], count: int = 1) -> Intent[int, int]:
        last = step.state + count
        return Intent(state=last, events=[*range(step.state + 1, last + 1)], response=last)

    return counters


@pytest.fixture
async def engine(make_engine: Any, numbers: Namespace[int]) -> AsyncIterator[Engine]:
    """Serves counters; c-1 is open."""
    made: Engine = make_engine(numbers)
    async with made:
        await made.init("counters", "c-1")
        yield made


async def _until(watched: AsyncGenerator[Process[Any], None], last: object) -> list[Process[Any]]:
    """Return snapshots up to that with *last* as its state and all its events."""
    seen = []
    async with asyncio.timeout(60):
        async for process in watched:
            seen.append(process)
            if process.state == last and Seen.of(process).event_id == process.last_event_id:
                return seen
    pytest.fail("it was removed")


def _payloads(snapshots: list[Process[Any]]) -> list[Any]:
    return [event.payload for process in snapshots for event in process.history]


async def test_watching_begins_with_the_process_as_it_is_without_its_history(
    engine: Engine,
) -> None:
    watched = engine.watch("counters", "c-1")
    first = await anext(watched)
    await engine.call("counters", "c-1", {}, name="add")
    second = await anext(watched)
    await watched.aclose()

    assert (first.state, first.history) == (0, ())
    assert (second.state, _payloads([second])) == (1, [1])
    assert second.version > first.version


@pytest.mark.direct("sessions of a pooler bear the name of who had them last")
async def test_each_event_comes_once_and_in_order_under_200_concurrent_steps_and_broken_connections(
    engine: Engine, db: str, sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(db) as client:
        watched = client.watch("counters", "c-1", after=Seen(0, 0, 0))
        first = await anext(watched)
        rest = asyncio.create_task(_until(watched, 200))
        for _ in range(4):
            calls = [engine.call("counters", "c-1", {}, name="add") for _ in range(50)]
            await asyncio.gather(*calls)
            while not sql.execute(_END_THE_READING_SESSIONS).rowcount:
                await asyncio.sleep(0.001)  # it is not there again yet
        snapshots = [first, *await rest]

    assert _payloads(snapshots) == [*range(201)]
    versions = [process.version for process in snapshots]
    assert versions == sorted(set(versions))


@pytest.mark.slow  # a server starts twice
async def test_each_event_comes_once_over_a_crash_of_the_server(
    home: Path, numbers: Namespace[int]
) -> None:
    server = DevelopmentServer(home)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(migrate, server.dsn)
    async with Engine(server.dsn, [numbers], worker=QUICK) as engine:
        await engine.init("counters", "c-1")
        watched = engine.watch("counters", "c-1", after=Seen(0, 0, 0))
        snapshots = [await anext(watched)]
        rest = asyncio.create_task(_until(watched, 20))
        for number in range(20):
            if number == 10:
                pid = server.status().pid
                assert pid is not None
                os.kill(pid, signal.SIGQUIT)  # as a crash, for those connected
                while server.status().is_running:
                    await asyncio.sleep(0.001)
                await asyncio.to_thread(server.start)
            await engine.call(
                "counters", "c-1", {}, name="add", idempotency_key=str(number), timeout=60
            )
        snapshots += await rest

    assert _payloads(snapshots) == [*range(21)]


async def test_a_database_that_does_not_answer_ends_nothing(
    engine: Engine, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient(db) as client:
        watched = client.watch("counters", "c-1")
        await anext(watched)
        asked = asyncio.Event()

        async def refuse(*_: object, **__: object) -> None:
            asked.set()
            raise StoreUnavailable

        with monkeypatch.context() as broken:
            broken.setattr(client._store, "get", refuse)
            following = asyncio.create_task(_until(watched, 1))
            await asked.wait()
            await engine.call("counters", "c-1", {}, name="add")
        assert _payloads(await following) == [1]


async def test_more_events_than_a_page_come_page_by_page_and_each_can_be_gone_on_from(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PAGE", 3)
    await engine.call("counters", "c-1", {"count": 7}, name="add")

    watched = engine.watch("counters", "c-1", after=Seen(0, 0, 0))
    first = await anext(watched)
    await watched.aclose()
    rest = await _until(engine.watch("counters", "c-1", after=Seen.of(first)), 7)

    assert _payloads([first]) == [0, 1, 2]
    assert [_payloads([process]) for process in rest] == [[3, 4, 5], [6, 7]]


async def test_what_was_seen_does_not_come_again(engine: Engine) -> None:
    process = await engine.get("counters", "c-1")
    assert process is not None
    watched = engine.watch("counters", "c-1", after=Seen.of(process))
    following = asyncio.create_task(_until(watched, 1))
    await engine.call("counters", "c-1", {}, name="add")

    assert [each.state for each in await following] == [1]


async def test_it_ends_when_the_process_is_removed(engine: Engine) -> None:
    watched = engine.watch("counters", "c-1")
    last = await anext(watched)
    await engine.remove("counters", "c-1")

    assert await anext(watched, "the end") == "the end"
    again = engine.watch("counters", "c-1", after=Seen.of(last))
    assert await anext(again, "the end") == "the end"
    with pytest.raises(ProcessNotFound):
        await anext(engine.watch("counters", "c-1"))


async def test_a_process_created_again_is_another_incarnation_with_all_its_events(
    engine: Engine,
) -> None:
    await engine.call("counters", "c-1", {"count": 5}, name="add")
    watched = engine.watch("counters", "c-1")
    first = await anext(watched)
    await engine.remove("counters", "c-1")
    await engine.init("counters", "c-1")
    await engine.call("counters", "c-1", {}, name="add")
    second = await anext(watched)
    await watched.aclose()

    assert second.incarnation != first.incarnation
    assert _payloads([second]) == [0, 1]


async def test_who_watches_is_told_that_the_client_is_closed(engine: Engine, db: str) -> None:
    async with AsyncClient(db) as client:
        watched = client.watch("counters", "c-1")
        await anext(watched)
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(watched)


@pytest.mark.parametrize(
    "options",
    [
        {"wakeups": "stream"},
        {"wakeups": "poll", "cache": {"counters": CacheSettings(enabled=True)}},
    ],
    ids=["stream", "cache"],
)
async def test_the_stream_tells_before_it_is_time_to_look(
    engine: Engine, db: str, monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    async with AsyncClient(db, **options) as client:
        async with asyncio.timeout(20):
            await _is_followed(client, engine)
        pauses, pause = asyncio.Event(), Lookout.pause

        async def patient(self: Lookout) -> None:
            pauses.set()
            await pause(self)

        monkeypatch.setattr(lookout, "POLL_SECONDS", 3600)
        monkeypatch.setattr(Lookout, "pause", patient)
        watched = client.watch("counters", "c-1")
        last = (await anext(watched)).state
        following = asyncio.create_task(_until(watched, last + 1))
        await pauses.wait()
        await engine.call("counters", "c-1", {}, name="add")
        assert _payloads(await following) == [last + 1]


async def test_what_a_standby_does_not_show_yet_is_looked_for(engine: Engine, db: str) -> None:
    """The reads of a client may be of a standby, which shows later what the stream has told."""
    key = "counters", "c-1"
    async with AsyncClient(db, cache={"counters": CacheSettings(enabled=True)}) as client:
        async with asyncio.timeout(20):
            await _is_followed(client, engine)
        memory, read = client._cached, client._store.get_fenced
        assert isinstance(memory, CachedReads)
        behind = [await read(*key, max_events=0)]
        reads = 0

        async def read_standby(*key: str, **range_: Any) -> tuple[str, str, bytes | None]:
            nonlocal reads
            reads += 1
            snapshot, _, found = await read(*key, **range_)
            return snapshot, "a standby", behind[0][2] if behind else found

        client._store.get_fenced = read_standby  # type: ignore[method-assign]
        watched = client.watch(*key)
        last = (await anext(watched)).state
        following = asyncio.create_task(_until(watched, last + 1))
        await engine.call(*key, {}, name="add")
        async with asyncio.timeout(20):
            while not memory.cache.is_settled(key, now=time.monotonic()):
                await asyncio.sleep(0.01)
            enough = reads + 3
            while reads < enough:
                await asyncio.sleep(0.01)
        behind.clear()
        assert _payloads(await following) == [last + 1]


async def _is_followed(client: AsyncClient, engine: Engine) -> None:
    """Wait until the stream of the client tells of a step."""
    told = asyncio.Event()
    while not told.is_set():
        await client.get("counters", "c-1")
        with client._wakes.calling(told.set):
            if client._cached is not None:
                await client._cached.watch(("counters", "c-1"), told.set)
            await engine.call("counters", "c-1", {}, name="add")
            try:
                async with asyncio.timeout(0.1):
                    await told.wait()
            except TimeoutError:
                continue
        if isinstance(client._cached, CachedReads) and not client._cached.cache.is_warm:
            told.clear()


def test_a_blocking_client_watches_too(make_engine: Any, db: str) -> None:
    counters: Namespace[Any] = Namespace("counters")

    @counters.init
    def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0, events=[0])

    with make_engine(counters) as engine:
        engine.init("counters", "c-1")
        with Client(db) as client:
            found = []
            for process in client.watch("counters", "c-1", after=Seen(0, 0, 0)):
                found.append(process)
                client.remove("counters", "c-1")
    assert _payloads(found) == [0]
