"""A data directory: making it, the command line of its server, and what that says of itself."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.errors import ConfigError, PgprogError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgprog.embedded.account import Account

# What every server of ours can do.  synchronous_commit stays on: decoding sees flushed WAL only.
REPLICATION = {"wal_level": "logical", "max_wal_senders": "20", "max_replication_slots": "20"}
# Pauses between tries after a crash: the old server, or its children, need a moment to end.
AFTER_A_CRASH = (0.2, 0.5, 1.0, 2.0)

_PROC = Path("/proc")
_LOG_TAIL_BYTES = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """A living server, by its postmaster.pid.

    *phase* is the server's own word: `starting`, `ready`, `stopping`, or '' before its first.
    """

    pid: int
    phase: str


def initialise(
    datadir: Path, *, programs: Path, account: Account, options: tuple[str, ...] = ()
) -> None:
    """Make a new database cluster in *datadir*; *options* are further ones of initdb.

    Raises:
        ConfigError: initdb failed; the message is its own.
    """
    done = account.run(
        *(programs / "initdb", "-D", datadir, "-U", "postgres", "-A", "trust", "-E", "UTF8"),
        *("--no-locale", *options),
    )
    if done.returncode:
        msg = f"initdb could not make {datadir}:\n{(done.stderr or done.stdout).strip()}"
        raise ConfigError(msg, hint="choose a place that the server's account can reach")


def server_options(settings: Mapping[str, str], *, sockets: Path) -> list[str]:
    """Return the options of a server that listens only in *sockets*."""
    options = ["-k", str(sockets), "-p", "5432", "-c", "listen_addresses="]
    for name, value in settings.items():
        options += ["-c", f"{name}={value}"]
    return options


def read_postmaster(datadir: Path) -> Postmaster | None:
    """Return the living server of *datadir*, None if there is none.

    What a dead server left behind counts for nothing, even when another program has its process
    id by now.

    Raises:
        ConfigError: The directory belongs to another account.
    """
    try:
        lines = (datadir / "postmaster.pid").read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as e:
        msg = f"{datadir} belongs to another account"
        raise ConfigError(msg, hint="use that account, or another PGPROG_HOME") from e
    if not lines or not lines[0].strip().isdecimal():
        return None
    pid = int(lines[0])
    if not _is_server_of(datadir, pid=pid):
        return None
    return Postmaster(pid=pid, phase=lines[7].strip() if len(lines) > 7 else "")


def remove_stale_locks(datadir: Path, *, sockets: Path) -> None:
    """Remove the locks of a dead server whose process id was given to another program.

    PostgreSQL takes that program for a server and refuses to start, which happens after a restart
    of a machine or a container.  Where the id is free it copes alone, and better: it also looks
    whether orphans of the old server are still at work.
    """
    if read_postmaster(datadir) is not None:
        return
    for lock in (datadir / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
        try:
            first = lock.read_text(errors="replace").partition("\n")[0].strip()
        except FileNotFoundError:
            continue
        if first.isdecimal() and _command_line(int(first)):
            lock.unlink(missing_ok=True)


def not_started(log: Path) -> PgprogError:
    """Return the error of a server that did not start, with the end of its log."""
    try:
        text = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
    except OSError as e:
        text = str(e)
    return PgprogError(f"PostgreSQL did not start; the end of {log}:\n{text}")


def _is_server_of(datadir: Path, *, pid: int) -> bool:
    command = _command_line(pid)
    return f"\0{datadir}\0" in command or f" -D {datadir} " in f"{command} "


def _command_line(pid: int) -> str:
    """Return the command line of a process, '' if it is gone.

    Each part ends with a NUL; without /proc there are spaces between them, and nothing tells those
    from the spaces of a path.
    """
    if (_PROC / "self").exists():
        try:
            return os.fsdecode((_PROC / str(pid) / "cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            return ""
    listed = subprocess.run(
        # Twice -w: it is cut at 80 letters where nobody has a terminal, or at the width of that.
        ["ps", "-w", "-w", "-p", str(pid), "-o", "args="],
        check=False,
        capture_output=True,
        text=True,
    )
    return listed.stdout.strip()
