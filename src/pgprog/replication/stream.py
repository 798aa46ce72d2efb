"""Read one replication connection.

PostgreSQL manual, "Streaming Replication Protocol".  psycopg has no face for it but what it is made
of: `pgconn` is libpq, and once START_REPLICATION has been answered its COPY functions carry the
stream.  They are called so that none of them waits; `get_copy_data(0)` would, with the GIL held.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING

import psycopg

from pgprog.errors import ReplicationLost

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

    from pgprog.replication.messages import Connected, Oversized, Progress, Transaction
    from pgprog.replication.transactions import Assembler

_DATA, _KEEPALIVE = b"wk"
_DATA_HEAD = 25  # w, where the data start and end in the log, the time
_KEEPALIVE_BODY = struct.Struct("!QqB").unpack_from
_STATUS = struct.Struct("!cQQQqB").pack
_UNIX = 946_684_800  # from 1970 to 2000

# How long we may hold the loop: a fifth of what it may be held.
_TURN_SECONDS = 0.001
# What OpenSSL holds back makes no socket readable: look all the same.
_LOOK_SECONDS = 0.2
# A link that is cut without a word.  The server is asked for an answer before.
_SILENCE_SECONDS = 30.0


class Stream:
    """The stream of an open connection; begins with *connected*.  A context manager.

    In its block a status goes to the server every *report_every* seconds whether anybody reads on
    or not, so that it does not take a slow reader for a dead one.
    """

    def __init__(
        self,
        pgconn: PGconn,
        *,
        connected: Connected,
        assembler: Assembler,
        report_every: float,
    ) -> None:
        self.connected = connected
        self._pgconn = pgconn
        self._assembler = assembler
        self._report_every = report_every
        self._confirmed = connected.lsn
        self._loop = asyncio.get_running_loop()
        self._turn_ends = 0.0
        self._quiet_since: float | None = None
        self._readable: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        # One look into a TLS connection gives one record; half of the next may wait inside.
        self._looks = 2 if self._pgconn.ssl_in_use else 1
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._timer = self._loop.call_later(self._report_every, self._report_by_time)

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    async def next(self) -> Transaction | Oversized | Progress:
        """Return what comes next; wait for it.

        What came before counts as dealt with: the server need not keep it.  Others get to run
        every millisecond, however much there is to read.

        Raises:
            ReplicationLost: The stream ended, or cannot be understood.
        """
        self._confirmed = max(self._confirmed, self._assembler.told)
        try:
            return await self._next()
        except psycopg.Error as e:
            raise ReplicationLost(str(e)) from e

    async def _next(self) -> Transaction | Oversized | Progress:
        looks = 0
        while True:
            if self._error:
                raise self._error
            if time.perf_counter() > self._turn_ends:
                await asyncio.sleep(0)
                self._begin_turn()
            size, data = self._pgconn.get_copy_data(1)
            if size > 0:
                looks, self._quiet_since = 0, None
                event = self._take(bytes(data))
                if event is not None:
                    return event
            elif size < 0:
                raise self._ended()
            elif looks < self._looks:
                looks += 1
                self._pgconn.consume_input()
            else:
                looks = 0
                await self._wait()

    def _take(self, data: bytes) -> Transaction | Oversized | Progress | None:
        if data[0] == _DATA:
            return self._assembler.take(data, _DATA_HEAD)
        if data[0] == _KEEPALIVE:
            sent_lsn, _sent_at, wants_answer = _KEEPALIVE_BODY(data, 1)
            if wants_answer:  # one that shuts down asks until we have dealt with everything
                self._report()
            return self._assembler.progress(sent_lsn)
        msg = f"the stream holds an unknown message: {data[:1]!r}"
        raise ReplicationLost(msg)

    def _ended(self) -> ReplicationLost:
        result = self._pgconn.get_result()
        said = result.error_message.decode(errors="replace").strip() if result else ""
        return ReplicationLost(said or "the server ended the stream")

    async def _wait(self) -> None:
        """Wait until the socket is readable, or for a moment."""
        if self._quiet_since is None:
            self._quiet_since = self._loop.time()
        readable = self._readable = self._loop.create_future()
        # libpq may close it while we wait: the next socket of its number would be taken for it.
        socket = self._pgconn.socket
        timer = self._loop.call_later(_LOOK_SECONDS, self._wake)
        self._loop.add_reader(socket, self._wake)
        try:
            await readable
        finally:
            self._loop.remove_reader(socket)
            timer.cancel()
        self._begin_turn()

    def _wake(self) -> None:
        if self._readable and not self._readable.done():
            self._readable.set_result(None)

    def _begin_turn(self) -> None:
        self._turn_ends = time.perf_counter() + _TURN_SECONDS

    def _report_by_time(self) -> None:
        quiet = self._loop.time() - self._quiet_since if self._quiet_since is not None else 0.0
        try:
            self._report(wants_answer=quiet >= self._report_every)
        except psycopg.Error as e:
            self._error = ReplicationLost(str(e))
        if quiet > _SILENCE_SECONDS:
            msg = f"the server has said nothing for {quiet:.0f} s"
            self._error = ReplicationLost(msg)
        if self._error:
            self._wake()
        else:
            self._timer = self._loop.call_later(self._report_every, self._report_by_time)

    def _report(self, *, wants_answer: bool = False) -> None:
        """Send a status; what the socket does not take goes with the next one."""
        lsn, now = self._confirmed, int((time.time() - _UNIX) * 1e6)
        self._pgconn.put_copy_data(_STATUS(b"r", lsn, lsn, lsn, now, wants_answer))
        self._pgconn.flush()
