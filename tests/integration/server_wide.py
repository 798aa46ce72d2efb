"""What a test shares with all that run on its server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

_SECONDS = 30
_OLD = """
select a.datname, a.application_name, a.state, a.wait_event, a.backend_xid,
  now() - a.xact_start, a.query
from pg_stat_activity as a
where a.backend_xid is not null
union all
select p.database, p.gid, 'prepared', null, p.transaction, now() - p.prepared, null
from pg_prepared_xacts as p
"""


def wait_ended(sql: psycopg.Connection[Any]) -> None:
    """Wait until all that has begun by now has ended, in other databases of the server too."""
    [[xid]] = sql.execute("select pg_current_xact_id()::text::bigint").fetchall()
    query = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint > %s"
    until = time.monotonic() + _SECONDS
    while sql.execute(query, (xid,)).fetchall() != [(True,)]:
        assert time.monotonic() < until, f"does not end: {sql.execute(_OLD).fetchall()}"
        time.sleep(0.01)
