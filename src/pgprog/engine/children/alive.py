"""How long a worker's child processes may run a step: a page of memory that they share with it."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from pgprog.engine.children import wire

if TYPE_CHECKING:
    from typing import BinaryIO

_UNTIL = struct.Struct("=d")


class Alive:
    """The end of the worker's lease by the monotonic clock, which all processes share.

    A word on the socket would wait for the loop of a child, which its handler may hold up.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    @classmethod
    def make(cls) -> Alive:
        """Return a new one, in a file without a name.

        In memory, where the system has that: a page that a full disk has no room for is a SIGBUS to
        who writes to it.
        """
        if hasattr(os, "memfd_create"):
            file: BinaryIO = os.fdopen(os.memfd_create("pgprog alive"), "r+b", buffering=0)
        else:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed by `close`
        file.write(bytes(mmap.PAGESIZE))
        return cls(file)

    @classmethod
    def of(cls, descriptor: int) -> Alive:
        """Return that of the worker which started this child."""
        return cls(os.fdopen(descriptor, "r+b", buffering=0))

    @property
    def descriptor(self) -> int:
        """What a child gets."""
        return self._file.fileno()

    @property
    def until(self) -> float:
        """When the steps in children have to be over, monotonic."""
        [until] = _UNTIL.unpack_from(self._page)
        return float(until)

    @until.setter
    def until(self, until: float) -> None:
        _UNTIL.pack_into(self._page, 0, until)

    def close(self) -> None:
        """Forget it; children keep theirs."""
        self._page.close()
        self._file.close()


class Watch:
    """A thread of a child that ends it when its worker stands still for longer than its lease.

    Others run the step by then.  Its last word is that it was interrupted, which is no crash.  A
    handler that lets no other thread run is not ended before its worker runs again.
    """

    def __init__(self, alive: Alive, connection: socket.socket) -> None:
        self._alive = alive
        self._connection = connection
        self._changed = threading.Condition()
        self._runs = False
        threading.Thread(target=self._watch, name="pgprog lease watch", daemon=True).start()

    def begin(self) -> None:
        """Watch from here: a handler is called."""
        with self._changed:
            self._runs = True
            self._changed.notify()

    def over(self) -> None:
        """Leave it at that: the handler has ended."""
        with self._changed:
            self._runs = False

    def _watch(self) -> None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._runs)
                left = self._alive.until - time.monotonic()
                if left <= 0:
                    self._end()
                self._changed.wait(left)

    def _end(self) -> None:
        try:
            self._connection.send(wire.pack(wire.Ended(None)), socket.MSG_DONTWAIT)
        finally:
            os.killpg(0, signal.SIGKILL)
