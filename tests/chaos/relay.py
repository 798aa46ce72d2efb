"""A link between a program and PostgreSQL that loses answers, stands still, or is cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from pathlib import Path

# How the statement is known whose answer is to be lost, and how many rows make it worth losing.
ANSWERS = {
    "complete": (b"pgprog_engine.complete(", 1),
    "claim": (b"pgprog_engine.claim(", 2),  # the last row is no task
    "start": (b"pgprog_engine.start(", 1),
    "submit": (b"pgprog.submit_many(", 1),
    "renewal": (b"pgprog_engine.renew_worker(", 0),
    "commit": (b"commit\0", 0),  # of a step.transaction()
    "application's commit": (b"COMMIT\0", 0),
}
_CHUNK = 1 << 16


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    victim: str | None = None
    kept: bytearray = field(default_factory=bytearray)

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Link:
    """Listens on a Unix socket of its own and passes on what comes, to PostgreSQL at *dsn*.

    *wanted* names the kinds of answers of which the next one is lost: the connection is cut when
    the server has told of the commit, and the program has not heard of it.
    """

    def __init__(self, place: Path, dsn: str) -> None:
        place.mkdir()
        self.lost: Counter[str] = Counter()
        self.wanted: set[str] = set()
        self.is_cut = False
        self._upstream = conninfo_to_dict(dsn)
        self._socket = place / ".s.PGSQL.5432"
        self.dsn = make_conninfo(dsn, host=str(place), port=5432)
        self._connections: set[_Connection] = set()
        self._moves = asyncio.Event()
        self._moves.set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._socket)

    async def close(self) -> None:
        self._server.close()
        self.cut()
        self._moves.set()
        if self._pumps:
            await asyncio.wait([*self._pumps])

    def cut(self) -> None:
        """Cut all connections that there are."""
        for connection in self._connections:
            connection.abort()

    def stall(self) -> None:
        """Pass nothing on any more; what comes is kept for later."""
        self._moves.clear()

    def go_on(self) -> None:
        self._moves.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pump = asyncio.current_task()
        if pump is not None:
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        if self.is_cut:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, up_writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump_requests(reader, connection), self._pump_answers(up_reader, connection)
            )
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._upstream["host"]), self._upstream.get("port") or 5432
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    async def _pump_requests(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._moves.wait()
                for kind in [*self.wanted]:
                    if ANSWERS[kind][0] in data and connection.victim is None:
                        connection.victim = kind
                        self.wanted.discard(kind)
                connection.server.write(data)
                await connection.server.drain()
        connection.abort()

    async def _pump_answers(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._moves.wait()
                if connection.victim is not None:
                    connection.kept += data
                    if not self._judge(connection):
                        continue
                    data = bytes(connection.kept)
                    connection.kept.clear()
                connection.client.write(data)
                await connection.client.drain()
        connection.abort()

    def _judge(self, connection: _Connection) -> bool:
        """Return whether what is kept is to be passed on; lose it if it tells of a commit."""
        kind = connection.victim or ""
        tags, status = _messages(connection.kept)
        if status is None:
            return False  # not the whole answer yet
        connection.victim = None
        is_committed = status == b"I" and b"E" not in tags
        if is_committed and tags.count(b"D") >= ANSWERS[kind][1]:
            self.lost[kind] += 1
            connection.abort()
            return False
        self.wanted.add(kind)
        return True


def _messages(kept: bytearray) -> tuple[list[bytes], bytes | None]:
    """Return the tags of the messages, and the transaction status of ReadyForQuery at the end."""
    tags: list[bytes] = []
    at, status = 0, None
    while at + 5 <= len(kept):
        tag = bytes(kept[at : at + 1])
        length = int.from_bytes(kept[at + 1 : at + 5], "big")
        if at + 1 + length > len(kept):
            return tags, None
        status = bytes(kept[at + 5 : at + 6]) if tag == b"Z" else None
        tags.append(tag)
        at += 1 + length
    return tags, status if at == len(kept) else None
