"""Directories that can hold a server's Unix socket, and its address in them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from pgprog.embedded.account import Account

# Needs no quotes in a DSN, and leaves room for /.s.PGSQL.5432.lock in a socket's 107 bytes.
_FIT = re.compile(r"/[A-Za-z0-9._/+-]{1,80}")
# The same for every caller, whatever its TMPDIR; sticky, so that names of ours stay ours.
_SHORT = Path("/tmp")  # noqa: S108 - what is made in it is checked


def dsn(sockets: Path, *, port: str = "5432") -> str:
    """Return how to connect to the server that listens in *sockets*."""
    return f"host={sockets} port={port} user=postgres dbname=postgres"


def temporary_root() -> Path:
    """Return the directory for temporary files, or a shorter one where sockets do not fit in it."""
    usual = Path(tempfile.gettempdir()).absolute()
    return usual if _FIT.fullmatch(f"{usual}/pgprog-private-12345678") else _SHORT


def socket_directory(wanted: Path) -> Path:
    """Return *wanted* if sockets can lie in it, else a short stand-in that is always the same."""
    if _FIT.fullmatch(str(wanted)):
        return wanted
    name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
    return _SHORT / f"pgprog-{name}"


def make_socket_directory(path: Path, *, account: Account) -> None:
    """Make *path* for *account* alone; repeating it is harmless.

    Raises:
        ConfigError: Somebody else made it before, perhaps to listen in.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        ours = found.st_uid in {account.owner, os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or not ours or stat.S_IMODE(found.st_mode) & 0o077:
            msg = f"{path} is not a directory of user {account.owner} alone"
            raise ConfigError(msg, hint="remove it, or set PGPROG_HOME to a shorter path") from None
    account.own(path)
