"""The programs of a run: workers and clients, each with a link of its own; who dies is replaced."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.journal import Journal, Tail
from tests.chaos.relay import Link

if TYPE_CHECKING:
    from tests.chaos.journal import Line

ROOT = Path(__file__).parents[2]
_CONFIG = """
dsn: "{dsn}"
worker: {{concurrency: 20, poll_every: 200ms, lease: 2s, heartbeat_every: 400ms, stop_timeout: 5s}}
namespaces:
  chaos: {{handlers: "tests.chaos.handlers:chaos"}}
"""
_NUMBERS = itertools.count(1)
# Claims slower than this pass by what has ended: as in production, most, or all.
_SLOW_SECONDS = ("", "0.0005", "-1")
_GRACE_SECONDS = 120


@dataclass(eq=False)
class Seat:
    """A place for a program that is started again whenever it has died.

    *is_hurt* while a fault is at work on it that takes its time.
    """

    name: str
    link: Link
    makes_steps: bool
    is_worker: bool
    process: subprocess.Popen[bytes] | None = None
    is_hurt: bool = False
    is_noted: bool = False
    deaths: int = 0  # by itself: a start without a database
    _tail: Tail | None = None
    _open: dict[str, Line] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def watch(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._tail, self._open, self.is_noted = process, Tail(log), {}, False

    def open_runs(self) -> dict[str, Line]:
        """Return the runs of handlers that have begun and not ended, by the log until now."""
        for line in self._tail.lines() if self._tail is not None else ():
            if line["what"] == "began":
                self._open[line["run"]] = line
            else:
                self._open.pop(line["run"], None)
        return dict(self._open)


class Fleet:
    """Starts and replaces programs; *place* gets their logs, *seed* their randomness."""

    def __init__(self, place: Path, dsn: str, *, seed: int, rate: float) -> None:
        self.logs = place / "logs"
        self.logs.mkdir()
        self.seats: list[Seat] = []
        self._place = place
        self._dsn = dsn
        self._seed = seed
        self._rate = rate
        self._deaths = Journal(self.logs / "deaths.log")

    async def open(self, *, workers: int, clients: int) -> None:
        """Make the seats: *clients* has one engine, which is a client and a worker in one."""
        for number in range(workers):
            await self._add(f"worker{number}", makes_steps=True, is_worker=True)
        for number in range(clients):
            await self._add(f"client{number}", makes_steps=number == 0, is_worker=False)

    def start(self, seats: list[Seat]) -> None:
        for seat in seats:
            self._start(seat)

    async def replace(self) -> None:
        """Start again whoever died, until cancelled."""
        while True:
            for seat in self.seats:
                if not seat.is_alive():
                    seat.deaths += not seat.is_noted
                    self._note(seat)
                    self._start(seat)
            await asyncio.sleep(0.05)

    def kill(self, seat: Seat) -> list[Line]:
        """Kill -9; return the runs that it died in."""
        if seat.process is None:
            return []
        seat.process.kill()
        seat.process.wait()
        self._note(seat)
        return [*seat.open_runs().values()]

    async def stop(self, seats: list[Seat]) -> None:
        """Stop in order; clients first hear the ends that they wait for."""
        for seat in seats:
            if seat.is_alive():
                os.kill(seat.pid, signal.SIGTERM)
        for seat in seats:
            if seat.process is not None:
                try:
                    await asyncio.to_thread(seat.process.wait, _GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    self.kill(seat)
                self._note(seat)

    def kill_all(self) -> None:
        for seat in self.seats:
            if seat.is_alive():
                os.kill(seat.pid, signal.SIGCONT)
                self.kill(seat)

    async def close(self) -> None:
        self.kill_all()
        for seat in self.seats:
            await seat.link.close()

    async def _add(self, name: str, *, makes_steps: bool, is_worker: bool) -> None:
        link = Link(self._place / name, self._dsn)
        await link.open()
        self.seats.append(Seat(name, link, makes_steps, is_worker))

    def _note(self, seat: Seat) -> None:
        """Note a death once: nothing of that program runs any more."""
        if not seat.is_noted:
            self._deaths.write("died", pid=seat.pid, name=seat.name)
            seat.is_noted = True

    def _start(self, seat: Seat) -> None:
        number = next(_NUMBERS)
        name = f"{seat.name}.{number}"
        steps = self.logs / f"steps-{name}.log"
        slow = _SLOW_SECONDS[number % len(_SLOW_SECONDS)]
        if seat.is_worker:
            config = self._place / f"{seat.name}.yaml"
            config.write_text(_CONFIG.format(dsn=seat.link.dsn))
            argv = ["-m", "pgprog", "worker", "--config", str(config), "--log-format", "json"]
        else:
            argv = ["-m", "tests.chaos.client", seat.link.dsn, f"{self.logs}/client-{name}.log"]
            argv += [name, str(self._seed * 1000 + number), str(self._rate)]
            argv += ["engine"] if seat.makes_steps else []
        with (self.logs / f"{name}.stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=ROOT,
                env={**os.environ, "CHAOS_HANDLER_LOG": str(steps), "CHAOS_SLOW_SECONDS": slow},
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )
        seat.watch(process, steps)
