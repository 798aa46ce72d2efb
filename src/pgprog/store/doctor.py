"""Look a database over: each file of sql/doctor is one check, a query whose rows are findings.

To add a check, add a file: a comment that says what it looks for, and one query with the columns
severity ('critical', 'warning', or 'unseen' for what it may not see), subject, cause, evidence, and
what mends it, in SQL or as the words of a command, names behind a '--'.  pgprog.long says how long
is too long, and the rest of `_parameters` what the package knows.
"""

from __future__ import annotations

import json
import shlex
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal

import psycopg
from psycopg.rows import dict_row

from pgprog.config.units import format_duration
from pgprog.errors import SchemaMismatch, StoreUnavailable
from pgprog.store import package
from pgprog.store.faults import translated
from pgprog.store.migrate import sql_directory
from pgprog.store.pool import connect, conninfo, is_pooled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Severity = Literal["critical", "warning"]

_NAME = "pgprog doctor"
CLOCK: Final = "clock"
POOLER: Final = "pooler"
_MUCH_WAL = 1 << 30  # bytes
_CLOCK_MAY_DIFFER = timedelta(seconds=1)
_MISSING = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
)
_MIGRATE: Final = "pgprog db migrate"
_HAS_SCHEMA = "select from pg_namespace where nspname = 'pgprog'"
_LOCKED = "locks"  # the check that says who has locked tables
_LOCKS = "pgprog doctor --only locks --long 0s"
_SET = "select set_config(x.key, x.value, true) from jsonb_each_text(%s::jsonb) as x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not well, and what mends it: a statement of SQL or a command."""

    check: str
    severity: Severity
    subject: str
    cause: str
    mend: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What a check could not look at, why, and what lets it, if anything does."""

    check: str
    cause: str
    mend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found, the critical first, and what could not be seen."""

    findings: Sequence[Finding]
    unseen: Sequence[Unseen]
    checks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is too long for what waits, how long a check may take, and what is kept."""

    long: timedelta
    check: timedelta
    task_retention: timedelta


def checks() -> Iterator[tuple[str, str]]:
    """Yield the name and the query of each check."""
    for path in sorted((sql_directory() / "doctor").glob("*.sql")):
        yield path.stem, path.read_text()


async def examine(
    dsn: str,
    *,
    direct_dsn: str | None = None,
    patience: Patience,
    only: frozenset[str] | None = None,
) -> Examination:
    """Run all checks, each in a transaction of its own that reads only and is bounded in time.

    With *only*, those of these names.  *direct_dsn* is the way that must go through no pooler;
    None when nobody needs one.

    Raises:
        StoreUnavailable: The database cannot be reached.
        SchemaMismatch: It has no schema of pgprog at all.
    """
    room = _Room(patience)
    with translated():
        connection = await psycopg.AsyncConnection.connect(
            conninfo(dsn, name=_NAME), autocommit=True, prepare_threshold=None
        )
        async with connection:
            if (refused := await _refused_transaction(connection)) is not None:
                return Examination(findings=[refused], unseen=[], checks=1)
            if only is None or CLOCK in only:
                await _put_clock(connection, room)
            if only is None or POOLER in only:
                await _put_pooler(direct_dsn, room)
            chosen = [each for each in checks() if only is None or each[0] in only]
            for name, query in chosen:
                await _check(connection, room, name=name, query=query)
    room.put_locked_out()
    ranked = sorted(room.findings, key=lambda each: each.severity != "critical")
    return Examination(findings=ranked, unseen=room.unseen, checks=room.checks)


class _Room:
    """Where findings are put down, with what the checks are told."""

    def __init__(self, patience: Patience) -> None:
        self.findings: list[Finding] = []
        self.unseen: list[Unseen] = []
        self.locked_out: list[str] = []
        self.checks = 0
        self.patience = patience
        self.parameters = json.dumps(_parameters(patience))

    def put(self, check: str, row: Mapping[str, Any]) -> None:
        mend = row["sql"] or (_command(row["command"]) if row["command"] else None)
        if row["severity"] == "unseen":
            self.unseen.append(Unseen(check=check, cause=row["cause"], mend=mend))
            return
        finding = Finding(
            check=check, severity=row["severity"], subject=row["subject"], cause=row["cause"],
            mend=mend or "", evidence=row["evidence"] or {},
        )  # fmt: skip
        self.findings.append(finding)

    def put_locked_out(self) -> None:
        """Put down that checks met a lock, where its owner is not found already."""
        if not self.locked_out or any(each.check == _LOCKED for each in self.findings):
            return
        finding = Finding(
            check=_LOCKED, severity="warning", subject="what could not be looked at",
            cause=f"somebody has locked tables of pgprog, against {', '.join(self.locked_out)}",
            mend=_LOCKS, evidence={"checks": self.locked_out},
        )  # fmt: skip
        self.findings.append(finding)


async def _check(
    connection: psycopg.AsyncConnection[Any], room: _Room, *, name: str, query: str
) -> None:
    """Run one check; one that fails hides no other."""
    room.checks += 1
    try:
        for row in await _rows(connection, query, parameters=room.parameters):
            room.put(name, row)
    except psycopg.errors.InsufficientPrivilege as e:
        mend = "grant pgprog_operator to <this role>;"
        room.unseen.append(Unseen(check=name, cause=str(e.diag.message_primary), mend=mend))
    except psycopg.errors.QueryCanceled:
        cause = f"it took longer than {format_duration(room.patience.check)} and was given up"
        room.unseen.append(Unseen(check=name, cause=cause, mend="pgprog doctor --patience 1m"))
    except psycopg.errors.LockNotAvailable as e:
        room.locked_out.append(name)
        room.unseen.append(Unseen(check=name, cause=str(e.diag.message_primary), mend=_LOCKS))
    except _MISSING as e:
        await _put_old_schema(connection, room, check=name, missing=e)
    except psycopg.Error as e:
        if connection.closed:
            raise
        room.unseen.append(Unseen(check=name, cause=str(e.diag.message_primary or e)))


async def _put_clock(connection: psycopg.AsyncConnection[Any], room: _Room) -> None:
    """Compare the clock of this machine with the database's; the way there is no difference."""
    room.checks += 1
    before = datetime.now(tz=UTC)
    async with connection.cursor(binary=True) as cursor:  # whatever DateStyle the role has
        await cursor.execute("select pg_catalog.clock_timestamp()")
        [[theirs]] = await cursor.fetchall()
    after = datetime.now(tz=UTC)
    away = max(before - theirs, theirs - after)
    if away <= _CLOCK_MAY_DIFFER:
        return
    which = "fast" if before > theirs else "slow"
    cause = (
        f"it is {away.total_seconds():.0f} s {which} beside the database, by which tasks go:"
        " times in logs of this machine cannot be compared"
    )
    finding = Finding(
        check=CLOCK, severity="warning", subject=f"clock of {socket.gethostname()}",
        cause=cause, mend="timedatectl set-ntp true", evidence={"here": after, "there": theirs},
    )  # fmt: skip
    room.findings.append(finding)


async def _put_pooler(direct_dsn: str | None, room: _Room) -> None:
    """See that the way of LISTEN and replication leads to PostgreSQL itself."""
    room.checks += 1
    if direct_dsn is None:
        return
    try:
        async with connect(direct_dsn, name=_NAME) as connection:
            if not await is_pooled(connection):
                return
        cause = "direct_dsn, or dsn without one, leads to a pooler: no LISTEN and no replication"
        cause += " there, so that tasks start by polling and nothing is read from memory"
    except StoreUnavailable as e:
        cause = f"direct_dsn cannot be reached, and with it LISTEN and replication: {e}"
    mend = "export PGPROG_DIRECT_DSN=postgresql://…  # PostgreSQL itself; or worker.wakeups: poll"
    finding = Finding(
        check=POOLER, severity="warning", subject="direct_dsn", cause=cause, mend=mend
    )
    room.findings.append(finding)


async def _rows(
    connection: psycopg.AsyncConnection[Any], query: str, *, parameters: str
) -> list[dict[str, Any]]:
    """Return the rows of a query; nothing that it set outlives its transaction."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("begin isolation level read committed, read only")
        try:
            await cursor.execute(_SET, (parameters,))
            await cursor.execute(query.encode())
            return await cursor.fetchall()
        finally:
            if not connection.closed:
                await cursor.execute("rollback")


async def _refused_transaction(connection: psycopg.AsyncConnection[Any]) -> Finding | None:
    """Return the finding of a pooler that takes no transactions: it answers in their place."""
    try:
        await connection.execute("begin")
        await connection.execute("rollback")
    except psycopg.errors.ProtocolViolation as e:
        return Finding(
            check=POOLER,
            severity="critical",
            subject="pooler",
            cause=f"the DSN leads to a pooler that takes no transactions: {e.diag.message_primary}",
            mend="pool_mode = transaction  # in pgbouncer.ini, then reload it",
        )
    return None


async def _put_old_schema(
    connection: psycopg.AsyncConnection[Any], room: _Room, *, check: str, missing: psycopg.Error
) -> None:
    """Put down that the schema is older than this package, once; the check could not look."""
    message = str(missing.diag.message_primary)
    if not await _rows(connection, _HAS_SCHEMA, parameters=room.parameters):
        raise SchemaMismatch(message, hint="run `pgprog db migrate`") from missing
    room.unseen.append(Unseen(check=check, cause=message, mend=_MIGRATE))
    if not any(each.check == "schema" for each in room.findings):
        cause = f"it is older than this pgprog: {message}"
        room.findings.append(
            Finding(
                check="schema", severity="critical", subject="schema", cause=cause, mend=_MIGRATE
            )
        )


def _command(words: Sequence[str]) -> str:
    """Return a command as it is typed; `--` stands where a name behind it looks like an option."""
    names = words[words.index("--") :] if "--" in words else ()
    is_needed = any(name.startswith("-") for name in names[1:])
    return shlex.join(words if is_needed else [word for word in words if word != "--"])


def _parameters(patience: Patience) -> dict[str, str]:
    return {
        "statement_timeout": f"{round(patience.check.total_seconds() * 1000)}ms",
        "lock_timeout": "1s",
        "pgprog.long": f"{patience.long.total_seconds()} s",
        "pgprog.task_retention": f"{patience.task_retention.total_seconds()} s",
        "pgprog.much_wal": str(_MUCH_WAL),
        "pgprog.version": version("pgprog"),
        "pgprog.files": json.dumps(dict(package.digests_of_files())),
        "pgprog.functions": json.dumps(dict(package.digests_of_bodies())),
        "pgprog.indexes": json.dumps(dict(package.indexes())),
    }
