"""A server that lives and dies with the program that starts it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pgprog.embedded import cluster, programs
from pgprog.embedded.account import find_account, server_environment
from pgprog.embedded.sockets import dsn, temporary_root
from pgprog.errors import PgprogError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DURABLE = {**cluster.REPLICATION, "max_connections": "200"}
_THROWAWAY = {**_DURABLE, "fsync": "off", "full_page_writes": "off"}

_PREFIX = "pgprog-private-"
_ROOM_IN_MEMORY = 1 << 30
_GRACE_SECONDS = 60
_PR_SET_PDEATHSIG = 1


class EmbeddedPostgres:
    """A private PostgreSQL server; a context manager.

    Its programs are found as `programs.find_programs` says, or in *bindir*.  *datadir* is kept
    when the server stops; without it the data go to a temporary directory and are removed.
    With *durable* False nothing is flushed to disk and the data lie in memory where there is room:
    a test suite runs several times faster, and a crash of the machine loses the data.  *settings*
    are PostgreSQL's own, and win.

    Started by root it runs as $PGPROG_OS_USER, `postgres` or `nobody`.  No permission outside its
    own directories is changed.  On Linux it ends with its parent, however that ends, as long as
    the thread that started it was the main one.
    """

    def __init__(
        self,
        datadir: Path | None = None,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        bindir: Path | None = None,
    ) -> None:
        self._durable = durable
        self._settings = {**(_DURABLE if durable else _THROWAWAY), **(settings or {})}
        self._datadir = datadir.resolve() if datadir else None
        self._bindir = bindir
        self._account = find_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = contextlib.ExitStack()
        self._base: Path | None = None

    @property
    def base(self) -> Path:
        """The temporary directory of the running server: its sockets and its log."""
        if self._base is None:
            msg = "the server is not running"
            raise RuntimeError(msg)
        return self._base

    @property
    def dsn(self) -> str:
        """How to connect to the running server, as its superuser."""
        return dsn(self.base, port=self._settings.get("port", "5432"))

    @property
    def pid(self) -> int | None:
        """The process id of the server, None while it is stopped."""
        return self._process.pid if self._process else None

    def start(self, *, timeout: float = 60) -> Self:
        """Start the server and wait until it takes connections.

        A data directory may be taken over at once from a program that was killed.

        Raises:
            ConfigError: There are no programs, or the data directory cannot be made.
            PgprogError: The server ended, or was not ready within *timeout* seconds; the message
                has the end of its log.
        """
        if self._process is not None:
            return self
        try:
            self._base = self._make_base(temporary_root() if self._durable else _scratch_root())
            found = self._bindir or programs.find_programs()
            bindir = programs.within_reach(found, account=self._account, shelter=self._shelter())
            datadir = self._datadir or self._base / "data"
            self._account.own(datadir)
            if not (datadir / "PG_VERSION").exists():
                flush = () if self._durable else ("--no-sync",)
                cluster.initialise(datadir, programs=bindir, account=self._account, options=flush)
            self._launch(bindir, datadir=datadir, timeout=timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and remove its temporary directory; repeating it is harmless."""
        if self._process is not None:
            # Sessions are cut off either way; a throwaway server writes no checkpoint either.
            self._process.send_signal(signal.SIGINT if self._durable else signal.SIGQUIT)
            try:
                self._process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(_GRACE_SECONDS)
            self._process = None
        self._base = None
        self._resources.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _shelter(self) -> Path:
        """Return where copies of programs run: in containers that is often not in memory."""
        may_copy = self._account.uid is not None
        if may_copy and os.statvfs(self.base).f_flag & getattr(os, "ST_NOEXEC", 0):
            return self._make_base(temporary_root())
        return self.base

    def _make_base(self, root: Path) -> Path:
        _sweep(root, owner=self._account.owner)
        base = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        self._resources.callback(shutil.rmtree, base, ignore_errors=True)
        # Held while this process lives: what tells the remains of a killed one from a living one.
        held = self._resources.enter_context((base / "lock").open("w"))
        fcntl.flock(held, fcntl.LOCK_EX)
        self._account.own(base)
        return base

    def _launch(self, bindir: Path, *, datadir: Path, timeout: float) -> None:
        """Start the server, again where that of a killed program may be about to end."""
        pauses = cluster.AFTER_A_CRASH if (datadir / "postmaster.pid").exists() else ()
        for pause in (*pauses, None):
            cluster.remove_stale_locks(datadir, sockets=self.base)
            self._process = self._spawn(bindir, datadir=datadir)
            try:
                self._wait(datadir, timeout=timeout)
            except PgprogError:
                if pause is None or self._process.poll() is None:
                    raise
                time.sleep(pause)
            else:
                return

    def _spawn(self, bindir: Path, *, datadir: Path) -> subprocess.Popen[bytes]:
        options = cluster.server_options(self._settings, sockets=self.base)
        with (self.base / "server.log").open("ab") as log:
            return subprocess.Popen(
                [str(bindir / "postgres"), "-D", str(datadir), *options],
                cwd="/",
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is its owner's to handle
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, nothing locked
                user=self._account.uid,
                group=self._account.gid,
                extra_groups=self._account.extra_groups,
            )

    def _wait(self, datadir: Path, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._process is not None:
            server = cluster.read_postmaster(datadir)
            if server and server.pid == self._process.pid and server.phase == "ready":
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise cluster.not_started(self.base / "server.log")
            time.sleep(0.02)


def _die_with_parent() -> Callable[[], object] | None:
    """Return what a child calls so that the kernel ends it with the thread that forked it."""
    if sys.platform != "linux":
        return None
    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)


def _scratch_root() -> Path:
    """Return memory where there is room for a database, else the disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a name of our own is made in it
    if memory.is_dir() and os.access(memory, os.W_OK):
        free = os.statvfs(memory)
        if free.f_bavail * free.f_frsize > _ROOM_IN_MEMORY:
            return memory
    return temporary_root()


def _sweep(root: Path, *, owner: int) -> None:
    """Remove what servers left in *root* whose parents were killed."""
    for base in root.glob(f"{_PREFIX}*"):
        try:
            found = base.lstat()
            if found.st_uid != owner or time.time() - found.st_mtime < _GRACE_SECONDS:
                continue
            with (base / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(base, ignore_errors=True)
        except OSError:  # it lives, or another start swept it at the same moment
            continue
