"""A real systemd as the first process of namespaces of its own; nothing of the host is started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD = Path("/lib/systemd/systemd")
_TARGETS = ("test.target", "basic.target", "sysinit.target", "shutdown.target")
# /etc is the host's with changes that nobody else sees; /opt and the units are empty.
_BOOT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd /run/lock /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mount -t tmpfs tmpfs /etc/systemd/system
mount -t tmpfs tmpfs /opt
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
export container=test SYSTEMD_UNIT_PATH="$1:/etc/systemd/system"
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
"""
_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")


class Machine:
    """It runs from `start` to `close`; *place* is a directory that everybody may enter."""

    def __init__(self, place: Path) -> None:
        self._units = place / "units"
        self._log = place / "log"
        self._outer: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def start(self) -> None:
        """Boot it."""
        self._units.mkdir(mode=0o755)
        for name in _TARGETS:
            text = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
            (self._units / name).write_text(text)
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                [
                    *("unshare", "--fork", "--kill-child", *_NAMESPACES, "--mount-proc"),
                    *("--propagation", "private", "bash", "-c", _BOOT, "boot", str(self._units)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while not self._pid:
            self._pid = self._first_child()
        while self.run("systemctl is-system-running").stdout.strip() not in ("running", "degraded"):
            assert self._outer.poll() is None, self._log.read_text()

    def run(
        self, command: str, *, cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root, and return how it ended and what it printed."""
        return subprocess.run(
            [
                *("nsenter", "--target", str(self._pid), *_NAMESPACES),
                *("bash", "-c", 'cd "$1" && eval "$2"', "run", str(cwd or "/"), command),
            ],
            env={"PATH": "/usr/bin:/bin", "HOME": "/root", "SYSTEMD_PAGER": "", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )

    @property
    def log(self) -> str:
        """What systemd and its units have said."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """End it with all that runs in it."""
        if self._outer is not None:
            self._outer.send_signal(signal.SIGKILL)
            self._outer.wait()

    def _first_child(self) -> int:
        assert self._outer is not None
        pid = self._outer.pid
        assert self._outer.poll() is None, self._log.read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0


def needs_systemd() -> None:
    """Skip for an ordinary user, who cannot boot one; fail for root without it."""
    if os.geteuid() != 0:
        pytest.skip("only root may boot a systemd")
    missing = [name for name in ("nsenter", "unshare") if shutil.which(name) is None]
    missing += [] if SYSTEMD.exists() else [str(SYSTEMD)]
    assert not missing, f"apt-get install systemd util-linux: {missing} are not here"


@contextlib.contextmanager
def reachable(dsn: str) -> Iterator[str]:
    """Give a DSN by which every account here reaches the server of *dsn*, in the block."""
    given = conninfo_to_dict(dsn)
    host = str(given.get("host", ""))
    if not host.startswith("/"):
        yield dsn
        return
    upstream = f"{host}/.s.PGSQL.{given.get('port', 5432)}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_relay, args=[server, upstream], daemon=True).start()
        yield make_conninfo(dsn, host="127.0.0.1", port=server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


def _relay(server: socket.socket, upstream: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            beyond = socket.socket(socket.AF_UNIX)
            beyond.connect(upstream)
            for ends in ((client, beyond), (beyond, client)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            to.sendall(data)
    for each in (source, to):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    source.close()
