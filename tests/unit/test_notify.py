"""What is told to systemd, by its protocol."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pgprog.daemon.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        yield opened


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_words_go_to_the_socket_that_the_environment_names(
    listener: socket.socket, tmp_path: Path, kind: str
) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@pgprog-test-{os.getpid()}"
    listener.bind(name.replace("@", "\0"))
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("idle")
    notifier.alive("busy")
    notifier.stopping(timedelta(seconds=30))
    said = [listener.recv(4096).decode().split("\n") for _ in range(3)]

    assert said == [
        ["READY=1", "STATUS=idle"],
        ["WATCHDOG=1", "STATUS=busy"],
        ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000", "STATUS=stopping, steps may take 30 s"],
    ]


def test_a_reload_says_by_the_monotonic_clock_when_it_began(
    listener: socket.socket, tmp_path: Path
) -> None:
    name = str(tmp_path / "notify")
    listener.bind(name)
    notifier = Notifier({"NOTIFY_SOCKET": name})
    before = time.monotonic()
    notifier.reloading()
    notifier.reloaded()
    [first, clock] = listener.recv(4096).decode().split("\n")
    said = int(clock.removeprefix("MONOTONIC_USEC=")) / 1_000_000
    then = listener.recv(4096)

    assert first == "RELOADING=1"
    assert before - 0.001 <= said <= time.monotonic()
    assert then == b"READY=1"


@pytest.mark.parametrize(
    ("watchdog", "seconds", "every"),
    [
        ({}, None, 5.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0, 5.0),
        ({"WATCHDOG_USEC": "2000000"}, 2.0, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None, 5.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0, 1.0),
        ({"WATCHDOG_USEC": "soon"}, None, 5.0),
        ({"WATCHDOG_USEC": "0"}, None, 5.0),
    ],
)
def test_a_watchdog_is_fed_after_half_of_its_time_at_the_latest(
    watchdog: dict[str, str], seconds: float | None, every: float
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "/nowhere", **watchdog})

    assert (notifier.watchdog_seconds, notifier.every) == (seconds, every)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_a_manager_that_is_not_there_disturbs_nobody(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready("idle")

    assert notifier.watchdog_seconds is None
