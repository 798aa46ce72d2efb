"""Bring a database to the schema of this version of pgprog.

Numbered migrations run once, forward only; one that was edited after it ran is refused.  Functions
and views are applied again in the same transaction when their text has changed; so are the
publications, where the role may make them.  Roles that were given rights in the database by
roles.sql are given those of this version.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, LiteralString

from psycopg.errors import DeadlockDetected, InsufficientPrivilege

from pgprog.errors import Overloaded, SchemaMismatch
from pgprog.store.faults import LockTimeout, RolledBack
from pgprog.store.pool import connect_blocking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

_NAME = "pgprog migrate"
PUBLICATION: Final = "publication.sql"
_PUBLICATIONS = ("pgprog_processes", "pgprog_events", "pgprog_wakeups", "pgprog_answers")
_TRIES = 30
_PAUSE_SECONDS = 0.5

# IF NOT EXISTS would ask for CREATE on the database even where the schema exists.
_BOOKS = b"""
do $$
begin
  if to_regnamespace('pgprog_data') is null then
    create schema pgprog_data;
  end if;
end
$$;
create table if not exists pgprog_data.schema_migrations (
  name text primary key,
  sha256 bytea not null,
  applied_at timestamptz not null default clock_timestamp()
);
create table if not exists pgprog_data.schema_functions (
  name text primary key,
  sha256 bytea not null,
  applied_at timestamptz not null default clock_timestamp()
);
"""

# An index of a large table takes longer than a role may work at a time; waits are bounded.
_NO_OTHER_TIMEOUTS = """
select set_config(s.name, '0', true) from pg_settings as s
where s.name in ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')
"""

# After every change: nothing is executable or visible to everybody.  How long keys are kept is not
# known here, so none is erased.
_CLOSE = b"""
revoke all on schema pgprog, pgprog_data, pgprog_engine from public;
revoke all on all functions in schema pgprog, pgprog_engine from public;
select pgprog_engine.maintain(key_ttl => null);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFile:
    """One file of sql/, by its path below it."""

    name: str
    text: bytes

    @property
    def sha256(self) -> bytes:
        """Return the digest that tells whether the file was changed."""
        return hashlib.sha256(self.text).digest()


def sql_directory() -> Path:
    """Return where the .sql files lie: in the wheel, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    return package / "sql" if (package / "sql").is_dir() else package.parents[1] / "sql"


def migrations() -> list[SchemaFile]:
    """Return the numbered migrations, in their order."""
    return list(_files("migrations"))


def functions() -> list[SchemaFile]:
    """Return functions, then the views that use them."""
    return [
        *_files("functions/internal"),
        *_files("functions/engine"),
        *_files("functions/api"),
        *_files("views"),
    ]


def publication() -> SchemaFile:
    """Return what makes the publications, which nothing but readers of replication needs."""
    return _file(PUBLICATION)


def latest_version() -> int:
    """Return the number of the last migration that this version of pgprog brings."""
    return max(int(Path(file.name).name[:4]) for file in migrations())


def migrate(dsn: str, *, lock_timeout: str = "2s") -> list[str]:
    """Apply what is missing or changed and return the names of the applied files.

    Publications are left out where the role may not make them: see `missing_publications`.
    All in one transaction under an advisory lock: two at once are safe, the second finds nothing to
    do.  A lock that is not had within *lock_timeout* rolls everything back and is tried again, at
    most 30 times.  Other time-outs of the role or the database do not count.

    Raises:
        SchemaMismatch: A migration was edited after it ran, or the database is newer than pgprog.
        StoreUnavailable: The database cannot be reached; nothing or everything was applied.
        Overloaded: Somebody holds a lock that is needed; nothing was applied.
    """
    return _patiently(dsn, _apply, lock_timeout=lock_timeout)


def apply_again(dsn: str, *, lock_timeout: str = "2s") -> list[str]:
    """Migrate, and apply all functions, views and publications, whether they have changed or not.

    For a database where somebody edited or dropped some of them.  Returns the applied files.

    Raises:
        PgprogError: As for `migrate`.
    """
    migrate(dsn, lock_timeout=lock_timeout)
    return _patiently(dsn, _apply_functions, lock_timeout=lock_timeout)


def roles() -> str:
    """Return the script that makes the roles of pgprog and gives them their rights."""
    return (sql_directory() / "roles.sql").read_text()


def apply_roles(dsn: str) -> None:
    """Make the roles of pgprog, and give them their rights in this database; safe to repeat.

    Raises:
        PgprogError: The role of *dsn* may not make roles, or does not own the schema.
    """
    with connect_blocking(dsn, name=_NAME) as connection:
        connection.execute(roles().encode())


def pending(dsn: str) -> list[str]:
    """Return the names of the files that `migrate` would apply if it may; changes nothing.

    Raises:
        SchemaMismatch: As for `migrate`.
    """
    with connect_blocking(dsn, name=_NAME) as connection:
        row = connection.execute("select to_regclass('pgprog_data.schema_migrations')").fetchone()
        if row is None or row[0] is None:
            return [file.name for file in [*migrations(), *functions(), publication()]]
        due = [publication()] if _is_publication_due(connection) else []
        return [file.name for file in [*_missing(connection), *due]]


def missing_publications(dsn: str) -> list[str]:
    """Return the names of the publications that there are not: a DBA must run `publication.sql`."""
    with connect_blocking(dsn, name=_NAME) as connection:
        return _missing_publications(connection)


def script() -> str:
    """Return the whole schema as one SQL script, for a DBA to read and run."""
    parts = ["begin;", "set local check_function_bodies = off;", _BOOKS.decode()]
    repeated = [*functions(), publication()]
    for kind, files in (("migrations", migrations()), ("functions", repeated)):
        for file in files:
            entry = f"pgprog_data.schema_{kind} (name, sha256)"
            digest = f"decode('{file.sha256.hex()}', 'hex')"
            parts += [f"-- {file.name}", file.text.decode()]
            values = f"('{file.name}', {digest});"
            statement = f"insert into {entry} values {values}"  # noqa: S608 - our own names
            parts.append(statement)
    return "\n".join([*parts, _CLOSE.decode(), rights(), "commit;", ""])


def _patiently(
    dsn: str, work: Callable[[psycopg.Connection], list[str]], *, lock_timeout: str
) -> list[str]:
    """Return what *work* does in a transaction that waits for no lock for long, tried again."""
    tries_left = _TRIES
    while True:
        try:
            with connect_blocking(dsn, name=_NAME) as connection, connection.transaction():
                _prepare(connection, lock_timeout)
                return work(connection)
        except RolledBack as e:
            if not isinstance(e, LockTimeout) and not isinstance(e.__cause__, DeadlockDetected):
                raise Overloaded(str(e), hint="nothing was applied; repeat it") from e
            tries_left -= 1
            if not tries_left:
                msg = f"a lock was not free in {_TRIES} tries of {lock_timeout}: {e}"
                raise Overloaded(msg, hint="end long transactions on the tables of pgprog") from e
            time.sleep(_PAUSE_SECONDS)


def _prepare(connection: psycopg.Connection, lock_timeout: str) -> None:
    connection.execute("select set_config('lock_timeout', %s, true)", (lock_timeout,))
    connection.execute(_NO_OTHER_TIMEOUTS)
    connection.execute("set local check_function_bodies = off")
    connection.execute("set local client_min_messages = warning")
    connection.execute("select pg_advisory_xact_lock(hashtextextended('pgprog.migrate', 0))")


def _apply(connection: psycopg.Connection) -> list[str]:
    connection.execute(_BOOKS)
    applied = _missing(connection)
    for file in applied:
        _run(connection, file)
    if applied:
        connection.execute(_CLOSE)
        connection.execute(rights().encode())
    if _is_publication_due(connection):
        with suppress(InsufficientPrivilege), connection.transaction():
            _run(connection, publication())
            applied.append(publication())
    return [file.name for file in applied]


def _apply_functions(connection: psycopg.Connection) -> list[str]:
    for file in functions():
        _run(connection, file)
    connection.execute(_CLOSE)
    connection.execute(rights().encode())
    names = [file.name for file in functions()]
    with suppress(InsufficientPrivilege), connection.transaction():
        _run(connection, publication())
        names.append(PUBLICATION)
    return names


def rights() -> str:
    """Return the script that gives roles their rights again, where they were given them once.

    Roles are of the whole server: that they exist is no reason to let them into this database.
    """
    _, _, grants = (sql_directory() / "roles.sql").read_text().partition("-- RIGHTS:")
    return f"""do $rights$
begin
  if has_schema_privilege(to_regrole('pgprog_app')::oid, 'pgprog', 'usage') then
    -- {grants}  end if;
exception when undefined_object then
  raise warning 'a role of pgprog is missing: run sql/roles.sql';
end
$rights$;"""


def _run(connection: psycopg.Connection, file: SchemaFile) -> None:
    connection.execute(file.text)
    connection.execute(
        "insert into pgprog_data.schema_migrations (name, sha256) values (%s, %s)"
        if file.name.startswith("migrations/")
        else "insert into pgprog_data.schema_functions (name, sha256) values (%s, %s)"
        " on conflict (name) do update"
        " set sha256 = excluded.sha256, applied_at = clock_timestamp()",
        (file.name, file.sha256),
    )


def _is_publication_due(connection: psycopg.Connection) -> bool:
    """Tell whether one is missing, or changed since it was made here: a DBA's are the DBA's."""
    known = _digests(connection, "select name, sha256 from pgprog_data.schema_functions")
    is_changed = known.get(PUBLICATION, publication().sha256) != publication().sha256
    return is_changed or bool(_missing_publications(connection))


def _missing_publications(connection: psycopg.Connection) -> list[str]:
    query = (
        "select n.name from unnest(%s::text[]) as n(name)"
        " where not exists (select from pg_publication as p where p.pubname = n.name)"
        " order by n.name"
    )
    return [name for (name,) in connection.execute(query, (list(_PUBLICATIONS),))]


def _missing(connection: psycopg.Connection) -> list[SchemaFile]:
    applied = _digests(connection, "select name, sha256 from pgprog_data.schema_migrations")
    known = {file.name for file in migrations()}
    for name in applied:
        if name not in known:
            msg = f"the database has migration {name}, which this pgprog does not know"
            raise SchemaMismatch(
                msg, hint="install the version of pgprog that migrated it, or a newer one"
            )
    for file in migrations():
        if file.name in applied and applied[file.name] != file.sha256:
            msg = (
                f"{file.name} was changed after it was applied: "
                f"applied {applied[file.name].hex()[:12]}, file {file.sha256.hex()[:12]}"
            )
            raise SchemaMismatch(msg, hint="restore the file; put changes into a new migration")
    current = _digests(connection, "select name, sha256 from pgprog_data.schema_functions")
    return [file for file in migrations() if file.name not in applied] + [
        file for file in functions() if current.get(file.name) != file.sha256
    ]


def _digests(connection: psycopg.Connection, query: LiteralString) -> dict[str, bytes]:
    return dict(connection.execute(query).fetchall())


def _files(folder: str) -> Iterator[SchemaFile]:
    for path in sorted((sql_directory() / folder).glob("*.sql")):
        yield _file(f"{folder}/{path.name}")


def _file(name: str) -> SchemaFile:
    """Return a file with the line ends that it has elsewhere: a checkout may change them."""
    text = (sql_directory() / name).read_bytes()
    return SchemaFile(name=name, text=text.replace(b"\r\n", b"\n"))
