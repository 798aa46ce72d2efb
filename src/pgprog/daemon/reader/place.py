"""The Unix socket of a shared reader: who may ask, and that there is one reader at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES: Final = 107  # what the address of a socket holds
_BACKLOG = 128


class Place:
    """A socket that listens at *path*, for whom *mode* lets, while no other has the lock.

    Its file has a number of its own for as long as it listens.
    """

    def __init__(self, path: Path, *, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._lock = _locked(path)
        try:
            _check_free(path)
            self.listener, self._made = _bound(path, mode=mode)
        except BaseException:
            os.close(self._lock)
            raise

    def is_found(self) -> bool:
        """Return whether who comes to the path finds this socket there."""
        return _made_at(self._path) == self._made

    def renew(self) -> None:
        """Listen at another socket, where this one was taken away.

        The lock may have been taken away with it, and another reader have one of the same name.

        Raises:
            ConfigError: As `listening`.
        """
        _check_directory(self._path)
        if not _is_at(_lock_of(self._path), self._lock):
            lock = _locked(self._path)
            os.close(self._lock)
            self._lock = lock
        _check_free(self._path)
        listener, self._made = _bound(self._path, mode=self._mode)
        self.listener.close()
        self.listener = listener

    def close(self) -> None:
        """Listen no more; what others have put there is left alone."""
        try:
            if self.is_found():
                self._path.unlink(missing_ok=True)
            self.listener.close()
        finally:
            os.close(self._lock)


@contextmanager
def listening(path: Path, *, mode: int) -> Iterator[Place]:
    """Listen at *path* for as long as the block lasts, for whom *mode* lets.

    A lock on `path.lock` says that a reader lives; whoever dies, lets go of it.  The socket that a
    dead one left is replaced in one step, when those who find the new one may already ask.

    Raises:
        ConfigError: Nobody can listen there, or another reader does, or anybody could in its place.
    """
    _check_directory(path)
    with contextlib.closing(Place(path, mode=mode)) as place:
        yield place


def is_heard(path: str) -> bool:
    """Return whether anybody listens at *path*, or might: that we may not ask is no sign of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _check_directory(path: Path) -> None:
    if len(os.fsencode(path)) > _MOST_BYTES - len(".new"):
        msg = f"reader.socket: {path} is too long for a socket"
        raise ConfigError(msg, hint="choose a shorter one, such as /run/pgprog/reader.sock")
    directory = path.absolute().parent
    try:
        found = directory.stat()
    except OSError as e:
        msg = f"reader.socket: {directory}: {e.strerror}"
        raise ConfigError(msg, hint=f"make it: install -d -m 0750 {directory}") from e
    if found.st_mode & stat.S_IWOTH:
        msg = f"reader.socket: everybody may write in {directory}, and listen in our place"
        raise ConfigError(msg, hint="choose a directory of its own, such as /run/pgprog")


def _lock_of(path: Path) -> Path:
    return Path(f"{path}.lock")


def _locked(path: Path) -> int:
    """Return the file that is locked, at the name of the lock: it may be taken away meanwhile."""
    while True:
        try:
            lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            msg = f"reader.socket: {_lock_of(path)}: {e.strerror}"
            raise ConfigError(msg) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(lock)
            raise _taken(path) from e
        if _is_at(_lock_of(path), lock):
            return lock
        os.close(lock)


def _is_at(path: Path, file: int) -> bool:
    """Return whether an open file is the one that is found at a path."""
    ours = os.fstat(file)
    return _made_at(path) == (ours.st_dev, ours.st_ino)


def _check_free(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        msg = f"reader.socket: {path} is there, and is no socket"
        raise ConfigError(msg, hint="move it away, or choose another path")
    if is_heard(str(path)):
        raise _taken(path)


def _taken(path: Path) -> ConfigError:
    msg = f"reader.socket: a reader listens at {path} already"
    return ConfigError(msg, hint="one serves all programs of the machine; stop it first")


def _made_at(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at a path from every other that there is."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bound(path: Path, *, mode: int) -> tuple[socket.socket, tuple[int, int] | None]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listener, path, mode=mode)
    except BaseException:
        listener.close()
        raise
    return listener, _made_at(path)


def _bind(listener: socket.socket, path: Path, *, mode: int) -> None:
    new = Path(f"{path}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    before = os.umask(0o777)  # nobody may ask until it has its mode
    try:
        listener.bind(str(new))
    except OSError as e:
        msg = f"reader.socket: nothing can listen at {path}: {e.strerror}"
        raise ConfigError(msg) from e
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    listener.settimeout(0.0)
    new.chmod(mode)
    new.replace(path)
