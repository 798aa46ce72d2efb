"""The server that all tests share, and the databases on it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgprog.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from psycopg.rows import TupleRow

    Connection = psycopg.Connection[TupleRow]

# In one round trip; what a migration makes once, and every test needs, is kept.
_EMPTY = """
do $$
declare
  v_table regclass;
begin
  set local session_replication_role = replica;  -- no order to mind
  for v_table in
    select oid from pg_class
    where relnamespace = 'pgprog_data'::regnamespace
      and relkind in ('r', 'p')
      and not relispartition
      and relname <> all (array['partitions', 'schema_migrations', 'schema_functions'])
  loop
    execute format('delete from %s', v_table);
  end loop;
end
$$
"""
# The function waits by itself if asked to, but looks ten times a second only.
_END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = %s and pid <> pg_backend_pid()
"""
_LONG_SECONDS = 120  # what a test has without a mark of its own
_SECONDS = 10  # after which a session that was told to end has not


class SessionFactory(Protocol):
    """Opens autocommit sessions in READ COMMITTED; all are closed when the test ends."""

    def __call__(self, dsn: str | None = None) -> Connection: ...


class ClockSetter(Protocol):
    """Stops the database's clock at an instant; it runs again when the test ends."""

    def __call__(self, instant: datetime | str) -> None: ...


class Cleaner:
    """Takes away what tests left in a database, in one session: a new one would take 20 ms."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True)

    def clean(self) -> None:
        try:
            self._end_others()
        except psycopg.OperationalError:  # a test has ended all sessions, this one too
            self.close()
            self._connection = psycopg.connect(self._dsn, autocommit=True)
            self._end_others()
        self._connection.execute(_EMPTY)

    def close(self) -> None:
        self._connection.close()

    def _end_others(self) -> None:
        end_sessions(self._connection, self._connection.info.dbname)


def pytest_configure(config: pytest.Config) -> None:
    """Start one server a run; the workers of pytest-xdist inherit its address.

    PGPROG_TEST_DSN names a server of your own, with wal_level=logical.
    """
    # Tests start hundreds of programs, each of which would compile all that it imports anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Ignored where a shell without job control put the run in the background: programs inherit it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("PGPROG_TEST_DSN") or config.option.collectonly:
        return
    server = EmbeddedPostgres(durable=False).start()
    os.environ["PGPROG_TEST_DSN"] = server.dsn

    def stop() -> None:
        server.stop()
        del os.environ["PGPROG_TEST_DSN"]

    config.add_cleanup(stop)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with modules that may take long: one of them at the end would be waited for alone."""
    long = {item.path for item in items if _seconds_of(item) > _LONG_SECONDS}
    items.sort(key=lambda item: item.path not in long)


def _seconds_of(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return 0 if mark is None else float(mark.args[0])


@pytest.fixture(scope="session")
def admin() -> Iterator[Connection]:
    with psycopg.connect(os.environ["PGPROG_TEST_DSN"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(admin: Connection) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to.

    PGPROG_TEST_MUTANT names a file of SQL that is applied on top: tools/mutants.py breaks a
    function with it and expects tests to notice.
    """
    from pgprog.store.migrate import migrate  # noqa: PLC0415 - pure tests need no store

    name = f"template_{_worker()}"
    dsn = _create(admin, name, template="template1")
    migrate(dsn)
    if mutant := os.environ.get("PGPROG_TEST_MUTANT"):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(Path(mutant).read_bytes())
    yield name
    _drop(admin, name)


@pytest.fixture
def fresh_db(admin: Connection, template: str) -> Iterator[str]:
    """A database of one's own, for slots, publications and DDL: about 50 ms."""
    name = f"fresh_{_worker()}_{time.monotonic_ns()}"
    yield _create(admin, name, template=template)
    _drop(admin, name)


@pytest.fixture(scope="module")
def module_db(admin: Connection, template: str) -> Iterator[str]:
    """A database that the tests of one module share: for data too dear to make for each."""
    name = f"module_{_worker()}_{time.monotonic_ns()}"
    yield _create(admin, name, template=template)
    _drop(admin, name)


@pytest.fixture(scope="session")
def _shared_db(admin: Connection, template: str) -> Iterator[str]:
    name = f"shared_{_worker()}"
    yield _create(admin, name, template=template)
    _drop(admin, name)


@pytest.fixture(scope="session")
def _cleaner(_shared_db: str) -> Iterator[Cleaner]:
    cleaner = Cleaner(_shared_db)
    yield cleaner
    cleaner.close()


@pytest.fixture
def db(_shared_db: str, _cleaner: Cleaner) -> str:
    """A database without data: about 5 ms."""
    _cleaner.clean()
    return _shared_db


@pytest.fixture
def session(db: str) -> Iterator[SessionFactory]:
    with ExitStack() as opened:

        def connect(dsn: str | None = None) -> Connection:
            connection = psycopg.connect(dsn or db, autocommit=True)
            opened.callback(connection.close)
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            return connection

        yield connect


@pytest.fixture
def set_clock(db: str) -> Iterator[ClockSetter]:
    """Replaces both clocks of the engine in the database of this test."""
    with psycopg.connect(db, autocommit=True) as connection:
        originals = connection.execute(
            "select pg_get_functiondef(oid) from pg_proc"
            " where oid in ('pgprog_engine._now()'::regprocedure,"
            "               'pgprog_engine._clock()'::regprocedure)"
        ).fetchall()

    def stop_at(instant: datetime | str) -> None:
        _replace_clocks(db, instant=instant)

    yield stop_at
    with psycopg.connect(db, autocommit=True) as connection:
        for (original,) in originals:
            connection.execute(original.encode())


def _replace_clocks(dsn: str, *, instant: datetime | str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.transaction():
        for name, volatility in (("_now", "stable"), ("_clock", "volatile")):
            statement = sql.SQL(
                "create or replace function {}() returns timestamptz language sql {}"
                " return {}::timestamptz"
            ).format(
                sql.Identifier("pgprog_engine", name), sql.SQL(volatility), sql.Literal(instant)
            )
            connection.execute(statement)


def _worker() -> str:
    return f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"


def _create(admin: Connection, name: str, *, template: str) -> str:
    statement = sql.SQL("create database {} template {}")
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return make_conninfo(os.environ["PGPROG_TEST_DSN"], dbname=name)


def end_sessions(connection: Connection, database: str) -> None:
    """End all other sessions of a database, and return when they are gone."""
    until = time.monotonic() + _SECONDS
    while connection.execute(_END_SESSIONS, (database,)).fetchall():
        assert time.monotonic() < until, f"sessions of {database} do not end"


def _drop(admin: Connection, name: str) -> None:
    """Drop a database; an active slot would block that even WITH (FORCE)."""
    end_sessions(admin, name)
    admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
