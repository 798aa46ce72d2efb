"""What a worker and its child process say to each other: MessagePack behind its length.

Payloads travel as the raw JSON they are; nothing of the application's is pickled.
"""

from __future__ import annotations

import struct
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from pgprog.config import LogFormat
from pgprog.namespace.origins import Origin
from pgprog.store.rows import Claimed, Completed, Completion

if TYPE_CHECKING:
    import asyncio
    import socket

_LENGTH = struct.Struct("!I")


class Hello(msgspec.Struct, tag=True):
    """What a child needs to know before its first step."""

    dsn: str
    lease: timedelta
    origins: dict[str, Origin]
    log_format: LogFormat
    log_level: int


class Run(msgspec.Struct, tag=True):
    """A step; *settings* are those of its namespace where the child does not have them yet.

    *carried* travels with it: within the span of the worker, which is the only one.
    """

    claimed: Claimed
    settings: bytes | None
    log_level: int
    worker_id: int
    carried: dict[str, str]


class Complete(msgspec.Struct, tag=True):
    """End the step in its transaction."""

    worker_id: int
    chain: bool


class Commit(msgspec.Struct, tag=True):
    """Commit the transaction."""


class Rollback(msgspec.Struct, tag=True):
    """Undo it."""


class Loaded(msgspec.Struct, tag=True):
    """The child is ready; *faults* says by namespace what cannot be imported."""

    faults: dict[str, str]


class Begun(msgspec.Struct, tag=True):
    """The step begins."""


class Ended(msgspec.Struct, tag=True):
    """The handler has ended; without a completion by no fault of its own.

    With a transaction the child waits for what to do with it.
    """

    completion: Completion | None
    has_transaction: bool = False


class Answered(msgspec.Struct, tag=True):
    """What came of a word about the transaction; *error* is the name of an exception's class."""

    completed: Completed | None = None
    error: str | None = None
    detail: str = ""


ToChild = Hello | Run | Complete | Commit | Rollback
FromChild = Loaded | Begun | Ended | Answered

to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def pack(message: ToChild | FromChild) -> bytes:
    """Return *message* as it is sent."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next message.

    Raises:
        EOFError, OSError: The other side is gone.
    """
    [length] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


def receive_blocking(connection: socket.socket) -> bytes:
    """Return the body of the next message, for who has no loop yet; raises as `receive` does."""
    [length] = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise EOFError
        received += part
    return bytes(received)
