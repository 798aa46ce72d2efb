"""The operating-system account that a server runs under, and what it owns."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An unprivileged account.

    *uid* and *gid* are None for the caller's own; set, they are what root changes to, since
    PostgreSQL refuses to run as root.
    """

    uid: int | None = None
    gid: int | None = None

    @property
    def extra_groups(self) -> list[int] | None:
        """The supplementary groups of a child process: none where root is dropped."""
        return None if self.uid is None else []

    @property
    def owner(self) -> int:
        """The user id that owns the server's files."""
        return os.geteuid() if self.uid is None else self.uid

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this account; both of its outputs are kept."""
        return subprocess.run(
            [str(arg) for arg in argv],
            check=False,
            cwd="/",  # the caller's directory may be closed to the account
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            user=self.uid,
            group=self.gid,
            extra_groups=self.extra_groups,
        )

    def own(self, path: Path) -> None:
        """Make *path* a directory of this account that nobody else can enter.

        Raises:
            ConfigError: It cannot be made.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.uid is not None and self.gid is not None:
                os.chown(path, self.uid, self.gid)
        except OSError as e:
            msg = f"cannot make the directory {path}: {e.strerror}"
            raise ConfigError(msg) from e


def find_account(names: Sequence[str] = ("postgres", "nobody")) -> Account:
    """Return the account to run a server under: the caller's own unless that is root.

    Root's servers run as $PGPROG_OS_USER, else as the first of *names* that exists.

    Raises:
        ConfigError: The caller is root and no such account exists.
    """
    if os.geteuid() != 0:
        return Account()
    if chosen := os.environ.get("PGPROG_OS_USER"):
        names = (chosen,)
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    msg = f"PostgreSQL does not run as root, and there is no account named {' or '.join(names)}"
    raise ConfigError(msg, hint="set PGPROG_OS_USER to the name of an ordinary account")


def server_environment() -> dict[str, str]:
    """Return the caller's environment without libpq's and the server's own PG* variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
