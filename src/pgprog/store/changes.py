"""What those who follow the processes of a namespace read of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, LiteralString, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime


# By the primary key: no other index has what a step changes.
WRITTEN_PAGE: Final = (
    "with page as ("
    "  select p.process_id, p.incarnation, p.version, p.status, p.changed_at, p.detail,"
    "    x.xmax - ((x.xmax - p.xid) & 4294967295) as xid"
    "  from pgprog.processes as p, (select"
    "    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xmax offset 0) as x"
    "  where p.namespace = %(namespace)s and p.process_id > %(after)s"
    "  order by p.process_id limit %(size)s),"
    " ends as (select max(process_id) as process_id, count(*) as looked from page)"
    " select page.*, ends.process_id as last, ends.looked"
    " from ends left join page on page.xid >= %(since)s"
    "   and (%(status)s::text is null or page.status = %(status)s)"
    " order by page.process_id"
)


class Moment(NamedTuple):
    """All transactions below *xmin* had ended, before *lsn*, and none from *xmax* on.

    A crash of the server takes back what is behind *flushed*, and gives its xids to others; after
    one the statistics begin anew, at another *counted_since*.  All counts in one *history*,
    ``TIMELINE.CLUSTER``: a restore into another cluster begins another, and so does a recovery or a
    promotion, which may fall back behind what was told.
    """

    xmin: int
    xmax: int
    lsn: int
    flushed: int
    counted_since: datetime | None
    history: str


class WrittenProcess(NamedTuple):
    """A process without its payloads; *xid* wrote it, widened by the epoch."""

    process_id: str
    incarnation: int
    version: int
    status: str
    changed_at: datetime
    detail: str | None
    xid: int


class Changes(ABC):
    """The reads of who follows a namespace; a part of the client's store."""

    @abstractmethod
    async def _rows(
        self, statement: LiteralString, values: Sequence[object] | dict[str, object]
    ) -> list[dict[str, Any]]: ...

    async def moment(self) -> Moment:
        """Return the transactions of now."""
        [row] = await self._rows(
            "select pg_snapshot_xmin(s)::text::bigint as xmin,"
            "  pg_snapshot_xmax(s)::text::bigint as xmax,"
            "  (w.lsn - '0/0')::bigint as lsn, (w.flushed - '0/0')::bigint as flushed,"
            "  pg_stat_get_bgwriter_stat_reset_time() as counted_since,"
            "  w.timeline || '.' || system_identifier as history"
            " from pg_current_snapshot() as s, pg_control_system(), lateral ("
            "  select pg_current_wal_insert_lsn() as lsn, pg_current_wal_flush_lsn() as flushed,"
            "    ltrim(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), '0') as timeline"
            "  where not pg_is_in_recovery()"
            "  union all"  # of the flushed only comes to a standby
            "  select r.lsn, r.lsn, '0' from pg_last_wal_replay_lsn() as r(lsn)"
            "  where pg_is_in_recovery()) as w",
            {},
        )
        return Moment(**row)

    async def written_page(
        self,
        namespace: str,
        *,
        since: int,
        status: str | None,
        after: str,
        size: int,
    ) -> tuple[list[WrittenProcess], str | None]:
        """Look at *size* processes behind an id, by the primary key; return the last id, too.

        Those are returned that a transaction from *since* on has written, with *status* those in
        it.  The last id looked at is None where there are no more.
        """
        rows = await self._rows(
            WRITTEN_PAGE,
            {
                "namespace": namespace,
                "since": since,
                "status": status,
                "after": after,
                "size": size,
            },
        )
        last = rows[0]["last"] if rows[0]["looked"] == size else None
        found = [{name: row[name] for name in WrittenProcess._fields} for row in rows]
        return [WrittenProcess(**row) for row in found if row["process_id"] is not None], last

    async def missing(self, namespace: str, process_ids: Collection[str]) -> set[str]:
        """Return those of these ids that no process has."""
        rows: list[dict[str, Any]] = await self._rows(
            "select process_id from pgprog.processes"
            " where namespace = %(namespace)s and process_id = any(%(ids)s)",
            {"namespace": namespace, "ids": [*process_ids]},
        )
        return {*process_ids} - {row["process_id"] for row in rows}
