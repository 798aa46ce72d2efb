"""One run: a server, programs, faults, and at the end its evidence."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from tests.chaos import evidence
from tests.chaos.faults import PACK, Faults, Figures
from tests.chaos.fleet import Fleet

from pgprog import migrate
from pgprog.embedded import DevelopmentServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tests.chaos.faults import Restart

_DRAIN_SECONDS = 120.0
_LEFT = """
    select (select count(*) from pgprog_data.queue)
      + (select count(*) from pgprog_data.timers where status <> 's')"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how much, and with which faults; *seconds* is the time of the load.

    With *packs* the load ends when so many packs of faults are dealt, so many *tasks* have ended,
    and *seconds* are over.
    """

    seconds: float
    tasks: int = 0
    seed: int
    rate: float = 36.0
    workers: int = 3
    clients: int = 4
    pack: Sequence[str] = PACK
    pause: float = 2.6
    packs: int | None = None


@dataclass(frozen=True)
class Outcome:
    figures: Figures
    seconds: float
    drained_in: float
    deaths: int


async def run(place: Path, dsn: str, plan: Plan, *, restart: Restart | None = None) -> Outcome:
    """Run *plan* on a migrated database; the logs are in *place*/logs when it returns."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(evidence.TABLES)
    fleet = Fleet(place, dsn, seed=plan.seed, rate=plan.rate)
    faults = Faults(
        fleet, dsn=dsn, seed=plan.seed, restart=restart, pack=plan.pack, pause=plan.pause
    )
    try:
        await fleet.open(workers=plan.workers, clients=plan.clients)
        workers = [seat for seat in fleet.seats if seat.is_worker]
        clients = [seat for seat in fleet.seats if not seat.is_worker]
        fleet.start(workers)
        if not await _is_none(dsn, "select count(*) = 0 from pgprog_data.namespaces", seconds=60):
            msg = f"no worker has come to life in a minute: see {fleet.logs}"
            raise RuntimeError(msg)
        fleet.start(clients)
        began = time.monotonic()
        async with _replacing(fleet):
            await _load(faults, plan, dsn=dsn, began=began)
        ended = time.monotonic()
        await fleet.stop(clients)
        await _is_none(dsn, _LEFT, seconds=_DRAIN_SECONDS)
        drained = time.monotonic()
        await fleet.stop(workers)
    finally:
        await fleet.close()
    deaths = sum(seat.deaths for seat in fleet.seats)
    return Outcome(faults.figures, ended - began, drained - ended, deaths)


@asynccontextmanager
async def _replacing(fleet: Fleet) -> AsyncIterator[None]:
    """Replace in the block whoever dies; after it the dead stay dead."""
    replacing = asyncio.create_task(fleet.replace())
    try:
        yield
    finally:
        replacing.cancel()
        with suppress(asyncio.CancelledError):
            await replacing


async def _load(faults: Faults, plan: Plan, *, dsn: str, began: float) -> None:
    if plan.packs is None:
        await faults.run(until=began + plan.seconds)
        return
    for _ in range(plan.packs):
        await faults.deal()
    await faults.deal_missed()
    await asyncio.sleep(max(0.0, began + plan.seconds - time.monotonic()))
    lacks = f"select greatest(0, {plan.tasks} - count(*)) from pgprog_data.tasks"
    await _is_none(dsn, lacks, seconds=_DRAIN_SECONDS)


async def _is_none(dsn: str, statement: str, *, seconds: float) -> bool:
    """Wait until a count is zero; return False when it takes too long."""
    deadline = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < deadline:
            [[count]] = connection.execute(statement.encode()).fetchall()
            if not int(count):
                return True
            await asyncio.sleep(0.05)
    return False


class Server:
    """A server of the run's own, which can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self._server = DevelopmentServer(home)
        self.dsn = self._server.dsn

    def start(self) -> None:
        self._server.start()
        migrate(self.dsn)

    def restart(self) -> None:
        """Stop it `immediate`: as a crash, for those connected."""
        pid = self._server.status().pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            while self._server.status().pid == pid:
                time.sleep(0.01)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@contextmanager
def private_server(place: Path) -> Iterator[Server]:
    server = Server(place / "home")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def workplace() -> Iterator[Path]:
    """A directory that every account can reach; it is kept when the block raises."""
    place = Path(tempfile.mkdtemp(prefix="pgprog-chaos-", dir="/tmp"))
    place.chmod(0o711)
    try:
        yield place
    except BaseException:
        print(f"data and logs are kept in {place}", file=sys.stderr)
        raise
    shutil.rmtree(place, ignore_errors=True)
