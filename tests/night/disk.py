"""A disk of limited size, in memory, with PostgreSQL on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from pgprog import migrate
from pgprog.embedded import DevelopmentServer

if TYPE_CHECKING:
    from typing import Self

SMALL, LARGE = "400m", "1g"
_PATIENCE = 60.0


class Disk:
    """A tmpfs at *place*, and the server that lives there; needs root, and leaves neither."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._server = DevelopmentServer(place / "home")
        self.dsn = self._server.dsn

    def __enter__(self) -> Self:
        self._place.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=0711", "tmpfs", str(self._place))
        try:
            self._server.start()
            migrate(self.dsn)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._server.stop()
        finally:
            _run("umount", "--lazy", str(self._place))

    def start(self) -> None:
        self._server.start()

    def crash(self) -> None:
        """End the server `immediate`: nothing is written any more."""
        pid = self._server.status().pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            while self._server.status().pid == pid:
                time.sleep(0.01)

    def fill(self) -> None:
        """Take all room, and go on writing until PostgreSQL has stopped.

        Its first crashes for want of room it survives: they give some back.
        """
        server = self._server.status().pid
        with (self._place / "ballast").open("wb", buffering=0) as ballast:
            deadline = time.monotonic() + _PATIENCE
            while server is not None and _is_alive(server):
                for size in (1 << 20, 1 << 12):
                    with suppress(OSError):
                        while True:
                            ballast.write(bytes(size))
                with suppress(psycopg.Error):
                    self._write_segments()
                if time.monotonic() > deadline:
                    msg = "PostgreSQL survives a full disk"
                    raise TimeoutError(msg)

    def enlarge(self) -> None:
        _run("mount", "-o", f"remount,size={LARGE}", str(self._place))

    def _write_segments(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while True:
                connection.execute("select pg_logical_emit_message(false, 'night', 'x')")
                connection.execute("select pg_switch_wal()")


def _is_alive(pid: int) -> bool:
    """Return whether a program runs: a full disk takes even postmaster.pid from us."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
