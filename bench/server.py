"""The server that everything is measured on: durable, on a disk, its settings stated."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgprog.embedded import EmbeddedPostgres, programs
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Checkpoints are kept out of the samples: each is taken between two.
SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "wal_compression": "off",
    "autovacuum": "on",
    # For what an idle worker asks: it counts where a database says so, and elsewhere costs nothing.
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "none",
}
# Of this run: several may share a server.
TEMPLATE = f"bench_template_{os.getpid()}"
_DATABASE = f"bench_{os.getpid()}"
_IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class Arena:
    """A server by the DSN of its superuser, with a migrated template to copy."""

    dsn: str

    @contextlib.contextmanager
    def database(self, *, template: str = TEMPLATE) -> Iterator[str]:
        """Give a database with the schema and nothing in it, as every sample begins."""
        with _admin(self.dsn) as admin:
            _drop(admin, _DATABASE)
            admin.execute("checkpoint")
            _create(admin, _DATABASE, template=template)
        try:
            yield make_conninfo(self.dsn, dbname=_DATABASE)
        finally:
            with _admin(self.dsn) as admin:
                _drop(admin, _DATABASE)

    @contextlib.contextmanager
    def made(self, name: str, *, template: str = "template1") -> Iterator[str]:
        """Give a database that stays, to be filled; it goes where the block fails."""
        with _admin(self.dsn) as admin:
            _drop(admin, name)
            _create(admin, name, template=template)
        try:
            yield make_conninfo(self.dsn, dbname=name)
        except BaseException:
            with _admin(self.dsn) as admin:
                _drop(admin, name)
            raise

    def empty_database(self) -> contextlib.AbstractContextManager[str]:
        """Give a database without our schema."""
        return self.database(template="template1")


@contextlib.contextmanager
def durable_server(
    *, datadir: Path | None = None, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Arena]:
    """Start a private server on a disk, and make its template; *datadir* is kept.

    *settings* are others than the stated ones, or further ones.

    Raises:
        RuntimeError: The directory for temporary files lies in memory; set TMPDIR.
    """
    if (kind := file_system(Path(tempfile.gettempdir()))) in _IN_MEMORY:
        msg = f"the directory for temporary files is {kind}; set TMPDIR to one on a disk"
        raise RuntimeError(msg)
    with EmbeddedPostgres(datadir=datadir, settings={**SETTINGS, **settings}) as server:
        with _admin(server.dsn) as admin:
            admin.execute("create extension if not exists pg_stat_statements")
        yield arena_on(server.dsn)


def arena_on(dsn: str) -> Arena:
    """Return an arena on a running server, whose template is made anew."""
    with _admin(dsn) as admin:
        _drop(admin, TEMPLATE)
        _create(admin, TEMPLATE, template="template1")
    migrate(make_conninfo(dsn, dbname=TEMPLATE))
    return Arena(dsn)


@contextlib.contextmanager
def pinned(dsn: str) -> Iterator[None]:
    """Hold a snapshot open: no row that dies in the block is taken away."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("select pg_current_snapshot()")
        yield


def file_system(path: Path) -> str:
    """Return the type of the file system that *path* lies on, '' where nobody says."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    fields = [line.split() for line in mounts.read_text().splitlines()]
    under = [(len(at), kind) for _, at, kind, *_ in fields if path.resolve().is_relative_to(at)]
    return max(under)[1]


def program(name: str) -> str:
    """Return a program of the server, such as pgbench."""
    return str(programs.find_programs() / name)


def flush_line() -> str:
    """Return what pg_test_fsync says of fdatasync on the disk of the temporary files."""
    with tempfile.TemporaryDirectory() as directory:
        command = [program("pg_test_fsync"), "-s", "1", "-f", f"{directory}/file"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as testing:
            for line in testing.stdout or ():
                words = line.split()
                if words[:1] == ["fdatasync"]:
                    testing.terminate()  # a dozen other methods would follow, a second each
                    return " ".join(words)
    return "no fdatasync"


def postmaster_pid(dsn: str) -> int:
    """Return the process id of the server, which is the parent of each of its backends."""
    with _admin(dsn) as admin:
        stat = Path(f"/proc/{admin.info.backend_pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def server_settings(dsn: str) -> dict[str, str]:
    """Return the version of the server and what it says of the stated settings."""
    with _admin(dsn) as admin:
        found = admin.execute(
            "select name, current_setting(name) from pg_settings where name = any (%s)",
            (["server_version", "wal_level", *SETTINGS],),
        ).fetchall()
    return dict(found)


def _admin(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True)


def _create(admin: psycopg.Connection, name: str, *, template: str) -> None:
    statement = sql.SQL("create database {} template {}")
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def _drop(admin: psycopg.Connection, name: str) -> None:
    admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
