"""Reads from the memory of a reader that all programs of a machine share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import stat
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.integration.conftest import QUICK
from tests.integration.memory import cached, config_of_reader
from tests.integration.streams import END_STREAMS, SLOTS
from tests.waiting import until_on_loop

from pgprog import AsyncClient, Client, Engine, Intent, Namespace, SetTimer, Step
from pgprog.cache.snapshots import Snapshot
from pgprog.client.cached_reads import Found
from pgprog.client.freshness import Range
from pgprog.client.memory import TooSoon
from pgprog.client.shared import wire
from pgprog.client.shared.line import Line
from pgprog.client.shared.reads import SharedReads
from pgprog.codec import Misfit
from pgprog.config import (
    CacheSettings,
    Config,
    EncryptionConfig,
    NamespaceSettings,
    ReaderConfig,
)
from pgprog.daemon.reader import answering, reading
from pgprog.errors import ConfigError, StoreUnavailable
from pgprog.metrics import Metrics
from pgprog.store.client_store import ClientStore
from pgprog.store.probe import database_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import psycopg


# Lag is asked for where it is meant: a loaded machine is no reason to read PostgreSQL.
CACHED = CacheSettings(enabled=True, max_lag=timedelta(seconds=30), wait=timedelta(seconds=5))


ELSEWHERE = wire.GREETING + wire.framed(wire.Welcome(["orders"], "another"))


def _question(**given: Any) -> wire.Question:
    plain: dict[str, Any] = {
        "number": 0,
        "namespace": "orders",
        "process_id": "o-1",
        "at_least": 0,
        "max_lag": None,
        "known_ago": None,
        "changed_ago": None,
        "max_events": 0,
        "after": None,
        "direction": "forward",
    }
    return wire.Question(**(plain | given))


class Counted(msgspec.Struct):
    """No state of ours."""

    many: int


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "reader.sock")


@pytest.fixture
def config(db: str, path: str) -> Config:
    return config_of_reader(db, path, cache=CACHED)


@pytest.fixture
def orders() -> Namespace[Any]:
    namespace: Namespace[Any] = Namespace("orders", cache={**_plain(CACHED)})

    @namespace.init
    def begin(step: Step[Any], args: Any) -> Intent[Any]:
        timers = [SetTimer(after=timedelta(days=1), name="expiry")]
        count = (args or {}).get("events", 1)
        events = [{"n": each} for each in range(count)]
        return Intent(state={"n": 0}, metadata={"of": [1]}, events=events, timers=timers)

    @namespace.call
    def add(step: Step[Any]) -> Intent[Any, int]:
        total = step.state["n"] + 1
        return Intent(state={"n": total}, events=[{"n": total}], response=total)

    return namespace


def _plain(settings: CacheSettings) -> dict[str, Any]:
    plain: Any = NamespaceSettings(cache=settings).to_json()["cache"]
    return dict(plain)


@pytest.fixture
async def engine(db: str, path: str, orders: Namespace[Any]) -> AsyncIterator[Engine]:
    """An engine that asks the shared reader, wherever there is one."""
    async with Engine(db, [orders], worker=QUICK, reader=path) as engine:
        yield engine


async def test_a_shared_read_is_what_postgresql_would_say(config: Config, engine: Engine) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await engine.call("orders", "o-1", name="add")
        kept = await cached(engine, max_events=10)
        bare = await cached(engine)
        read = await engine.get("orders", "o-1", max_events=10, cache=False)
        nothing = await engine.get("orders", "o-2")

    assert read is not None
    assert kept == read
    assert bare.history == ()
    assert (bare.state, bare.metadata, bare.timers) == (read.state, read.metadata, read.timers)
    assert (read.source, read.lag) == ("postgresql", 0.0)
    assert 0 < kept.lag < 30
    assert nothing is None


class OrderId(str):
    """What frameworks make of texts: a kind of their own."""

    __slots__ = ()


async def test_a_reader_is_asked_by_ids_of_a_kind_of_their_own(
    config: Config, engine: Engine
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", OrderId("o-1"))
        await cached(engine)
        process = await engine.get("orders", OrderId("o-1"))
        async with contextlib.aclosing(engine.watch("orders", OrderId("o-1"))) as watched:
            seen = await anext(watched)

    assert process is not None
    assert (process.source, seen.process_id) == ("cache", "o-1")


async def test_a_shared_read_by_a_namespace_is_typed(
    config: Config, engine: Engine, orders: Namespace[Any]
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)
        process = await engine.get(orders, "o-1")

    assert process is not None
    assert process.state == {"n": 0}


async def test_a_state_that_does_not_fit_is_told_by_the_shared_read_itself(
    config: Config, engine: Engine, db: str, path: str
) -> None:
    counted = Namespace("orders", state=Counted)
    async with reading(config, Metrics()), AsyncClient(db, reader=path) as client:
        await engine.init("orders", "o-1")
        await cached(client)
        with pytest.raises(Misfit, match="many"):
            await client.get(counted, "o-1")


async def test_a_process_greater_than_what_is_read_at_once_comes_whole(
    config: Config, engine: Engine
) -> None:
    state = {"text": "0123456789" * 100_000}
    process = {"namespace": "orders", "process_id": "o-2", "status": "running", "state": state}
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await engine.put(process)
        await cached(engine)
        reads = engine._cached
        assert isinstance(reads, SharedReads)
        before, found = reads._counts["orders", "miss"], None
        async with asyncio.timeout(20):
            while reads._counts["orders", "miss"] == before:  # the reader does not keep such ones
                found = await engine.get("orders", "o-2")

    assert found is not None
    assert found.state == state


async def test_a_process_that_no_frame_holds_comes_from_postgresql_and_the_line_stays(
    config: Config, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_ANSWER_BYTES", 1 << 19)
    state = {"text": "0123456789" * 100_000}
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await engine.put(
            {"namespace": "orders", "process_id": "o-2", "status": "running", "state": state}
        )
        await cached(engine)
        reads = engine._cached
        assert isinstance(reads, SharedReads)
        line = reads._line._connection
        found = [await engine.get("orders", "o-2") for _ in range(5)]
        beside = await asyncio.gather(engine.get("orders", "o-2"), engine.get("orders", "o-1"))
        same = reads._line._connection is line

    assert [each and (each.state, each.source) for each in found] == 5 * [(state, "postgresql")]
    assert [each and each.process_id for each in beside] == ["o-2", "o-1"]
    assert same


async def test_own_writes_are_always_read_through_a_shared_reader(
    config: Config, engine: Engine
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)
        found, sources = [], []
        for _ in range(20):
            total = await engine.call("orders", "o-1", name="add")
            process = await engine.get("orders", "o-1")
            assert process is not None
            found.append(process.state["n"] - total)
            sources.append(process.source)

    assert set(found) == {0}
    assert sources.count("cache") > 5


async def test_own_removal_and_next_init_are_read_at_once_through_a_shared_reader(
    config: Config, engine: Engine
) -> None:
    async with reading(config, Metrics()):
        for _ in range(3):
            await engine.init("orders", "o-1")
            first = await cached(engine)
            await engine.remove("orders", "o-1", version=first.version)
            assert await engine.get("orders", "o-1") is None


async def test_programs_that_share_a_reader_have_no_slots(
    config: Config, engine: Engine, db: str, path: str, sql: psycopg.Connection[Any]
) -> None:
    async with reading(config, Metrics()), AsyncClient(db, reader=path) as client:
        await engine.init("orders", "o-1")
        await cached(engine)
        await cached(client)
        assert sql.execute(f"select count(*) {SLOTS}").fetchone() == (1,)


async def test_a_version_of_another_program_is_read_when_it_is_asked_for(
    config: Config, engine: Engine, db: str, path: str
) -> None:
    async with reading(config, Metrics()), AsyncClient(db, reader=path) as client:
        await engine.init("orders", "o-1")
        await cached(client)
        for total in range(1, 10):
            task = await engine.submit("call", "orders", "o-1", name="add")
            await task.wait()
            process = await client.get("orders", "o-1", at_least=task.version)
            assert process is not None
            assert process.state == {"n": total}


@pytest.mark.parametrize("options", [{"max_lag": 0}, {"cache": False}])
async def test_what_must_not_be_old_comes_from_postgresql(
    config: Config, engine: Engine, options: Any
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)
        process = await engine.get("orders", "o-1", **options)

    assert process is not None
    assert (process.source, process.lag) == ("postgresql", 0.0)


async def test_events_before_those_that_are_kept_come_from_postgresql(
    config: Config, engine: Engine
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1", {"events": 60})
        newest = await cached(engine, max_events=50, direction="backward")
        oldest = await engine.get("orders", "o-1", max_events=5)

    assert [each.event_id for each in newest.history] == [*range(60, 10, -1)]
    assert oldest is not None
    assert oldest.source == "postgresql"
    assert [each.event_id for each in oldest.history] == [1, 2, 3, 4, 5]


def test_a_blocking_client_asks_the_reader_too(
    config: Config, db: str, path: str, sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "select pgprog_engine._create_namespace('orders', '{\"cache\": {\"enabled\": true}}')"
    )
    with Client(db, reader=path) as client:

        async def serve() -> None:
            async with reading(config, Metrics()):
                await asyncio.to_thread(_read_until_shared, client)

        client.put({"namespace": "orders", "process_id": "o-1", "status": "running", "state": 1})
        asyncio.run(serve())


def _read_until_shared(client: Client) -> None:
    while (process := client.get("orders", "o-1")) is None or process.source != "cache":
        assert process is not None


@contextlib.asynccontextmanager
async def _line(path: str, db: str) -> AsyncIterator[Line]:
    """A line to the reader, to ask it what no client would."""
    opened = asyncio.Event()
    line = Line(
        path, find_database=lambda: database_of(db, name="t"), on_open=lambda _: opened.set()
    )
    running = asyncio.create_task(line.run())
    try:
        async with asyncio.timeout(20):
            await opened.wait()
            while not line.is_open:
                await asyncio.sleep(0)
        yield line
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_what_a_client_knows_travels_with_its_question(
    config: Config, engine: Engine, db: str, path: str
) -> None:
    async with reading(config, Metrics()), _line(path, db) as line:
        await engine.init("orders", "o-1")
        version = (await cached(engine)).version

        async def lag(**given: Any) -> float | str | None:
            answer = await line.ask(_question(**given))
            return "ask" if answer is None else answer.lag

        long_ago = 100.0
        async with asyncio.timeout(20):  # the stream is as of long enough after all that was noted
            while not isinstance(await lag(known_ago=1.0, changed_ago=1.0), float):
                await asyncio.sleep(0.05)
        assert isinstance(await lag(at_least=version), float)
        assert isinstance(await lag(known_ago=long_ago, changed_ago=long_ago), float)
        assert await lag(changed_ago=0.0) == "ask"
        assert await lag(known_ago=0.0) is None  # it was read anew
        assert await lag(at_least=version + 1) == "ask"
        assert await lag(max_lag=0.0) == "ask"
        assert await lag(namespace="others") == "ask"
        assert await lag(process_id="o-9") == "ask"


async def is_cached(client: AsyncClient, process_id: str) -> bool:
    found = await client.get("orders", process_id)
    return found is not None and found.source == "cache"


async def test_many_questions_on_one_line_each_get_their_own_answer(
    config: Config, engine: Engine, db: str, path: str
) -> None:
    async with reading(config, Metrics()), AsyncClient(db, reader=path) as client:
        for number in range(5):
            await engine.init("orders", f"o-{number}", {"events": number + 1})
        async with asyncio.timeout(20):
            while not all([await is_cached(client, f"o-{number}") for number in range(5)]):
                await asyncio.sleep(0.01)
        ids = [f"o-{number % 5}" for number in range(1000)]
        found = await asyncio.gather(*(client.get("orders", each) for each in ids))

    assert [each and each.process_id for each in found] == ids


async def test_a_question_in_pieces_is_answered_beside_those_of_others(
    config: Config, engine: Engine, path: str
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)
        reader, writer = await asyncio.open_unix_connection(path)
        for byte in wire.GREETING + wire.framed(_question(number=7)):
            writer.write(bytes([byte]))
            await writer.drain()
            await engine.get("orders", "o-1")  # who is read from in between
        async with asyncio.timeout(20):
            assert await reader.readexactly(len(wire.GREETING)) == wire.GREETING
            await _frame(reader)
            number, answer = wire.answer(await _frame(reader))
        writer.close()

    assert number == 7
    assert isinstance(answer, wire.Answer)
    assert answer.row.process_id == "o-1"


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


class Shown(logging.Handler):
    """What was logged of the line to a reader."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = getattr(record, "fields", {})
        self.told.append((record.getMessage(), str(fields.get("detail", ""))))


@pytest.fixture
def said() -> Any:
    """What clients say of their reader."""
    shown, logger = Shown(), logging.getLogger("pgprog.client.shared.line")
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
    yield shown.told
    logger.removeHandler(shown)


async def test_a_reader_that_dies_is_one_warning_and_comes_back(
    config: Config, engine: Engine, said: list[tuple[str, str]]
) -> None:
    await engine.init("orders", "o-1")
    async with reading(config, Metrics()):
        await cached(engine)
        said.clear()
    without = [await engine.get("orders", "o-1") for _ in range(5)]
    async with asyncio.timeout(20):
        while not any("no reader listens" in detail for _, detail in said):
            await asyncio.sleep(0.01)
    async with reading(config, Metrics()):
        await cached(engine)

    assert {each.source for each in without if each} == {"postgresql"}
    assert [event for event, _ in said] == ["reader_lost", "reader_connected"]
    assert said[0][1].endswith("reader.sock: no reader listens: No such file or directory")


@contextlib.asynccontextmanager
async def _imposter(path: str, says: bytes) -> AsyncIterator[list[bytes]]:
    """Listen where a reader should, say something, and nothing more; give what is heard."""
    heard: list[bytes] = []

    class Imposter(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            open_ones.append(transport)
            transport.write(says)

        def data_received(self, data: bytes) -> None:
            heard.append(data)

    open_ones: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_unix_server(Imposter, path)
    try:
        yield heard
    finally:
        server.close()
        for each in open_ones:
            each.abort()
        await asyncio.sleep(0)


async def test_a_reader_that_does_not_answer_holds_up_a_read_for_half_a_second(
    engine: Engine, db: str, path: str, said: list[tuple[str, str]]
) -> None:
    await engine.init("orders", "o-1")
    database = await database_of(db, name="t")
    greeting = wire.GREETING + wire.framed(wire.Welcome(["orders"], database))
    clock = asyncio.get_running_loop().time
    async with _imposter(path, greeting) as heard:
        async with asyncio.timeout(20):
            while ("reader_connected", "") not in said:
                await asyncio.sleep(0.01)
        began_at = clock()
        processes = await asyncio.gather(*(engine.get("orders", "o-1") for _ in range(10)))
        took = clock() - began_at

    assert {each.source for each in processes if each} == {"postgresql"}
    assert 0.3 < took < 5
    assert heard
    assert ("reader_lost", f"{path}: the reader does not answer") in said


@pytest.mark.parametrize(
    ("greeting", "detail"),
    [
        (wire.MAGIC + b"\x04", "the reader speaks version 4, this program 3: renew this program"),
        (wire.MAGIC + b"\x01", "the reader speaks version 1, this program 3: renew the reader"),
        (b"HTTP/1.1 400 Bad Request", "who listens there is no reader"),
        (wire.GREETING + b"\xff\xff\xff\xff", "the reader says what nobody understands"),
        (wire.GREETING + b"\x00\x00\x00\x01\x00", "the reader says what nobody understands"),
        (b"", "the reader does not answer"),
        (ELSEWHERE, "the reader reads another"),
    ],
)
async def test_what_is_no_reader_for_us_is_not_asked(
    engine: Engine, path: str, said: list[tuple[str, str]], greeting: bytes, detail: str
) -> None:
    await engine.init("orders", "o-1")
    async with _imposter(path, greeting):
        async with asyncio.timeout(20):
            while not any(detail in each for _, each in said):
                await asyncio.sleep(0.01)
        process = await engine.get("orders", "o-1")

    assert process is not None
    assert process.source == "postgresql"


@pytest.mark.parametrize(
    "says",
    [
        b"pgprog-reader\x07",
        b"GET / HTTP/1.1\r\n\r\n",
        wire.GREETING + b"\x7f\xff\xff\xff",
        wire.GREETING + b"\x00\x00\x00\x02\x93\x01",
        wire.GREETING + wire.framed(_question(number=1 << 32)),
        wire.GREETING + wire.framed(_question(number=-1)),
    ],
)
async def test_who_sends_what_is_no_question_is_cut_off_and_hurts_nobody_else(
    config: Config, engine: Engine, path: str, says: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(says)
        async with asyncio.timeout(20):
            greeting = await reader.read()  # to the end
        writer.close()
        await cached(engine)

    assert greeting.startswith(wire.GREETING)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


class _Untaken(asyncio.Transport):
    """A connection of which nobody takes anything after the greeting."""

    def __init__(self, client: answering.Client) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._client = client

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.sizes:
            self._client.pause_writing()
        self.sizes.append(len(data))

    def pause_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return sum(self.sizes[1:])


async def test_who_takes_no_answers_makes_a_reader_hold_few_however_large_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering.Client, "_answered", lambda *_: 100_000 * b"x")
    cached: Any = SimpleNamespace(cache=SimpleNamespace(shelves={}))
    client = answering.Answerer(cached, database="shop").client()
    untaken = _Untaken(client)
    client.connection_made(untaken)
    asked = wire.GREETING + 200 * wire.framed(_question())
    client.get_buffer(-1)[: len(asked)] = asked
    client.buffer_updated(len(asked))
    await asyncio.sleep(0)

    assert len(untaken.sizes) == 2
    assert untaken.sizes[1] < 2_000_000


async def test_who_takes_no_answers_makes_a_reader_hold_few_of_those_that_come_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def find(*_: object) -> Found:
        return Found(entry, None)

    entry: Any = object()
    monkeypatch.setattr(answering.Client, "_packed_entry", lambda *_: 100_000 * b"x")
    cached: Any = SimpleNamespace(
        cache=SimpleNamespace(shelves={"orders": None}),
        kept=lambda *_: None,
        find=find,
        pass_by=lambda _: None,
    )
    answerer = answering.Answerer(cached, database="shop")
    client = answerer.client()
    untaken = _Untaken(client)
    client.connection_made(untaken)
    asked = wire.GREETING + 200 * wire.framed(_question())
    client.get_buffer(-1)[: len(asked)] = asked
    client.buffer_updated(len(asked))
    await asyncio.wait([*answerer.under_way])

    assert len(untaken.sizes) > 200
    assert sum(untaken.sizes) < 2_000_000


async def test_who_does_not_take_his_answers_is_not_read_from(
    config: Config, engine: Engine, path: str
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)
        asked = socket.socket(socket.AF_UNIX)
        asked.setblocking(False)
        asked.connect(path)
        asked.send(wire.GREETING)
        question = wire.framed(_question()) * 1000
        with pytest.raises(BlockingIOError):  # noqa: PT012 - it takes some, then no more
            async with asyncio.timeout(20):
                while True:
                    for _ in range(20):
                        asked.send(question)
                    await asyncio.sleep(0.01)
        await cached(engine)
        asked.close()


async def test_an_answer_past_the_reader_is_not_older_than_what_it_has_shown(
    config: Config, engine: Engine
) -> None:
    """The stream tells a commit before it is visible: what it has shown, a snapshot must see."""
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        process = await cached(engine)
        reads = engine._cached
        assert isinstance(reads, SharedReads)
        text, server, _ = await engine._store.get_fenced("orders", "o-1", max_events=0)
        later = Snapshot.parse(text).xmax + 1000
        row: Any = None
        reads._keep_unseen(("orders", "o-1"), wire.Answer(row, {}, 0.0, (), (later,), server))
        told = reads.told(("orders", "o-1"))
        with pytest.raises(TooSoon):
            await reads.read_past(("orders", "o-1"), Range(0, None, "forward"), told)
        assert (await cached(engine)).version == process.version

    assert reads.told(("orders", "o-1")) == ()  # the reader has said that all see it


async def test_a_reader_follows_the_settings_of_the_database(
    config: Config, engine: Engine, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.daemon.reader.serving._LOOK_SECONDS", 0.05)
    change = (
        "update pgprog_data.namespaces set settings_version = settings_version + 1,"
        " settings = jsonb_set(settings, '{cache,enabled}', %s::text::jsonb)"
        " where namespace = 'orders'"
    )
    await engine.init("orders", "o-1")
    metrics = Metrics()
    async with reading(config, metrics):
        await cached(engine)
        sql.execute(change, ("false",))
        async with asyncio.timeout(20):
            while (await _source(engine)) == "cache":
                await asyncio.sleep(0.01)
        await until_on_loop(lambda: _figures(metrics) == {"pgprog_reader_clients": 1.0})
        sql.execute(change, ("true",))
        await cached(engine)
        figures = [(each.name, each.labels) for each in metrics.samples()]

    assert len({*figures}) == len(figures)  # of those who read for it before nothing is left


def _figures(metrics: Metrics) -> dict[str, float]:
    """Return what is told of the reader's clients and its stream."""
    told = {each.name: each.value for each in metrics.samples()}
    names = ("pgprog_reader_clients", "pgprog_replication_lag_seconds")
    return {name: told[name] for name in names if name in told}


async def _source(client: AsyncClient) -> str:
    process = await client.get("orders", "o-1")
    assert process is not None
    return process.source


async def test_a_reader_whose_stream_is_lost_has_postgresql_asked(
    config: Config, engine: Engine, sql: psycopg.Connection[Any]
) -> None:
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        for total in range(1, 4):
            await cached(engine)
            sql.execute(END_STREAMS)
            await engine.call("orders", "o-1", name="add")
            process = await engine.get("orders", "o-1")
            assert process is not None
            assert process.state == {"n": total}


async def test_metrics_tell_of_both_ends_of_the_line(config: Config, engine: Engine) -> None:
    metrics = Metrics()
    async with reading(config, metrics):
        await engine.init("orders", "o-1")
        await cached(engine)
        ours = {(each.name, each.labels): each.value for each in engine._figures.metrics.samples()}
        theirs = {(each.name, each.labels): each.value for each in metrics.samples()}

    assert ours["pgprog_reader_up", ()] == 1
    assert ours["pgprog_cache_requests_total", ("orders", "hit")] >= 1
    assert theirs["pgprog_reader_clients", ()] == 1
    assert theirs["pgprog_cache_requests_total", ("orders", "hit")] >= 1
    assert theirs["pgprog_cache_entries", ("orders",)] == 1


def _mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def _is_there(path: str) -> bool:
    return Path(path).exists()


async def test_who_may_ask_is_said_by_the_mode_of_the_socket(config: Config, path: str) -> None:
    async with reading(config, Metrics()):
        usual = _mode(path)
    private = Config(
        dsn=config.dsn, reader=ReaderConfig(socket=path, mode="600"), namespaces=config.namespaces
    )
    async with reading(private, Metrics()):
        narrow = _mode(path)

    assert (usual, narrow) == (0o660, 0o600)
    assert not _is_there(path)


async def test_there_is_one_reader_at_a_socket(config: Config) -> None:
    async with reading(config, Metrics()):
        with pytest.raises(ConfigError, match=r"a reader listens at .* already"):
            async with reading(config, Metrics()):
                pass


async def test_the_socket_of_a_dead_reader_is_replaced(
    config: Config, engine: Engine, path: str
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with reading(config, Metrics()):
        await engine.init("orders", "o-1")
        await cached(engine)


def _take_away(path: str) -> None:
    Path(path).unlink()


async def test_a_reader_whose_socket_is_taken_away_listens_at_another(
    config: Config,
    engine: Engine,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def until(event: str, times: int) -> None:
        await until_on_loop(lambda: caplog.messages.count(event) >= times)

    monkeypatch.setattr("pgprog.daemon.reader.serving._LOOK_SECONDS", 0.05)
    await engine.init("orders", "o-1")
    async with reading(config, Metrics()):
        _take_away(path)
        _a_file(Path(path))
        await until("reader_unheard", 1)
        _take_away(path)
        await until("reader_socket_renewed", 1)
        _take_away(path)
        await until("reader_socket_renewed", 2)
        await cached(engine)

    assert not _is_there(path)


async def test_a_reader_that_begins_anew_while_the_database_is_away_waits_for_it(
    config: Config, engine: Engine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, is_away = ClientStore.open, asyncio.Event()

    async def open_later(self: ClientStore) -> None:
        if not is_away.is_set():
            is_away.set()
            msg = "the server is shut down"
            raise StoreUnavailable(msg)
        await opened(self)

    monkeypatch.setattr("pgprog.daemon.reader.serving._LOOK_SECONDS", 0.05)
    await engine.init("orders", "o-1")
    async with reading(config, Metrics()) as (serving, _):
        await cached(engine)
        monkeypatch.setattr(ClientStore, "open", open_later)
        _take_away(path)
        await is_away.wait()
        await cached(engine)
        assert not serving.done()


async def test_a_reader_that_ends_leaves_the_socket_of_another_alone(
    config: Config, path: str
) -> None:
    with socket.socket(socket.AF_UNIX) as theirs:
        async with reading(config, Metrics()):
            _take_away(path)
            theirs.bind(path)

    assert _is_there(path)


async def test_a_socket_that_another_program_listens_at_is_left_alone(
    config: Config, path: str
) -> None:
    async with _imposter(path, b""):
        with pytest.raises(ConfigError, match=r"a reader listens at .* already"):
            async with reading(config, Metrics()):
                pass
        assert _is_there(path)


def _open_to_all(path: Path) -> None:
    path.parent.chmod(0o777)


def _a_file(path: Path) -> None:
    path.write_text("mine")


def _no_directory(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_open_to_all, "everybody may write in"),
        (_a_file, "is no socket"),
        (_no_directory, "No such file or directory"),
    ],
)
async def test_where_nobody_can_listen_safely_no_reader_starts(
    config: Config, path: str, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(Path(path))
    with pytest.raises(ConfigError, match=message):
        async with reading(config, Metrics()):
            pass


async def test_sealed_payloads_are_not_shared(db: str, path: str, tmp_path: Path) -> None:
    keys = EncryptionConfig(keys_file=str(tmp_path / "keys"))
    config = Config(dsn=db, reader=ReaderConfig(socket=path), encryption=keys)
    with pytest.raises(ConfigError, match="nothing is kept in memory"):
        async with reading(config, Metrics()):
            pass


@pytest.mark.slow  # a program starts
async def test_a_reader_that_is_killed_or_stopped_is_done_without(
    engine: Engine, db: str, path: str, tmp_path: Path
) -> None:
    file = tmp_path / "pgprog.yaml"
    file.write_text(
        f"dsn: {db!r}\nreader: {{socket: {path}}}\nnamespaces:\n"
        "  orders: {handlers: 'shop:orders', cache: {enabled: true, max_lag: 30s}}\n"
    )
    command = (sys.executable, "-m", "pgprog", "worker", "--config", str(file), "--only", "reader")
    await engine.init("orders", "o-1")
    program = await asyncio.create_subprocess_exec(*command)
    try:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            await cached(engine)
            program.send_signal(number)
            async with asyncio.timeout(10):
                total = await engine.call("orders", "o-1", name="add")
                process = await engine.get("orders", "o-1")
                assert process is not None
                assert (process.state["n"], process.source) == (total, "postgresql")
            if number is signal.SIGSTOP:
                program.send_signal(signal.SIGCONT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()
