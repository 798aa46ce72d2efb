"""A line to a shared reader: what is sent when, and frames however they come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgprog.cache.snapshots import Snapshot
from pgprog.client.memory import TooSoon
from pgprog.client.shared import wire
from pgprog.client.shared.line import _Connection
from pgprog.client.shared.reads import SharedReads


class Taken(asyncio.Transport):
    """Takes what is sent, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def abort(self) -> None:
        pass


def _question(process_id: str) -> wire.Question:
    return wire.Question(0, "orders", process_id, 0, None, None, None, 0, None, "forward")


def _asked(piece: bytes) -> list[str]:
    frames, rest = wire.cut(piece, most=wire.MOST_QUESTION_BYTES)
    assert rest == b""
    asked = [wire.message(frame) for frame in frames]
    return [each.process_id for each in asked if isinstance(each, wire.Question)]


async def test_a_lone_question_is_sent_at_once_and_those_beside_it_together() -> None:
    connection, taken = _Connection(), Taken()
    connection.connection_made(taken)
    waiting = [connection.ask(_question(each)) for each in ("o-1", "o-2", "o-3")]
    at_once = taken.pieces[1:]
    await asyncio.sleep(0)

    assert [_asked(piece) for piece in at_once] == [["o-1"]]
    assert [_asked(piece) for piece in taken.pieces[1:]] == [["o-1"], ["o-2", "o-3"]]
    connection.connection_lost(None)
    assert await asyncio.gather(*waiting) == [None, None, None]


async def test_who_is_answered_is_followed_by_a_question_that_is_sent_at_once_again() -> None:
    connection, taken = _Connection(), Taken()
    connection.connection_made(taken)
    said = wire.GREETING + wire.framed(wire.Welcome(["orders"], "x")) + wire.ask_postgresql(1)
    first = connection.ask(_question("o-1"))
    for piece in (said[:5], said[5:20], said[20:-1], said[-1:]):
        connection.get_buffer(-1)[: len(piece)] = piece
        connection.buffer_updated(len(piece))
    second = connection.ask(_question("o-2"))

    assert first.result() is None
    assert not second.done()
    assert connection.welcome.result().namespaces == ["orders"]
    assert [_asked(piece) for piece in taken.pieces[1:]] == [["o-1"], ["o-2"]]
    connection.connection_lost(None)


def test_frames_are_cut_wherever_the_pieces_of_a_stream_end() -> None:
    bodies = [b"", b"a", b"bc" * 100]
    stream = b"".join(len(each).to_bytes(4) + each for each in bodies)
    for size in range(1, len(stream) + 1):
        found, rest = [], b""
        for begin in range(0, len(stream), size):
            frames, rest = wire.cut(rest + stream[begin : begin + size], most=200)
            found += frames
        assert (found, rest) == (bodies, b"")


def test_a_frame_above_what_is_allowed_is_refused_before_it_has_come() -> None:
    with pytest.raises(wire.Malformed, match="a frame has 201 bytes, 200 are allowed"):
        wire.cut((201).to_bytes(4), most=200)


def test_what_the_reader_showed_hinders_no_read_however_long_ago_that_was() -> None:
    nothing: Any = None
    reads = SharedReads("", nothing, dsn="", name="")
    xid = (7 << 32) + 5
    reads._keep_unseen(("orders", "o-1"), wire.Answer(nothing, {}, 0.0, (), (xid,), "server"))
    told = reads.told(("orders", "o-1"))
    with pytest.raises(TooSoon):
        reads._check_past(told, Snapshot(xid, xid), "server")

    for later in (1, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, 3 << 31):
        reads._check_past(told, Snapshot(xid + later, xid + later), "server")
