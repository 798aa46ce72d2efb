"""Open a replication stream: connect, look whether it can be, make a slot, start."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from pgprog.errors import PgprogError, ReplicationLost
from pgprog.replication import refusals
from pgprog.replication.messages import Connected
from pgprog.replication.pgoutput import Decoder
from pgprog.replication.published import Published
from pgprog.replication.stream import Stream
from pgprog.replication.transactions import Assembler
from pgprog.store.beats import SERVER
from pgprog.store.faults import RolledBack
from pgprog.store.pool import connect, conninfo, is_pooled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg.rows import TupleRow

MAX_BYTES: Final = 64 << 20
_LONGEST_REPORT_SECONDS = 10.0

# A slot waits for all transactions that write; better to try again than to hang.  The rest makes
# what comes as text independent of the server's settings.
_SETTINGS = """
set lock_timeout = '2s'; set statement_timeout = 0; set client_encoding = 'UTF8';
set datestyle = 'ISO'; set timezone = 'UTC'; set bytea_output = 'hex'
"""


@asynccontextmanager
async def open_stream(
    dsn: str,
    published: Published,
    *,
    name: str,
    max_bytes: int = MAX_BYTES,
) -> AsyncIterator[Stream]:
    """Follow what is wanted from here on, for as long as the block lasts.

    The slot is temporary, with the connection it goes, and bears *name*.  Of a transaction that
    would take more than *max_bytes* of memory only that is told.

    Raises:
        ReplicationRefused: The server cannot be followed until what the hint says is changed.
        ReplicationLost: It cannot be reached, or not at present.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            conninfo(dsn, name=name),
            autocommit=True,
            replication="database",  # psycopg passes it on to libpq
            cursor_factory=psycopg.AsyncClientCursor,  # such a connection takes no parameters
        )
    except psycopg.OperationalError as e:
        raise await _kept_out(e, dsn=dsn, name=name) from e
    try:
        opening = _Opening(connection, published)
        connected, report_every = await opening.run(_slot_name(name))
        stream = Stream(
            connection.pgconn,
            connected=connected,
            assembler=Assembler(Decoder(published.columns), max_bytes=max_bytes),
            report_every=report_every,
        )
        with stream:
            yield stream
    finally:
        await connection.close()


async def _kept_out(error: psycopg.Error, *, dsn: str, name: str) -> ReplicationLost:
    """Find why a connection was not taken: libpq tells no SQLSTATE of that, but may let us ask."""
    try:
        async with connect(dsn, name=name) as connection:
            if await is_pooled(connection):
                return refusals.by_pooler(str(error).strip())
            facts = await refusals.find_facts(connection, Published((), {}))
    except (PgprogError, RolledBack, psycopg.Error):
        return ReplicationLost(str(error))
    return refusals.at_the_door(facts) or ReplicationLost(str(error))


def _slot_name(name: str) -> str:
    """Return a new name that says whose slot it is; letters, digits and underscores only."""
    plain = "".join(
        letter if letter.isalnum() else "_" for letter in name.lower() if letter.isascii()
    )
    return f"pgprog_{plain.removeprefix('pgprog').strip('_')[:32]}_{secrets.token_hex(8)}"


class _Opening:
    """The commands that turn a connection into a stream."""

    def __init__(self, connection: psycopg.AsyncConnection, published: Published) -> None:
        self._connection = connection
        self._published = published

    async def run(self, slot: str) -> tuple[Connected, float]:
        """Return where the stream begins, and how often the server wants to hear of us."""
        try:
            await self._connection.execute(_SETTINGS)
            await self._look()
            report_every = await self._report_interval()
            lsn = await self._make_slot(slot)
            connected = await self._state(slot, lsn=lsn)
            await self._look()
            await self._start(slot)
        except psycopg.Error as e:
            raise refusals.after(e, user=self._connection.info.user) from e
        return connected, report_every

    async def _look(self) -> None:
        facts = await refusals.find_facts(self._connection, self._published)
        if (refused := refusals.in_the_way(facts)) is not None:
            raise refused

    async def _report_interval(self) -> float:
        """Return a third of what the server waits for us before it takes us for dead."""
        query = "select setting::float8 / 1000 from pg_settings where name = 'wal_sender_timeout'"
        (timeout,) = await self._row(query)
        return min(timeout / 3 or _LONGEST_REPORT_SECONDS, _LONGEST_REPORT_SECONDS)

    async def _make_slot(self, slot: str) -> int:
        command = sql.SQL(
            "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        ).format(sql.Identifier(slot))
        _name, consistent_point, *_ = await self._row(command)
        return _lsn(consistent_point)

    async def _state(self, slot: str, *, lsn: int) -> Connected:
        """Take the snapshot after the slot was made: what the slot leaves out is in it.

        The fingerprint of the publications is of the same snapshot.  What one of them left out
        before was written by transactions that this snapshot knows of.  Whether they leave out
        anything is looked at afterwards: for as long as the fingerprint stays the same, they do
        what was seen.
        """
        publications = (*self._published.publications,)
        query = sql.SQL(
            "select snapshot, fingerprint, {} from pgprog.replication_state({})"
        ).format(sql.SQL(SERVER), sql.Literal([*publications]))
        snapshot, fingerprint, server = await self._row(query)
        return Connected(slot, snapshot, fingerprint, publications, server, lsn)

    async def _start(self, slot: str) -> None:
        names = sql.SQL(",").join(map(sql.Identifier, self._published.publications))
        await self._connection.execute(
            sql.SQL(
                "START_REPLICATION SLOT {} LOGICAL 0/0"
                " (proto_version '1', publication_names {}, binary 'true')"
            ).format(sql.Identifier(slot), sql.Literal(names.as_string(self._connection)))
        )

    async def _row(self, query: sql.SQL | sql.Composed | str) -> TupleRow:
        cursor = await self._connection.execute(query)
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - each of these answers with one row
        return row


def _lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
