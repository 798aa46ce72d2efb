"""The line by which a worker tells its supervisor how it is: a pair of sockets.

Down goes one byte for each question, up goes a state for each, and one more when the worker ends.
Both ends are served by threads of their own: a worker whose loop hangs still says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING

import msgspec

from pgprog.daemon.monitor.state import WorkerState, state_of

if TYPE_CHECKING:
    import socket

    from pgprog.metrics import Metrics

_LENGTH = struct.Struct("!I")
_ASK = b"?"
_PATIENCE_SECONDS = 1.0
_decode = msgspec.msgpack.Decoder(WorkerState).decode


class Near:
    """The worker's end."""

    def __init__(self, line: socket.socket, metrics: Metrics) -> None:
        self._line = line
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to answer."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._line)
        self._task = asyncio.create_task(self._serve(reader))

    async def close(self) -> None:
        """Tell the last state, so that what was counted since is not lost."""
        self._tell()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._writer.drain()
        if self._task is not None:
            self._task.cancel()
        self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1):
                self._tell()
                await self._writer.drain()

    def _tell(self) -> None:
        state = msgspec.msgpack.encode(state_of(self._metrics))
        self._writer.write(_LENGTH.pack(len(state)) + state)


class Far:
    """The supervisor's end; *state* is what was told last."""

    def __init__(self, line: socket.socket) -> None:
        self.state: WorkerState | None = None
        self._line = line
        self._told = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Begin to listen."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._line)
        self._task = asyncio.create_task(self._listen(reader))

    async def ask(self) -> bool:
        """Return whether the worker has told in time how it is."""
        if self._writer is None:
            return False
        self._told.clear()
        try:
            self._writer.write(_ASK)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._told.wait()
        except (OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Hear what the worker has told before its end, and close."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_PATIENCE_SECONDS)
            self._task.cancel()
        if self._writer is not None:
            self._writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                [length] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                self.state = _decode(await reader.readexactly(length))
                self._told.set()
