"""What goes over a replication connection, message by message."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from tests.unit import wire

from pgprog.errors import ReplicationLost
from pgprog.replication import messages as m
from pgprog.replication.pgoutput import Decoder
from pgprog.replication.stream import Stream
from pgprog.replication.transactions import Assembler


@dataclass
class Wire:
    """A connection whose server has said this already, and says no more."""

    said: deque[bytes]
    ssl_in_use: bool = False
    sent: list[bytes] = field(default_factory=list)

    def get_copy_data(self, is_async: int) -> tuple[int, memoryview]:
        assert is_async == 1  # 0 waits, and holds the GIL meanwhile
        data = self.said.popleft()
        return len(data), memoryview(data)

    def put_copy_data(self, data: bytes) -> None:
        self.sent.append(data)

    def flush(self) -> int:
        return 0

    @property
    def positions(self) -> list[int]:
        """What the statuses confirm; write, flush and apply are one."""
        found = [struct.unpack("!cQQQqB", data) for data in self.sent]
        assert all(kind == b"r" and len({*lsns}) == 1 for kind, *lsns, _, _ in found)
        return [lsn for _, lsn, *_ in found]


def keepalive(lsn: int, *, wants_answer: bool) -> bytes:
    return b"k" + struct.pack("!QqB", lsn, 0, wants_answer)


def data(message: bytes) -> bytes:
    return b"w" + bytes(24) + message


def stream_of(*said: bytes, max_bytes: int = 1000) -> tuple[Stream, Wire]:
    pgconn: Any = Wire(deque(said))
    connected = m.Connected("slot", "1:1:", "", (), "1", 5)
    assembler = Assembler(Decoder(), max_bytes=max_bytes)
    return Stream(pgconn, connected=connected, assembler=assembler, report_every=9), pgconn


async def test_a_server_that_asks_is_answered_with_what_was_dealt_with() -> None:
    asked = keepalive(70, wants_answer=True)
    stream, pgconn = stream_of(asked, asked, keepalive(71, wants_answer=False))

    assert await stream.next() == m.Progress(70)
    assert await stream.next() == m.Progress(71)
    assert pgconn.positions == [5, 70]


async def test_a_server_that_asks_within_a_transaction_hears_of_nothing_new() -> None:
    told = [data(part) for part in wire.transaction(9, [wire.relation()])]
    stream, pgconn = stream_of(told[0], keepalive(80, wants_answer=True), *told[1:])

    assert await stream.next() == m.Progress(73)
    assert pgconn.positions == [5]


async def test_a_message_that_is_none_of_the_protocol_ends_the_stream() -> None:
    stream, _ = stream_of(b"x")

    with pytest.raises(ReplicationLost, match="unknown message: b'x'"):
        await stream.next()


async def test_24_others_run_every_5_ms_however_much_there_is_to_read() -> None:
    inserts = [data(wire.insert([b"orders", b"o-1", wire.int8(7), wire.jsonb("1")]))] * 10_000
    parts = [data(wire.begin(9)), data(wire.relation()), *inserts, data(wire.commit(9))]
    stream, _ = stream_of(*parts, max_bytes=1 << 30)
    turns: list[float] = []

    async def take_turns() -> None:
        while True:
            began = time.thread_time()  # of this thread alone, whoever else wants the cores
            await asyncio.sleep(0)
            turns.append(time.thread_time() - began)

    gc.disable()  # it would look at all that a test run has made
    other = asyncio.create_task(take_turns())
    told = await stream.next()
    other.cancel()
    gc.enable()

    assert isinstance(told, m.Transaction)
    assert len(turns) > 5
    assert max(turns) <= 0.005


@dataclass
class Cut(Wire):
    """A connection of which libpq closes the socket when it is written to."""

    ours: socket.socket = field(default_factory=socket.socket)

    @property
    def socket(self) -> int:
        if (descriptor := self.ours.fileno()) == -1:
            raise psycopg.OperationalError("the connection is lost")
        return descriptor

    def get_copy_data(self, is_async: int) -> tuple[int, memoryview]:
        return 0, memoryview(b"")

    def consume_input(self) -> None: ...

    def flush(self) -> int:
        self.ours.close()
        raise psycopg.OperationalError("the server reset the connection")


async def test_a_socket_that_is_closed_while_it_is_waited_for_is_forgotten() -> None:
    ours, theirs = socket.socketpair()
    pgconn: Any = Cut(deque(), ours=ours)
    descriptor = ours.fileno()
    connected = m.Connected("slot", "1:1:", "", (), "1", 5)
    assembler = Assembler(Decoder(), max_bytes=1000)
    stream = Stream(pgconn, connected=connected, assembler=assembler, report_every=0.01)
    with theirs, stream, pytest.raises(ReplicationLost, match="reset"):
        await stream.next()

    assert not asyncio.get_running_loop().remove_reader(descriptor)
