"""The connection by which a cache learns how far the log is, and what snapshots see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString, NamedTuple

import psycopg

from pgprog.errors import StoreUnavailable
from pgprog.store.faults import RolledBack
from pgprog.store.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence


# A log page begins with a header, of 24 bytes or, the first of a file, 40: nothing ends within it.
_PAGE_BYTES, _HEADER_BYTES = 8192, 40
# One run of one server, by a number: connections write an instant as their settings say.
SERVER: Final = "extract(epoch from pg_postmaster_start_time())::text"
_BEAT: Final = (
    # Not the flushed part of the log: any session may have commits acknowledged before.
    "select case when in_recovery then 0"  # noqa: S608 - our own words
    "   else (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint end,"
    " snapshot, fingerprint, missing, in_recovery,"
    f" current_setting('synchronous_standby_names') <> '', {SERVER}"
    " from pgprog.replication_state(%s::text[])"
)
_TAKE_XID: Final = f"select pg_current_xact_id()::text, {SERVER}"


class Beat(NamedTuple):
    """The columns of pgprog.replication_state, and what else may change under a cache.

    *lsn*: all that was acknowledged before lies below it.  *has_standby*: commits wait for a
    synchronous standby.  *server* names one run of one server.
    """

    lsn: int
    snapshot: str
    fingerprint: str
    missing: list[str]
    in_recovery: bool
    has_standby: bool
    server: str


class Beats:
    """Asks on a direct connection to *dsn*, which is opened when it is needed."""

    def __init__(self, dsn: str, *, name: str) -> None:
        self._dsn = dsn
        self._name = f"{name} beats"
        self._lane = Lane(dsn, name=self._name)

    async def close(self) -> None:
        """Close the connection."""
        await self._lane.close()

    async def reconnect(self) -> None:
        """Ask on another connection from now on: it may lead to another server."""
        lane, self._lane = self._lane, Lane(self._dsn, name=self._name)
        await lane.close()

    async def beat(self, publications: Sequence[str]) -> Beat:
        """Return how things are; all that was committed before the call is below its *lsn*.

        Raises:
            StoreUnavailable: It cannot be told.
        """
        [row] = await self._fetch(_BEAT, ([*publications],))
        beat = Beat._make(row)
        in_page = beat.lsn % _PAGE_BYTES
        return beat._replace(lsn=beat.lsn - in_page) if in_page <= _HEADER_BYTES else beat

    async def take_xid(self) -> str:
        """Take a transaction id and be done with it; return the server as a beat names it.

        A running transaction with the highest id is at or above the xmax of snapshots; once this
        has ended, it is below.
        """
        [(_, server)] = await self._fetch(_TAKE_XID)
        return str(server)

    async def _fetch(self, statement: LiteralString, values: Sequence[object] = ()) -> list[Any]:
        try:
            return await self._lane.fetch(statement, values)
        except (psycopg.Error, RolledBack) as e:
            raise StoreUnavailable(str(e)) from e
