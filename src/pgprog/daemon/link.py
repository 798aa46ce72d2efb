"""The line between a supervisor and one of its workers: a pair of sockets.

Down go the configuration, once, and orders; up goes which incarnation the worker is.  The end of
the stream is the death of the other: a worker whose supervisor is gone stops as if it was told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pickle
import select
import socket
import struct
import threading
import time
from enum import Enum
from typing import TYPE_CHECKING

from pgprog import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from pgprog.config import Config
    from pgprog.engine import Status

log = logs.get(__name__)

# What a worker may take beyond its stop_timeout: steps that clean up, the way to the database.
MARGIN_SECONDS = 10.0
# So often a worker says that it makes progress.
ALIVE_SECONDS = 1.0

_LENGTH = struct.Struct("!I")
_MOST_BYTES = 1 << 16
_RELOAD = b"r"


class Order(Enum):
    """What a supervisor tells a worker, in one byte."""

    STOP = b"s"
    STOP_AT_ONCE = b"a"


def reload_of(config: Config) -> bytes:
    """Return the order to take *config* over: the only one that is longer than a byte."""
    return _RELOAD + packed(config)


def send_config(line: socket.socket, config: Config, *, view: socket.socket) -> None:
    """Send what `Link.read_config` reads, with the worker's end of *view*."""
    data = packed(config)
    sent = socket.send_fds(line, [data], [view.fileno()])
    line.sendall(data[sent:])


def packed(config: Config) -> bytes:
    """Return a configuration as `Link.read_config` reads it."""
    pickled = pickle.dumps(config)
    return _LENGTH.pack(len(pickled)) + pickled


class Link:
    """The worker's end, by the number of the file that it was started with.

    *view* is the line by which the supervisor asks how the worker is, there after `read_config`.
    """

    def __init__(self, fd: int) -> None:
        self.view: socket.socket | None = None
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)

    def read_config(self) -> Config:
        """Return the configuration that the supervisor has read and checked.

        Raises:
            EOFError: The supervisor is gone.
        """
        begin, views, _, _ = socket.recv_fds(self._socket, _LENGTH.size, 1)
        if views:
            self.view = socket.socket(fileno=views[0])
            self.view.set_inheritable(False)
        [length] = _LENGTH.unpack(begin + self._read(_LENGTH.size - len(begin)))
        return _unpickled(self._read(length))

    # ---- A supervisor is a manager of its workers ----

    @property
    def every(self) -> float:
        """How often it wants to hear that the worker makes progress."""
        return ALIVE_SECONDS

    def ready(self, status: Status) -> None:
        """Say that the worker has started."""
        self._tell("ready")
        self.alive(status)

    def alive(self, status: Status) -> None:
        """Say that it makes progress, and what it does."""
        self._tell("alive " + json.dumps(dataclasses.asdict(status)))

    def troubled(self, trouble: str) -> None:
        """Leave that to the log: a supervisor sees that nothing is done."""

    def reloading(self) -> None:
        """Say nothing: it is the supervisor that says so."""

    def reloaded(self) -> None:
        """Say that the configuration that came last is obeyed, or could not be."""
        self._tell("reloaded")

    def stopping(self, within: timedelta) -> None:
        """Say nothing: it is the supervisor that says so."""

    # ---- What else is said ----

    def tell_worker(self, worker_id: int) -> None:
        """Say which incarnation the worker is from here on; it has claimed nothing yet."""
        self._tell(f"worker {worker_id}")

    def tell_full(self) -> None:
        """Ask to be stopped and started again, when it is this worker's turn."""
        self._tell("full")

    def hear(self, obey: Callable[[Order], None], *, take: Callable[[Config], None]) -> None:
        """Call *obey* in the running loop with each order, and to stop when nobody is left.

        *take* gets a configuration that the supervisor has read again.
        """
        self._socket.settimeout(0)
        loop = asyncio.get_running_loop()
        unread = b""

        def read() -> None:
            nonlocal unread
            try:
                said = self._socket.recv(_MOST_BYTES)
            except ConnectionResetError:  # it died with words of ours unread
                said = b""
            unread += said
            while unread and (found := _first(unread)):
                what, unread = found
                if isinstance(what, Order):
                    obey(what)
                else:
                    take(what)
            if not said:
                loop.remove_reader(self._socket)
                obey(Order.STOP)

        loop.add_reader(self._socket, read)

    def end_with_supervisor(self, *, within: timedelta) -> None:
        """End the program so long after the death of the supervisor, if it did not end by itself.

        A loop that hangs hears of no death, and nobody else would end it.
        """
        threading.Thread(target=self._outlive, args=(within.total_seconds(),), daemon=True).start()

    def _outlive(self, seconds: float) -> None:
        gone = select.poll()
        gone.register(self._socket, 0)  # that the other end is closed is told unasked
        gone.poll()
        time.sleep(seconds)
        log.error("worker_left_alone")
        os._exit(1)

    def _tell(self, word: str) -> None:
        with contextlib.suppress(OSError):  # nobody is there: the end of the stream says so too
            self._socket.sendall(f"{word}\n".encode())

    def _read(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            part = self._socket.recv(count - len(read))
            if not part:
                msg = "the supervisor is gone"
                raise EOFError(msg)
            read += part
        return read


def _first(said: bytes) -> tuple[Order | Config, bytes] | None:
    """Return the first thing said and the rest, None while it is not complete."""
    if said[:1] != _RELOAD:
        return Order(said[:1]), said[1:]
    begin = len(_RELOAD) + _LENGTH.size
    if len(said) < begin:
        return None
    [length] = _LENGTH.unpack(said[len(_RELOAD) : begin])
    if len(said) < begin + length:
        return None
    return _unpickled(said[begin : begin + length]), said[begin + length :]


def _unpickled(pickled: bytes) -> Config:
    config: Config = pickle.loads(pickled)  # noqa: S301 - from the program that started us
    return config
