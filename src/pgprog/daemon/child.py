"""A worker as its supervisor sees it: a program, and the line to it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.daemon.link import reload_of, send_config
from pgprog.engine import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.config import Config
    from pgprog.daemon.link import Order

log = logs.get(__name__)

_SEND_SECONDS = 10.0
_MOST_BYTES = 4096


class Child:
    """A worker of this configuration, started by *command* with the number of its file at the end.

    *worker_id* is its last incarnation, None before the first; *is_ready* says that it has started;
    *started_at* is monotonic.  At a stop it lets its steps have *stop_timeout*.  It made progress
    at *alive_at*, monotonic, and does what *status* says; *reloads* counts the configurations that
    it was given and has not taken over yet.
    *is_full* says that it holds too much memory, *is_recycled* that it was stopped for that.
    *view* is the line by which it is asked how it is.
    """

    def __init__(self, command: Sequence[str], config: Config) -> None:
        self.worker_id: int | None = None
        self.is_ready = False
        self.started_at = self.alive_at = time.monotonic()
        self.stop_timeout = config.worker.stop_timeout
        self.status = Status()
        self.is_full = self.is_recycled = False
        self.reloads = 0
        self._is_aborted = False
        self._unread = b""
        self.view, their_view = socket.socketpair()
        self.line, theirs = socket.socketpair()
        with theirs:
            # A group of its own: Ctrl-C is for the supervisor, who passes it on.
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        try:
            self.line.settimeout(_SEND_SECONDS)
            with their_view:
                send_config(self.line, config, view=their_view)
        except OSError:  # it ended already, or hangs
            self.kill()
        self.line.settimeout(0)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def hear(self) -> bool:
        """Take what the worker says; return whether it may say more."""
        try:
            while data := self.line.recv(_MOST_BYTES):
                self._unread += data
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            *words, self._unread = self._unread.split(b"\n")
            for word in words:
                self._take(word.decode())
        return False

    def order(self, order: Order) -> None:
        """Tell the worker what to do; one that cannot hear gets a signal."""
        try:
            self.line.sendall(order.value)
        except OSError:
            self._process.terminate()

    def reload(self, config: Config) -> None:
        """Have the worker take over a configuration that was read again."""
        self.line.settimeout(_SEND_SECONDS)
        try:
            self.line.sendall(reload_of(config))
            self.reloads += 1
        except OSError as e:  # it hangs, or ends: then the next one has it
            log.warning("reload_not_heard", pid=self.pid, detail=str(e))
            self.kill()  # half of an order is none
        self.line.settimeout(0)

    def abort(self) -> None:
        """End it so that it shows where it stands; at the second time as it stands."""
        self._process.send_signal(signal.SIGKILL if self._is_aborted else signal.SIGABRT)
        self._is_aborted = True

    def kill(self) -> None:
        """End it as it stands."""
        self._process.kill()

    def poll(self) -> int | None:
        """Return how it ended, a signal as a negative number; None while it lives."""
        code = self._process.poll()
        if code is not None:
            self.hear()  # what it said last
        return code

    def close(self) -> None:
        """Close the line."""
        with contextlib.suppress(OSError):
            self.line.close()

    def _take(self, word: str) -> None:
        match word.split(" ", 1):
            case ["ready"]:
                self.is_ready = True
            case ["alive", status]:
                self.alive_at = time.monotonic()
                self.status = Status(**json.loads(status))
            case ["full"]:
                self.is_full = True
            case ["reloaded"]:
                self.reloads -= 1
            case ["worker", number]:
                self.worker_id = int(number)
            case _:  # half a line, of one that was killed
                pass
