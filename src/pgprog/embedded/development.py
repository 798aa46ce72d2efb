"""A server that stays, for development and the demo: started once, found again by everybody."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.embedded import cluster, home, programs, sockets
from pgprog.embedded.account import find_account
from pgprog.errors import PgprogError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Small enough for a laptop that does other things, with room for workers and clients.
_SETTINGS = {
    **cluster.REPLICATION,
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "max_slot_wal_keep_size": "1GB",  # a forgotten slot does not fill the disk
}
_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What is known of a development server; *pid* and *major_version* are None if it has none."""

    is_running: bool
    pid: int | None
    major_version: int | None
    dsn: str
    datadir: Path
    log: Path


class DevelopmentServer:
    """The PostgreSQL server of one pgprog home.

    *path* is that home, by default the one that `home.find_home` finds.  The server runs on when
    the program that started it ends.  Its files lie in `postgres` below the home, which only its
    account can enter: the account as for `EmbeddedPostgres`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.home = path.resolve() if path else home.find_home(os.environ)
        self._base = self.home / "postgres"
        self._account = find_account()
        self._sockets = sockets.socket_directory(self._base / "sockets")
        self.datadir = self._base / "data"
        self.log = self._base / "server.log"

    @property
    def dsn(self) -> str:
        """How to connect to the server, as its superuser; always the same for one home."""
        return sockets.dsn(self._sockets)

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it takes connections.

        The first start makes the database, in about a second.  Any number of starts at the same
        moment make one server.

        Raises:
            ConfigError: There are no programs, or the home cannot be used.
            PgprogError: The server did not start; the message has the end of its log.
        """
        home.make_home(self.home)
        self._account.own(self._base)
        with self._alone():
            if self._is_up():
                return
            found = programs.find_programs()
            bindir = programs.within_reach(found, account=self._account, shelter=self._base)
            sockets.make_socket_directory(self._sockets, account=self._account)
            if not self.datadir.exists():
                self._initialise(bindir)
            cluster.remove_stale_locks(self.datadir, sockets=self._sockets)
            self._launch(bindir)

    def stop(self) -> None:
        """Stop the server and wait for its end; its data stay.  One that does not run is left so.

        Raises:
            ConfigError: The home belongs to another account.
            PgprogError: It did not end in time; the message has its process id.
        """
        if cluster.read_postmaster(self.datadir) is None and not self._base.is_dir():
            return
        with self._alone():
            server = cluster.read_postmaster(self.datadir)
            if server is None:
                return
            os.kill(server.pid, signal.SIGINT)  # a fast shutdown: sessions are cut off
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while cluster.read_postmaster(self.datadir) is not None:
                if time.monotonic() > deadline:
                    msg = f"PostgreSQL {server.pid} did not stop in {_PATIENCE_SECONDS} s"
                    raise PgprogError(msg, hint=f"look at {self.log}")
                time.sleep(0.02)

    def status(self) -> ServerStatus:
        """Return what is known of the server; one that is still starting is not running."""
        server = cluster.read_postmaster(self.datadir)
        is_running = server is not None and server.phase == "ready"
        try:
            version = int((self.datadir / "PG_VERSION").read_text())
        except (FileNotFoundError, NotADirectoryError):
            version = None
        return ServerStatus(
            is_running=is_running,
            pid=server.pid if server and is_running else None,
            major_version=version,
            dsn=self.dsn,
            datadir=self.datadir,
            log=self.log,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._base / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _is_up(self) -> bool:
        """Return whether the server takes connections, once it is neither starting nor stopping."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while server := cluster.read_postmaster(self.datadir):
            if server.phase == "ready":
                return True
            if time.monotonic() > deadline:
                raise cluster.not_started(self.log)
            time.sleep(0.02)
        return False

    def _initialise(self, bindir: Path) -> None:
        """Make the data directory, whole or not at all.

        A killed start may leave an initdb at work behind: each works in a directory of its own.
        """
        leftovers = list(self._base.glob("data.*"))
        fresh = Path(tempfile.mkdtemp(prefix="data.", dir=self._base))
        self._account.own(fresh)
        cluster.initialise(fresh, programs=bindir, account=self._account)
        fresh.rename(self.datadir)
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)

    def _launch(self, bindir: Path) -> None:
        """Start a server that is nobody's child."""
        crashed = (self.datadir / "postmaster.pid").exists()
        options = cluster.server_options(_SETTINGS, sockets=self._sockets)
        for pause in (0.0, *(cluster.AFTER_A_CRASH if crashed else ())):
            time.sleep(pause)
            done = self._account.run(
                *(bindir / "pg_ctl", "start", "-D", self.datadir, "-l", self.log, "-s", "-w"),
                *("-t", str(_PATIENCE_SECONDS), "-o", shlex.join(options)),
            )
            if done.returncode == 0 or self._is_up():
                return
        raise cluster.not_started(self.log)
