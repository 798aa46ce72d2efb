"""How the stream is read: in time, in small turns, over any link."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.chaos.relay import Link
from tests.integration.streams import SLOTS, TABLE, ask, reading, write

from pgprog.embedded import EmbeddedPostgres
from pgprog.embedded.programs import find_programs
from pgprog.replication import messages as m
from pgprog.replication import stream
from pgprog.replication.stream import Stream
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

PLAIN = "insert into notes (id) values (0)"
# More than the sockets between us and the server hold.
MUCH = "insert into notes (id, name) select n, repeat('x', 1000) from generate_series(1, 5000) as n"
# The server gives up a reader that says nothing; a busy machine may take seconds over a word.
PATIENCE = 4500
SENDER = f"from pg_stat_replication where pid in (select active_pid {SLOTS})"


@pytest.fixture
def noted(fresh_db: str) -> str:
    write(fresh_db, TABLE)
    return fresh_db


def impatient(dsn: str, milliseconds: int) -> str:
    """Return *dsn* for a reader that the server gives up after this time without a word."""
    return make_conninfo(dsn, options=f"-c wal_sender_timeout={milliseconds}")


async def holds(dsn: str, query: str) -> None:
    """Wait until a query finds a row; the loop runs meanwhile."""
    while not await asyncio.to_thread(ask, dsn, query):
        await asyncio.sleep(0.01)


async def heard_for(dsn: str, milliseconds: int) -> None:
    """Wait until the server has heard of the reader from now on for this time; the loop runs."""
    ((since,),) = ask(dsn, "select clock_timestamp()")
    heard = since
    while heard - since < timedelta(milliseconds=milliseconds):
        replies = await asyncio.to_thread(ask, dsn, f"select reply_time {SENDER}")
        assert replies, "the server has given the reader up"
        heard = replies[0][0] or since
        await asyncio.sleep(0.01)


def log_end(dsn: str) -> int:
    return int(ask(dsn, "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn")[0][0])


@asynccontextmanager
async def read_on(next_lost: Awaitable[m.Lost]) -> AsyncIterator[None]:
    """Read in the background, where nothing may be lost."""
    task = asyncio.ensure_future(next_lost)
    try:
        yield
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.slow  # outlives a time-out of the server by far, twice
@pytest.mark.parametrize("pending", [PLAIN, MUCH], ids=["nothing", "more than sockets hold"])
async def test_20_the_server_hears_of_a_reader_whose_consumer_is_blocked(
    noted: str, pending: str
) -> None:
    async with reading(impatient(noted, PATIENCE)) as feed:
        await feed.next(m.Connected)
        await asyncio.to_thread(write, noted, pending)  # or nobody would read meanwhile
        await heard_for(noted, PATIENCE)
        write(noted, "delete from notes where id > 0")
        changes = await feed.changes()

    assert {type(change) for change in changes} == {m.Insert}
    assert not [event for event in feed.passed if isinstance(event, m.Lost)]


@pytest.mark.slow  # outlives a time-out of the server by far
async def test_20_a_reader_with_nothing_to_read_is_not_given_up(noted: str) -> None:
    async with reading(impatient(noted, PATIENCE)) as feed:
        await feed.next(m.Connected)
        async with read_on(feed.next(m.Lost)):
            await heard_for(noted, PATIENCE)


async def test_21_the_confirmed_position_moves_on_while_other_tables_are_written(
    noted: str,
) -> None:
    async with reading(impatient(noted, PATIENCE)) as feed:
        await feed.next(m.Connected)
        write(noted, "create table other as select generate_series(1, 100)")
        lsn = log_end(noted)
        async with read_on(feed.next(m.Lost)):
            await holds(noted, f"select {SLOTS} and confirmed_flush_lsn - '0/0' >= {lsn}")


async def test_21_what_was_told_is_confirmed_when_the_next_is_asked_for_and_not_before(
    noted: str,
) -> None:
    async with reading(impatient(noted, 3000)) as feed:
        await feed.next(m.Connected)
        write(noted, PLAIN)
        told = await feed.next(m.Transaction)
        ((now,),) = ask(noted, "select clock_timestamp()")
        await holds(noted, f"select {SENDER} and reply_time > '{now}'::timestamptz + '0.5 s'")
        before = ask(noted, f"select confirmed_flush_lsn - '0/0' {SLOTS}")
        async with read_on(feed.next(m.Lost)):
            await holds(noted, f"select {SLOTS} and confirmed_flush_lsn - '0/0' >= {told.end_lsn}")

    assert before[0][0] < told.end_lsn


def test_21_a_slot_goes_with_a_reader_that_is_killed(noted: str) -> None:
    program = Path(__file__).parent / "programs" / "follower.py"
    command = [sys.executable, str(program), noted]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        slot = follower.stdout.readline().strip()
        during = ask(noted, f"select slot_name, temporary, active {SLOTS}")
        follower.kill()
    asyncio.run(holds(noted, f"select where not exists (select {SLOTS})"))

    assert during == [(slot, True, True)]


async def test_21_a_slot_goes_with_a_reader_that_is_closed(noted: str) -> None:
    async with reading(noted, name="pgprog shop 1/Ü") as feed:
        connected = await feed.next(m.Connected)
        during = ask(noted, f"select slot_name, temporary {SLOTS}")
    await holds(noted, f"select where not exists (select {SLOTS})")

    assert during == [(connected.slot, True)]
    assert connected.slot.startswith("pgprog_shop_1_")


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The collector looks at all that a test run has made, which no reader is to blame for."""
    gc.disable()
    yield
    gc.enable()


async def test_24_nobody_waits_for_more_than_5_ms_while_there_is_much_to_read(
    noted: str, no_collection: None
) -> None:
    turns: list[float] = []

    async def take_turns() -> None:
        while True:
            began = time.thread_time()  # of this thread alone, whoever else wants the cores
            await asyncio.sleep(0)
            turns.append(time.thread_time() - began)

    async with reading(noted) as feed:
        await feed.next(m.Connected)
        write(noted, MUCH.replace("5000", "10000"))
        each = "update notes set id = -n where id = n; commit"
        write(noted, f"do $$ begin for n in 1..2000 loop {each}; end loop; end $$")
        other = asyncio.create_task(take_turns())
        told = [await feed.changes() for _ in range(2001)]
        other.cancel()

    assert [len(changes) for changes in told] == [10000] + [1] * 2000
    assert len(turns) > 20
    assert max(turns) <= 0.005


async def test_a_link_that_is_cut_is_opened_again(noted: str, tmp_path: Path) -> None:
    async with linked(tmp_path, noted) as link, reading(link.dsn) as feed:
        first = await feed.next(m.Connected)
        link.cut()
        await feed.next(m.Lost)
        second = await feed.next(m.Connected)
        write(noted, PLAIN)
        rows = await feed.rows()

    assert first.slot != second.slot
    assert rows == [(0, None, None, None)]


async def test_a_link_that_stands_still_is_given_up(
    noted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_SILENCE_SECONDS", 0.5)
    async with linked(tmp_path, noted) as link, reading(impatient(link.dsn, 300)) as feed:
        await feed.next(m.Connected)
        link.stall()
        lost = await feed.next(m.Lost)
        link.go_on()
        await feed.next(m.Connected)

    assert "has said nothing for" in str(lost.error)


async def test_a_server_that_has_nothing_to_say_is_asked_and_not_given_up(
    noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_SILENCE_SECONDS", 2.5)
    async with reading(impatient(noted, 3000)) as feed:
        await feed.next(m.Connected)
        async with read_on(feed.next(m.Lost)):
            await heard_for(noted, 3500)


@asynccontextmanager
async def linked(place: Path, dsn: str) -> AsyncIterator[Link]:
    link = Link(place / "link", dsn)
    await link.open()
    yield link
    await link.close()


@pytest.fixture
def over_tls() -> Iterator[str]:
    """A server of its own behind TLS, where its programs know of it: those of `make matrix` do."""
    if b"libssl" not in (find_programs() / "postgres").read_bytes():
        pytest.skip("this PostgreSQL was built without TLS: PGPROG_PGBIN names one with it")
    address = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with EmbeddedPostgres(durable=False, settings={"listen_addresses": address}) as server:
        migrate(server.dsn)
        write(server.dsn, TABLE)
        ((directory,),) = ask(server.dsn, "show data_directory")
        _certify(Path(directory))
        with (Path(directory) / "pg_hba.conf").open("a") as rules:
            rules.write("hostssl all all 127.0.0.0/8 trust\n")
        write(server.dsn, "alter system set ssl = on", "select pg_reload_conf()")
        dsn = make_conninfo(server.dsn, host=address, sslmode="require")
        while not _answers(dsn):
            pass
        yield dsn


def _certify(directory: Path) -> None:
    owner = directory.stat()
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2"
    files = ["-keyout", str(directory / "server.key"), "-out", str(directory / "server.crt")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    for name in ("server.key", "server.crt"):
        os.chown(directory / name, owner.st_uid, owner.st_gid)
        (directory / name).chmod(0o600)


def _answers(dsn: str) -> bool:
    try:
        return bool(ask(dsn, "select 1"))
    except psycopg.OperationalError:
        return False


@pytest.mark.slow  # starts a server of its own
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_19_over_tls_many_messages_are_read_each_time_the_socket_is_readable(
    over_tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0
    wait = Stream._wait

    async def count(self: Stream) -> None:
        nonlocal waits
        waits += 1
        await wait(self)

    monkeypatch.setattr(Stream, "_wait", count)
    async with reading(over_tls) as feed:
        await feed.next(m.Connected)
        write(over_tls, MUCH, f"{PLAIN[:-3]}(repeat('9', 6)::bigint)", MUCH.replace("n,", "-n,", 1))
        told = [await feed.rows() for _ in range(3)]

    assert [len(rows) for rows in told] == [5000, 1, 5000]
    assert ask(over_tls, "select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [(True,)]
    assert waits < 1000
