"""Following one process by what the stream tells: of a reader that is shared, or of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from click.testing import CliRunner
from tests.integration.conftest import QUICK
from tests.integration.memory import config_of_reader
from tests.waiting import until_on_loop

from pgprog import AsyncClient, Engine, Intent, Namespace, Step
from pgprog.cli import main
from pgprog.client import lookout
from pgprog.client.cached_reads import CachedReads
from pgprog.client.shared import wire
from pgprog.client.shared.reads import SharedReads
from pgprog.config import (
    CacheSettings,
    Config,
    NamespaceSettings,
)
from pgprog.daemon.reader import reading, watching
from pgprog.metrics import Metrics
from pgprog.store.client_store import ClientStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import LiteralString

    import psycopg

    from pgprog.client.memory import Memory

# A loaded machine is no reason to look.
CACHED = CacheSettings(enabled=True, max_lag=timedelta(seconds=30))
KEY = ("orders", "o-1")
ADD = "select pgprog.call('orders', 'o-1', name => 'add')"
REMOVE = "select pgprog.remove('orders', 'o-1')"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "reader.sock")


@pytest.fixture
def config(db: str, path: str) -> Config:
    return config_of_reader(db, path, cache=CACHED)


@pytest.fixture
async def engine(db: str) -> AsyncIterator[Engine]:
    """Serves orders, which count what is added; o-1 is open."""
    settings: Any = NamespaceSettings(cache=CACHED).to_json()["cache"]
    orders: Namespace[Any] = Namespace("orders", cache=dict(settings))

    @orders.init
    def begin(step: Step[Any], size: int = 0) -> Intent[Any]:
        return Intent(state=0, events=[0], metadata={"text": size * "x"})

    @orders.call
    def add(step: Step[Any]) -> Intent[Any, int]:
        total = step.state + 1
        return Intent(state=total, events=[total], response=total)

    async with Engine(db, [orders], worker=QUICK) as engine:
        await engine.init("orders", "o-1")
        yield engine


class Seen:
    """What memories answered those who watch, and how many reads PostgreSQL had from clients."""

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.reads = 0

    async def until_told(self, times: int = 1) -> None:
        """Wait until it was answered so often, one after the other, that no look is due."""
        self.answers.clear()
        await until_on_loop(lambda: self.answers[-times:] == [True] * times)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    monkeypatch.setattr(lookout, "POLL_SECONDS", 0.02)
    seen = Seen()

    def answering(kind: type[Memory]) -> None:
        watch: Any = kind.watch

        async def answered(self: Memory, key: Any, call: Any) -> bool:
            answer: bool = await watch(self, key, call)
            seen.answers.append(answer)
            return answer

        monkeypatch.setattr(kind, "watch", answered)

    def counting(name: str) -> None:
        read = getattr(ClientStore, name)

        async def counted(*args: Any, **options: Any) -> Any:
            seen.reads += 1
            return await read(*args, **options)

        monkeypatch.setattr(ClientStore, name, counted)

    answering(SharedReads)
    answering(CachedReads)
    counting("get")
    counting("get_fenced")
    return seen


@pytest.fixture(params=["shared", "own"])
async def client(
    request: pytest.FixtureRequest, db: str, path: str, config: Config, engine: Engine
) -> AsyncIterator[AsyncClient]:
    """One that asks a shared reader, or has a cache of its own."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "shared":
            await stack.enter_async_context(reading(config, Metrics()))
            options: dict[str, Any] = {"reader": path}
        else:
            options = {"cache": {"orders": CACHED}, "wakeups": "poll"}
        yield await stack.enter_async_context(AsyncClient(db, **options))


class Followed:
    """The states that a client sees, as it sees them."""

    def __init__(self, client: AsyncClient) -> None:
        self.states: list[Any] = []
        self.task = asyncio.create_task(self._follow(client))

    async def _follow(self, client: AsyncClient) -> None:
        async for process in client.watch("orders", "o-1"):
            self.states.append(process.state)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_who_watches_asks_postgresql_nothing_while_nothing_changes(
    client: AsyncClient, engine: Engine, seen: Seen
) -> None:
    await engine.remove("orders", "o-1")
    await engine.init("orders", "o-1", {"size": 200_000})  # no memory keeps it: a look is a read
    async with Followed(client) as followed:
        await seen.until_told(times=5)
        before = seen.reads
        await seen.until_told(times=50)
        quiet = seen.reads - before
        await engine.call("orders", "o-1", name="add")
        await until_on_loop(lambda: followed.states[-1:] == [1])
        await seen.until_told(times=5)
        before = seen.reads
        await seen.until_told(times=50)

        assert quiet == 0
        assert seen.reads == before
    assert followed.states == [0, 1]


@pytest.mark.parametrize(("change", "shown"), [(ADD, [0, 1]), (REMOVE, [0])])
async def test_a_change_is_told_whoever_makes_it(
    client: AsyncClient,
    seen: Seen,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    change: LiteralString,
    shown: list[int],
) -> None:
    async with Followed(client) as followed:
        await seen.until_told(times=3)
        monkeypatch.setattr(lookout, "POLL_SECONDS", 3600.0)
        await seen.until_told()  # by the last pause that ends by itself
        sql.execute(change)
        await until_on_loop(lambda: followed.states == shown)
        if change == REMOVE:
            await until_on_loop(followed.task.done)


async def test_a_reader_that_goes_is_done_without_and_heard_when_it_is_back(
    db: str, path: str, config: Config, engine: Engine, seen: Seen
) -> None:
    async with AsyncClient(db, reader=path) as client:
        async with reading(config, Metrics()), Followed(client) as followed:
            await seen.until_told(times=3)
        async with Followed(client) as followed:
            await until_on_loop(lambda: seen.answers[-3:] == [False] * 3)
            await engine.call("orders", "o-1", name="add")
            await until_on_loop(lambda: followed.states[-1:] == [1])
            async with reading(config, Metrics()):
                await seen.until_told(times=3)
                await engine.call("orders", "o-1", name="add")
                await until_on_loop(lambda: followed.states[-1:] == [2])
    assert followed.states == [0, 1, 2]


async def test_who_is_told_that_the_reader_went_looks_at_once(
    db: str, path: str, config: Config, engine: Engine, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        reading(config, Metrics()),
        AsyncClient(db, reader=path) as client,
        Followed(client),
    ):
        await seen.until_told(times=3)
        monkeypatch.setattr(lookout, "POLL_SECONDS", 3600.0)
        await seen.until_told()
        before, memory = seen.reads, client._cached
        assert isinstance(memory, SharedReads)
        connection = memory._line._connection
        assert connection is not None
        connection.connection_lost(None)
        await until_on_loop(lambda: seen.reads > before)


async def test_what_reads_of_another_server_have_not_seen_is_looked_for(
    db: str, path: str, config: Config, engine: Engine, seen: Seen
) -> None:
    """A standby shows later what the reader has told."""
    async with reading(config, Metrics()), AsyncClient(db, reader=path) as client:
        memory = client._cached
        assert isinstance(memory, SharedReads)
        async with Followed(client):
            await seen.until_told(times=3)
        await client.get("orders", "o-1", cache=False)
        here = memory._read_server
        answers = []
        for server in (here, "another", here):
            memory._read_server = server
            answers.append(await memory.watch(KEY, seen.answers.clear))

    assert here
    assert answers == [True, False, True]


async def _connected(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(wire.GREETING)
    await reader.readexactly(len(wire.GREETING))
    await _frame(reader)
    return reader, writer


async def _frame(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


async def _watched(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watch: int, process_id: str = "o-1"
) -> object:
    writer.write(wire.framed(wire.Watch(7, watch, "orders", process_id)))
    number, reply = wire.answer(await _frame(reader))
    assert number == 7
    return reply


@pytest.fixture
async def warm(
    db: str, path: str, config: Config, engine: Engine, seen: Seen
) -> AsyncIterator[None]:
    """A shared reader that tells of changes."""
    async with reading(config, Metrics()):
        async with AsyncClient(db, reader=path) as client, Followed(client):
            await seen.until_told(times=3)
        yield


async def test_of_many_changes_one_is_told_for_each_time_that_was_asked(
    warm: None, path: str, engine: Engine
) -> None:
    reader, writer = await _connected(path)
    for watch in (1, 2, 1):
        assert isinstance(await _watched(reader, writer, watch), wire.Watched)
    for _ in range(20):
        await engine.call("orders", "o-1", name="add")
    replies = [wire.answer(await _frame(reader)) for _ in range(2)]
    last = await _watched(reader, writer, 3)
    writer.close()

    assert sorted(number for number, _ in replies) == [1, 2]
    assert {reply for _, reply in replies} == {wire.Told()}
    assert isinstance(last, wire.Watched)  # nothing came between


async def test_what_is_watched_no_more_is_not_told(warm: None, path: str, engine: Engine) -> None:
    reader, writer = await _connected(path)
    await _watched(reader, writer, 1)
    await _watched(reader, writer, 2)
    writer.write(wire.framed(wire.Unwatch(1)))
    writer.write(wire.framed(wire.Unwatch(9)))  # it does not know of that
    await _watched(reader, writer, 2)
    await engine.call("orders", "o-1", name="add")
    assert wire.answer(await _frame(reader)) == (2, wire.Told())
    assert isinstance(await _watched(reader, writer, 2), wire.Watched)
    writer.close()


async def test_so_many_are_watched_and_no_more_until_one_goes(
    warm: None,
    path: str,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watching, "_MOST_OF_A_CLIENT", 2)
    monkeypatch.setattr(watching, "_MOST", 3)
    first, second = await _connected(path), await _connected(path)
    taken = [await _watched(*first, watch, f"o-{watch}") is not None for watch in range(4)]
    more = [await _watched(*second, watch) is not None for watch in range(2)]
    first[1].close()
    async with asyncio.timeout(30):
        while await _watched(*second, 1) is None:
            await asyncio.sleep(0.01)
    assert await _watched(*second, 0) is not None  # one that is on needs no room
    assert await _watched(*second, 2) is None
    second[1].close()

    assert taken == [True, True, False, False]
    assert more == [True, False]
    assert caplog.messages.count("reader_watches_full") == 3


async def test_what_is_not_served_is_not_watched(warm: None, path: str) -> None:
    reader, writer = await _connected(path)
    writer.write(wire.framed(wire.Watch(7, 1, "parcels", "p-1")))
    assert wire.answer(await _frame(reader)) == (7, None)
    writer.close()


async def test_the_command_asks_postgresql_nothing_while_nothing_changes(
    warm: None,
    config: Config,
    path: str,
    seen: Seen,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "pgprog.yaml"
    file.write_text(f"dsn: {config.dsn!r}\nreader: {{socket: {path}}}\nnamespaces: {{}}\n")
    monkeypatch.setenv("PGPROG_CONFIG", str(file))
    words = ["process", "watch", "orders", "o-1", "--json"]
    typed = asyncio.create_task(asyncio.to_thread(CliRunner().invoke, main, words))
    await seen.until_told(times=5)
    before = seen.reads
    await seen.until_told(times=50)
    quiet = seen.reads - before
    sql.execute(ADD)
    await until_on_loop(lambda: seen.reads > before + 1)  # it has looked, and found no more
    sql.execute(REMOVE)
    answer = await typed

    assert (answer.exit_code, quiet) == (0, 0)
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [line.get("state") for line in lines] == [0, 1, None]
    assert lines[-1] == {"namespace": "orders", "process_id": "o-1", "removed": True}
