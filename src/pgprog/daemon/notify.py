"""What a worker tells systemd, or whoever else speaks its protocol (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Protocol

from pgprog import logs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from pgprog.engine import Status

log = logs.get(__name__)

_STATUS_SECONDS = 5.0
# What a worker, and a supervisor above it, may take beyond stop_timeout.
STOP_MARGIN_SECONDS = 15.0


class Manager(Protocol):
    """Who started a worker, and hears how it is, every *every* seconds."""

    @property
    def every(self) -> float:
        """How often it wants to hear that the worker makes progress."""
        ...

    def ready(self, status: Status) -> None:
        """Learn that the worker is registered, with its handlers loaded."""
        ...

    def alive(self, status: Status) -> None:
        """Learn that it makes progress."""
        ...

    def troubled(self, trouble: str) -> None:
        """Learn why it does nothing."""
        ...

    def reloading(self) -> None:
        """Learn that it reads its configuration again."""
        ...

    def reloaded(self) -> None:
        """Learn that it has; whatever came of that."""
        ...

    def stopping(self, within: timedelta) -> None:
        """Learn that it stops, and how long its steps may take."""
        ...


class Notifier:
    """Speaks to the service manager, if there is one that wants to hear of this program.

    *watchdog_seconds* is how long it waits for the next sign of progress, None if for ever.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds(environ) if address else None

    @property
    def every(self) -> float:
        """Half of what it waits for, as it advises, and some seconds at most."""
        return min(_STATUS_SECONDS, (self.watchdog_seconds or 2 * _STATUS_SECONDS) / 2)

    def ready(self, status: object) -> None:
        """Say that the program has started."""
        self._say("READY=1", f"STATUS={status}")

    def alive(self, status: object) -> None:
        """Say that it makes progress."""
        self._say("WATCHDOG=1", f"STATUS={status}")

    def troubled(self, trouble: str) -> None:
        """Say what keeps it from that."""
        self._say(f"STATUS={trouble}")

    def reloading(self) -> None:
        """Say that it reads its configuration again."""
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={micros}")

    def reloaded(self) -> None:
        """Say that it has."""
        self._say("READY=1")

    def stopping(self, within: timedelta) -> None:
        """Say that it stops, and ask for the time that this may take, whatever its unit says."""
        seconds = within.total_seconds() + STOP_MARGIN_SECONDS
        self._say(
            "STOPPING=1",
            f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}",
            f"STATUS=stopping, steps may take {within.total_seconds():.0f} s",
        )

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
                said.settimeout(0)
                said.sendto("\n".join(lines).encode(), self._address)
        except OSError as e:  # a manager that is gone or busy: the next word comes soon
            log.debug("manager_not_told", detail=str(e))


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how long the manager waits for this program; it may be meant for another one."""
    try:
        micros = int(environ.get("WATCHDOG_USEC", "0"))
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return micros / 1_000_000 if micros > 0 and pid == os.getpid() else None
