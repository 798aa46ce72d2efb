"""What does a worker cost that has nothing to do?

Statements are those that pg_stat_statements counts on the top level, BEGIN and COMMIT among them;
the memory is the resident set of the program, of which shared libraries are a part.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bench.measure import Meter, family
from bench.peers.job import NO_OP
from bench.peers.running import Program, installed, start
from bench.peers.shared import SharedQuestion

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Sample, Sizes
    from bench.server import Arena

_PAGE = os.sysconf("SC_PAGE_SIZE")
_IS_COUNTED = "select count(*) from pg_extension where extname = 'pg_stat_statements'"
_STATEMENTS = """
select coalesce(sum(s.calls), 0)
from pg_stat_statements as s join pg_database as d on d.oid = s.dbid
where d.datname = %s
"""
_COMMITS = """
select d.xact_commit + d.xact_rollback,
  (select count(*) from pg_stat_activity as a where a.datname = d.datname)
from pg_stat_database as d where d.datname = %s
"""


def _ask(arena: Arena, sizes: Sizes, *, peer: Peer) -> Sample:
    with (
        installed(arena, peer, sizes) as dsn,
        psycopg.connect(arena.dsn, autocommit=True) as admin,
        Program(peer, "work", dsn, kind=NO_OP, count=0) as worker,
    ):
        database = str(conninfo_to_dict(dsn)["dbname"])
        _count_in(admin, database)
        start(worker, peer, dsn)
        time.sleep(2 * sizes.settle_seconds)
        meter = Meter(arena.dsn)
        before, counted_at = _counts(admin, database), time.monotonic()
        with meter:
            time.sleep(sizes.idle_seconds)
        after = _counts(admin, database)
        # The meter's own time is shorter: it walks all of /proc before and behind it.
        seconds = time.monotonic() - counted_at
        figures = {
            "statements a second": (after[0] - before[0]) / seconds,
            "commits a second": (after[1] - before[1]) / seconds,
            "connections": after[2],
            "MB": sum(_resident(pid) for pid in family(worker.pid)) / 1e6,
            "ms CPU a second": 1000 * meter.client_cpu / meter.seconds,
        }
    return meter.sample(max(1, int(after[1] - before[1])), figures=figures)


def _count_in(admin: psycopg.Connection, database: str) -> None:
    """Let pg_stat_statements, where it is loaded, count in sessions of a database from now on."""
    statement = sql.SQL("alter database {} set pg_stat_statements.track = 'top'")
    admin.execute(statement.format(sql.Identifier(database)))


def _counts(admin: psycopg.Connection, database: str) -> tuple[int, int, int]:
    """Return statements, 0 where nothing counts them, transactions, and connections."""
    statements = 0
    if admin.execute(_IS_COUNTED).fetchone() == (1,):
        [[statements]] = admin.execute(_STATEMENTS, (database,)).fetchall()
    [[transactions, connections]] = admin.execute(_COMMITS, (database,)).fetchall()
    return int(statements), int(transactions), int(connections)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


SHARED = (
    SharedQuestion(
        "idle worker",
        "transactions",
        _ask,
        figures=("statements a second", "commits a second", "MB"),
    ),
)
