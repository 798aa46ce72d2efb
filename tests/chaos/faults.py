"""The faults: what is done to programs, links and the server, and that it was really done."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import psycopg
from tests.chaos.relay import ANSWERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.chaos.fleet import Fleet, Seat

# What a pack of faults has of each kind: shuffled and dealt again and again.
PACK = (
    *["kill a worker"] * 11,
    *["stop a worker"] * 2,
    *["lose an answer"] * 3,
    *["hold a snapshot"] * 3,
    "kill a client",
    "end a session",
    "end a session",
    "stall a worker",
    "stall a client",
    "cut a link",
    "restart PostgreSQL",
)
_VICTIMS = """
    select pg_terminate_backend(pid) from pg_stat_activity where pid = (
      select pid from pg_stat_activity
      where datname = current_database() and application_name like 'pgprog%'
      order by random() limit 1)"""
# Workers have looked for what their claims pass by.
_LOOKED = """
    select count(*) from pg_stat_activity
    where datname = current_database() and query like '%%first_rank%%'
      and query_start > %s::timestamptz"""
_PATIENCE = 6.0
_STALL_SECONDS = 4.0  # a lease of 2 s, and what a collector takes to see its end
_LONGEST_STOP = 8.0
_LONGEST_HOLD = 12.0
_TRIES = 5


class Kill(NamedTuple):
    """A kill -9 inside these steps, by (task, attempt)."""

    mono: float
    steps: list[tuple[int, int]]


class Restart(Protocol):
    """Stops PostgreSQL `immediate` and starts it again."""

    def __call__(self) -> None: ...


@dataclass
class Figures:
    """What was done; a fault counts when it hit."""

    faults: Counter[str] = field(default_factory=Counter)
    kills: list[Kill] = field(default_factory=list)
    restarts: list[tuple[float, float]] = field(default_factory=list)


class Faults:
    """Does faults of *pack* to a fleet, in an order and with pauses that *seed* decides."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        dsn: str,
        seed: int,
        restart: Restart | None,
        pack: Sequence[str] = PACK,
        pause: float = 2.6,
    ) -> None:
        self.figures = Figures()
        self._fleet = fleet
        self._dsn = dsn
        self._random = random.Random(seed)
        self._restart = restart
        self._pack = pack
        self._pause = pause
        self._long: set[asyncio.Task[None]] = set()
        self._server_moves = asyncio.Lock()
        self._doing: dict[str, Callable[[], object]] = {}

    async def run(self, *, until: float) -> None:
        """Deal packs until that moment, monotonic; the last faults come to their ends."""
        while time.monotonic() < until:
            await self.deal(until=until)
        await self.settle()

    async def deal(self, *, until: float = float("inf")) -> None:
        """Deal one pack."""
        pack = [*self._pack]
        self._random.shuffle(pack)
        await self._deal(pack, until=until)

    async def deal_missed(self) -> None:
        """Deal again what has never hit, some times, until all kinds have."""
        for _ in range(_TRIES):
            await self.settle()
            hit = {kind.partition(":")[0] for kind in self.figures.faults}
            await self._deal(sorted({*self._pack}.difference(hit)))
        await self.settle()

    async def _deal(self, kinds: Sequence[str], *, until: float = float("inf")) -> None:
        for kind in kinds:
            pause = self._pause * self._random.uniform(0.3, 1.7)
            await asyncio.sleep(max(0.0, min(pause, until - time.monotonic())))
            if time.monotonic() >= until:
                return
            await self._do(kind)

    async def settle(self) -> None:
        """Return when nothing is held up any more."""
        if self._long:
            await asyncio.wait([*self._long])
        for seat in self._fleet.seats:
            seat.link.wanted.clear()

    async def _do(self, kind: str) -> None:
        match kind:
            case "kill a worker":
                await self._kill(is_worker=True)
            case "kill a client":
                await self._kill(is_worker=False)
            case "stop a worker":
                self._begin(self._stop())
            case "lose an answer":
                self._begin(self._lose())
            case "end a session":
                await self._end_session()
            case "stall a worker":
                self._begin(self._stall(is_worker=True))
            case "stall a client":
                self._begin(self._stall(is_worker=False))
            case "cut a link":
                self._begin(self._cut())
            case "hold a snapshot":
                self._begin(self._hold())
            case _:
                await self._restart_server()

    def _begin(self, fault: object) -> None:
        """Let a fault take its time beside the others."""
        task: asyncio.Task[None] = asyncio.ensure_future(fault)  # type: ignore[call-overload] # a coroutine of ours
        self._long.add(task)
        task.add_done_callback(self._long.discard)

    async def _kill(self, *, is_worker: bool) -> None:
        """Kill -9, a worker inside a step: the moment is chosen by the log of the handlers."""
        seat = await self._seat_in_step() if is_worker else self._a_seat(is_worker=False)
        if seat is None:
            return
        mono = time.monotonic()
        runs = self._fleet.kill(seat)
        self.figures.faults["kill a worker" if is_worker else "kill a client"] += 1
        if runs:
            steps = [(run["task"], run["attempt"]) for run in runs]
            self.figures.kills.append(Kill(mono, steps))

    async def _stop(self) -> None:
        """Stop a worker inside a step until it was collected; its ends come too late."""
        seat = await self._seat_in_step()
        if seat is None:
            return
        async with self._hurting(seat):
            pid = seat.pid
            os.kill(pid, signal.SIGSTOP)
            try:
                await self._wait_collected(pid)
            finally:
                os.kill(pid, signal.SIGCONT)
            self.figures.faults["stop a worker"] += 1

    async def _lose(self) -> None:
        """Lose the answer of one round trip that was committed."""
        kind = self._random.choice([*ANSWERS])
        match kind:
            case "start":  # an engine takes requests by itself
                seats = [s for s in self._fleet.seats if s.makes_steps and not s.is_worker]
            case "submit" | "application's commit":
                seats = [s for s in self._fleet.seats if not s.makes_steps]
            case _:
                seats = [s for s in self._fleet.seats if s.makes_steps]
        seat = self._random.choice(seats)
        before = seat.link.lost[kind]
        seat.link.wanted.add(kind)
        if await self._within(lambda: seat.link.lost[kind] > before):
            self.figures.faults[f"lose an answer: {kind}"] += 1

    async def _end_session(self) -> None:
        async with self._server_moves:
            ended = await asyncio.to_thread(self._fetch, _VICTIMS)
        self.figures.faults["end a session"] += ended

    async def _stall(self, *, is_worker: bool) -> None:
        """Let a link stand still; of a worker longer than its lease."""
        seat = self._a_seat(is_worker=is_worker)
        if seat is None:
            return
        async with self._hurting(seat):
            seat.link.stall()
            try:
                await asyncio.sleep(_STALL_SECONDS if is_worker else self._random.uniform(0.2, 2))
            finally:
                seat.link.go_on()
            self.figures.faults["stall a worker" if is_worker else "stall a client"] += 1

    async def _cut(self) -> None:
        seat = self._random.choice(self._fleet.seats)
        seat.link.is_cut = True
        seat.link.cut()
        try:
            await asyncio.sleep(self._random.uniform(0.1, 3))
        finally:
            seat.link.is_cut = False
        self.figures.faults["cut a link"] += 1

    async def _hold(self) -> None:
        """Hold a snapshot, for which all that ends is kept; a restart of PostgreSQL ends it, too.

        It hits where claims pass by what has ended.
        """
        seconds = self._random.uniform(2, _LONGEST_HOLD)
        try:
            async with self._server_moves:
                connection = await psycopg.AsyncConnection.connect(self._dsn)
            async with connection:
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                answered = await connection.execute("select now()::text")
                [[since]] = await answered.fetchall()
                await asyncio.sleep(seconds)
        except psycopg.OperationalError:
            return
        async with self._server_moves:
            looked = await asyncio.to_thread(self._fetch, _LOOKED, since)
        self.figures.faults["hold a snapshot"] += looked > 0

    async def _restart_server(self) -> None:
        if self._restart is None:
            return
        began = time.monotonic()
        async with self._server_moves:
            await asyncio.to_thread(self._restart)
        self.figures.restarts.append((began, time.monotonic()))
        self.figures.faults["restart PostgreSQL"] += 1

    # ---- Whom it hits ----

    @asynccontextmanager
    async def _hurting(self, seat: Seat) -> AsyncIterator[None]:
        seat.is_hurt = True
        try:
            yield
        finally:
            seat.is_hurt = False

    async def _seat_in_step(self) -> Seat | None:
        """Return a worker that is inside a step at this moment; one other lives and is whole."""
        found: list[Seat] = []

        def look() -> bool:
            whole = [s for s in self._fleet.seats if s.is_worker and not s.is_hurt and s.is_alive()]
            self._random.shuffle(whole)
            found[:] = [seat for seat in whole if seat.open_runs()] if len(whole) > 1 else []
            return bool(found)

        return found[0] if await self._within(look) else None

    def _a_seat(self, *, is_worker: bool) -> Seat | None:
        seats = [
            s
            for s in self._fleet.seats
            if s.is_worker == is_worker and not s.is_hurt and s.is_alive()
        ]
        return self._random.choice(seats) if len(seats) > 1 else None

    async def _within(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    async def _wait_collected(self, pid: int) -> None:
        """Return when a collector has ended the worker of this process, or it takes too long."""
        deadline = time.monotonic() + _LONGEST_STOP
        name = f"%:{pid}"
        look = "select count(*) from pgprog_data.workers where name like %s"
        while time.monotonic() < deadline:
            async with self._server_moves:
                if not await asyncio.to_thread(self._fetch, look, name):
                    return
            await asyncio.sleep(0.2)

    def _fetch(self, statement: str, *values: str) -> int:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            row = connection.execute(statement.encode(), values or None).fetchone()
            return int(row[0]) if row else 0
