"""LISTEN: hints that something is due or has ended.

An accelerator only.  While there is no connection, everything is found by polling, later; through
a pooler there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

import psycopg

from pgprog import logs
from pgprog.errors import StoreUnavailable
from pgprog.store.faults import NOT_SENT, RolledBack
from pgprog.store.pool import is_pooled, open_connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

log = logs.get(__name__)

DUE: Final = "pgprog_due"  # the payload is a namespace
ENDED: Final = "pgprog_ended"  # the payload is a list of task ids, or nothing for "look"

_POOLED = "direct_dsn leads to a pooler, which passes no notifications on; polling goes on"
_DIRECT = "let direct_dsn name PostgreSQL itself, or ask for wakeups: poll"
_RECONNECT_SECONDS = 5.0
# A lone caller never waits for it.  Twice as long as it took to send: NOTIFY takes a lock of the
# whole server, and where many want that all send less.
_PAUSE_SECONDS = 0.002
_PAUSE_OF_SENDING = 2.0
_LONGEST_PAUSE_SECONDS = 0.02

T = TypeVar("T")


class Hints(Generic[T]):
    """Sends hints in transactions of their own: at once, then what piled up meanwhile.

    Between two are 2 ms, or twice what it took to send the first, at most 20 ms.

    A NOTIFY in the transaction of a task would make all commits wait for each other.  Who ends
    `run` sends the last ones by `flush`.
    """

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: list[T] = []
        self._filled = asyncio.Event()
        self._sending = asyncio.Lock()

    def add(self, hint: T) -> None:
        """Send *hint* soon."""
        self.add_all([hint])

    def add_all(self, hints: Sequence[T]) -> None:
        """Send *hints* soon; each that is the same as another counts, and goes once."""
        if hints:
            self._waiting += hints
            self._filled.set()

    async def run(self) -> None:
        """Send until cancelled; a hint that cannot be sent is lost, and polling finds out."""
        while True:
            await self._filled.wait()
            began_at = time.monotonic()
            await self.flush()
            pause = max(_PAUSE_SECONDS, _PAUSE_OF_SENDING * (time.monotonic() - began_at))
            await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))

    async def flush(self) -> None:
        """Send what waits, and return when nothing added before is on its way."""
        async with self._sending:
            self._filled.clear()
            hints, self._waiting = self._waiting, []
            if hints:
                with contextlib.suppress(*NOT_SENT):
                    await self._send(hints)


async def listen(
    direct_dsn: str, *, channels: tuple[str, ...], hear: Callable[[str, str], None], name: str
) -> None:
    """Call *hear* with channel and payload of each notification, until cancelled.

    *hear* is called with the channel and no payload after each connection, since what was sent
    before it is lost.  Where *direct_dsn* leads to a pooler nothing can be heard: it is a warning,
    and this returns.
    """
    while True:
        try:
            connection = await open_connection(direct_dsn, name=f"{name} listen")
            async with connection:
                if await is_pooled(connection):
                    log.warning("listen_refused", detail=_POOLED, hint=_DIRECT)
                    return
                for channel in channels:
                    await connection.execute(f"listen {channel}".encode())
                for channel in channels:
                    hear(channel, "")
                await _hear_all(connection, hear)
        except (StoreUnavailable, RolledBack, psycopg.Error):
            await asyncio.sleep(_RECONNECT_SECONDS)


async def _hear_all(
    connection: psycopg.AsyncConnection, hear: Callable[[str, str], None]
) -> NoReturn:
    """Call *hear* for each notification as the loop reads it, until the connection is lost.

    `connection.notifies()` would make a future and look at the socket anew for each: a quarter of a
    millisecond more, at both ends of a call.
    """
    loop, pgconn, encoding = asyncio.get_running_loop(), connection.pgconn, connection.info.encoding
    lost: asyncio.Future[psycopg.Error] = loop.create_future()
    socket = pgconn.socket  # which libpq closes itself when the server has gone

    def read() -> None:
        try:
            pgconn.consume_input()
            while (notification := pgconn.notifies()) is not None:
                channel, payload = notification.relname, notification.extra
                hear(channel.decode(encoding), payload.decode(encoding, "replace"))
        except psycopg.Error as e:
            loop.remove_reader(socket)  # at once: the next socket may have its number
            lost.set_result(e)

    loop.add_reader(socket, read)
    try:
        raise await lost
    finally:
        if lost.cancelled():
            loop.remove_reader(socket)
