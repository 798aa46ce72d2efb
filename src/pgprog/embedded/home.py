"""Where pgprog keeps what outlives its programs on a developer's machine."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a shell makes something else of between double quotes: there pg_ctl and initdb put paths.
_NOT_LITERAL = re.compile(r'["`\n]|\\[\\$]|\$[\w({@*#?$!-]')


def find_home(environ: Mapping[str, str]) -> Path:
    """Return pgprog's own directory, which need not exist yet.

    It is $PGPROG_HOME; else /var/lib/pgprog for root and pgprog under $XDG_DATA_HOME or
    ~/.local/share for others; else, where that cannot be written, /var/tmp/pgprog-UID.
    """
    if chosen := environ.get("PGPROG_HOME"):
        return Path(chosen).resolve()
    usual = Path("/var/lib/pgprog") if os.geteuid() == 0 else _data_home(environ)
    if usual is not None and _may_write(usual):
        return usual.resolve()
    return Path(f"/var/tmp/pgprog-{os.geteuid()}")  # noqa: S108 - make_home looks whose it is


def make_home(path: Path) -> None:
    """Make the directory, which others may pass through but not read; an old one stays as it is.

    Raises:
        ConfigError: It cannot be made, belongs to somebody else, or has a name that PostgreSQL's
            programs, which go through a shell, would not find.
    """
    if _NOT_LITERAL.search(str(path)):
        msg = f"no server can lie in {str(path)!r}: pg_ctl has a shell read the path"
        raise ConfigError(msg, hint='set PGPROG_HOME to a path without " $ ` \\ and line ends')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o711)
        path.chmod(0o711)  # whatever the umask: root's server passes through as another account
    except FileExistsError:
        if not _is_ours(path):
            msg = f"{path} is not a directory of user {os.geteuid()}"
            raise ConfigError(msg, hint="set PGPROG_HOME to a directory of your own") from None
    except OSError as e:
        msg = f"cannot make {path}: {e.strerror}"
        raise ConfigError(msg, hint="set PGPROG_HOME to a directory of your own") from e


def _data_home(environ: Mapping[str, str]) -> Path | None:
    """Return the user's directory for data, None for a user without a home."""
    if chosen := environ.get("XDG_DATA_HOME"):
        return Path(chosen) / "pgprog"
    try:
        return Path.home() / ".local" / "share" / "pgprog"
    except RuntimeError:  # no HOME, and no entry in the list of users
        return None


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except NotADirectoryError:  # a file stands on the way
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in {os.geteuid(), 0}


def _may_write(path: Path) -> bool:
    try:
        nearest = next(p for p in (path, *path.parents) if p.exists())
    except PermissionError:  # it lies behind a directory that is closed to us
        return False
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
