"""A connection that carries one round trip at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from pgprog import logs
from pgprog.errors import StoreUnavailable
from pgprog.store.faults import RolledBack, Unforeseen, Unreachable, translated_in_loops
from pgprog.store.pool import is_pooled, open_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.encryption import Encryption

log = logs.get(__name__)

_CLOSE_SECONDS = 2.0
_CUT_SECONDS = 1.0
# To parse and plan a claim of one task costs the server a fifth of it.
_PREPARED_AFTER = 2


class Lane:
    """One autocommit connection to *dsn*, opened at its first use and again when it was lost.

    Round trips wait for each other in the order in which they were asked for.  A caller that is
    cancelled does not cut its round trip: the outcome is lost to it alone.

    What is asked for again and again is prepared, unless a pooler stands between, which may give
    each statement another session.
    """

    def __init__(self, dsn: str, *, name: str, encryption: Encryption | None = None) -> None:
        self._dsn = dsn
        self._encryption = encryption
        self._name = name
        self._connection: psycopg.AsyncConnection | None = None
        self._is_closed = False
        self._lock = asyncio.Lock()
        self._flights: set[asyncio.Task[list[Any]]] = set()

    async def fetch(self, statement: LiteralString, values: Sequence[object] = ()) -> list[Any]:
        """Run one statement and return its rows, in the binary format.

        Raises:
            Unreachable: There was no connection; nothing was sent.
            StoreUnavailable: The connection was lost on the way; the outcome is unknown.
            PgprogError, RolledBack, DataFault: As `faults.translated_in_loops` says.
        """
        flight = asyncio.ensure_future(self._fetch(statement, values))
        self._flights.add(flight)
        flight.add_done_callback(self._landed)
        return await asyncio.shield(flight)

    @property
    def flights(self) -> int:
        """How many round trips have not ended, those that wait for their turn included."""
        return len(self._flights)

    async def close(self) -> None:
        """Close the connection after what is in flight has ended, or has been cut in the end.

        Nothing is sent any more.  Who is cancelled meanwhile cuts it at once.
        """
        self._is_closed = True
        try:
            if self._flights:
                await asyncio.wait([*self._flights], timeout=_CLOSE_SECONDS)
            for _ in range(2):  # first the server is asked to give them up, which may not hear it
                if late := self._cut():
                    await asyncio.wait(late, timeout=_CUT_SECONDS)
        finally:
            self._cut()
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()

    def _cut(self) -> Sequence[asyncio.Task[list[Any]]]:
        """Cancel what is in flight, and return it."""
        late = [*self._flights]
        for flight in late:
            flight.cancel()
        return late

    async def _fetch(self, statement: LiteralString, values: Sequence[object]) -> list[Any]:
        async with self._lock:
            if self._is_closed:
                msg = f"{self._name} is closed"
                raise Unreachable(msg)
            connection = self._connection
            if connection is None or connection.closed:
                connection = self._connection = await self._connected()
            try:
                with translated_in_loops():
                    async with connection.cursor(binary=True) as cursor:
                        await cursor.execute(statement, values)
                        return await cursor.fetchall()
            except (StoreUnavailable, Unforeseen):  # what this connection has prepared may be why
                self._connection = None
                await connection.close()
                raise

    async def _connected(self) -> psycopg.AsyncConnection:
        try:
            connection = await open_connection(
                self._dsn, name=self._name, encryption=self._encryption
            )
            try:
                pooled = await is_pooled(connection)
            except BaseException:
                await connection.close()
                raise
        except (StoreUnavailable, RolledBack, psycopg.Error) as e:
            raise Unreachable(str(e), hint=getattr(e, "hint", None)) from e
        if not pooled:
            connection.prepare_threshold = _PREPARED_AFTER
        connection.add_notice_handler(_log_warning)
        return connection

    def _landed(self, flight: asyncio.Task[list[Any]]) -> None:
        self._flights.discard(flight)
        if not flight.cancelled():
            flight.exception()  # seen, also where nobody waits for it any more


def _log_warning(notice: psycopg.errors.Diagnostic) -> None:
    """Log what a function of pgprog put off, in its own words."""
    if notice.severity_nonlocalized == "WARNING":
        log.warning("put_off", detail=notice.message_primary)
