"""Finds due tasks and claims them for free places."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.engine.passing import Passing
from pgprog.engine.places import STUCK_SECONDS
from pgprog.errors import LeaseLost, StoreUnavailable
from pgprog.store.faults import OUTLIVED

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.engine.holdings import Holdings
    from pgprog.engine.lease import Lease
    from pgprog.engine.runner import Runner
    from pgprog.engine.settings import Settings
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claims, Position

log = logs.get(__name__)

_MOST = 400
# More than a worker holds of any namespace.
_ALL = 1 << 30
# While several namespaces have steps: those of another may come with the claim, and wait for it.
_MOST_SHARED = 100
_MOST_OF_FEW = 16
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
# More is due but locked elsewhere: for some milliseconds, or as long as a stranger likes.
_FIRST_AGAIN_SECONDS = 0.002
_LONGEST_AGAIN_SECONDS = 0.05


class Scanner:
    """Claims when places are free and something is due, and sleeps on a reason otherwise.

    Claims no more than can start by the time the claim is answered; where steps take longer than
    they did, the rest is given back.  *has_backlog* says that the last claim left due tasks behind;
    *answers* counts the claims that the database answered, the last one at *answered_at*,
    monotonic.  While a neighbour's backlog keeps it busy, what it is told of is claimed beside it,
    for namespaces of which few steps are held.
    """

    def __init__(
        self,
        store: EngineStore,
        *,
        lease: Lease,
        holdings: Holdings,
        runner: Runner,
        settings: Settings,
        poll_every: timedelta,
    ) -> None:
        self.has_backlog = False
        self.answers = 0
        self.answered_at = time.monotonic()
        self._lease = lease
        self._store = store
        self._holdings = holdings
        self._runner = runner
        self._settings = settings
        self._poll_seconds = poll_every.total_seconds()
        self._part = store.metrics.parts.watch("scanner")
        self._awake = asyncio.Event()
        self._told = asyncio.Event()
        self._freed = asyncio.Event()
        self._passing = Passing(
            store,
            holdings=holdings,
            poll_seconds=self._poll_seconds,
            on_found=self._awake.set,
        )
        self._is_stopping = False
        self._sleeps_until = 0.0
        self._due_at = math.inf
        self._again_seconds = _FIRST_AGAIN_SECONDS

    def wake(self) -> None:
        """Look again now: something was made due."""
        self._awake.set()
        self._told.set()
        self._passing.wake()

    def go_back(self) -> None:
        """Look again now, at everything: some was handed back, which waits before the rest."""
        self._passing.go_back()
        self.wake()

    def due_in(self, seconds: float) -> None:
        """Look again when something comes due, if nothing else wakes the scanner before."""
        due_at = time.monotonic() + max(0.0, seconds)
        if due_at >= self._due_at:
            return  # the claim at the earlier time tells of the later one
        # Kept as well: a claim in flight may have looked too early, and its answer says to sleep.
        self._due_at = due_at
        if due_at < self._sleeps_until:
            asyncio.get_running_loop().call_later(max(0.0, seconds), self._awake.set)

    def freed(self) -> None:
        """Look whether there is room, if the lack of it is what the scanner waits for."""
        self._freed.set()
        self._passing.wake()

    def stop(self) -> None:
        """Claim no more; `run` returns after the claim in flight."""
        self._is_stopping = True
        self._passing.stop()
        self.wake()
        self.freed()

    async def run(self) -> None:
        """Claim until `stop`."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._run())
            loops.create_task(self._run_beside())
            loops.create_task(self._passing.run())

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._is_stopping:
            await self._lease.wait()
            self._freed.clear()
            most = _MOST_SHARED if self._holdings.is_shared else _MOST
            room = min(self._runner.room, most)
            if not room:
                await self._until_freed()
                continue
            self._awake.clear()
            try:
                wait_seconds = await self._claim(room)
            except LeaseLost:
                self._answered()
                self._lease.renew_now()
                await asyncio.sleep(pause)
            except OUTLIVED as e:
                if not isinstance(e, StoreUnavailable):
                    self._answered()
                log.warning("claim_failed", detail=str(e))
                self._lease.renew_now()
                self._part.failed(f"nothing can be claimed: {e}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._answered()
                pause = _FIRST_PAUSE_SECONDS
                self._part.succeeded()
                await self._sleep(wait_seconds)
        self._runner.give_back_waiting()

    async def _until_freed(self) -> None:
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await self._freed.wait()
        except TimeoutError:
            self._runner.give_back_waiting()

    @property
    def may_rest(self) -> bool:
        """Whether there is no reason to claim."""
        return self._is_stopping or not self._lease.is_held or not self._runner.room

    def _answered(self) -> None:
        self.answers += 1
        self.answered_at = time.monotonic()

    async def _claim(self, room: int) -> float:
        """Claim, start what came, and return how long there is nothing to do."""
        if self._due_at <= time.monotonic():
            self._due_at = math.inf
        since = self._passing.since
        claims = await self._take(room, since=since)
        self._passing.learn(claims, since=since, asked=room)
        self.has_backlog = claims.wait_seconds == 0
        if claims.tasks or not self.has_backlog:
            self._again_seconds = _FIRST_AGAIN_SECONDS
            return min(claims.wait_seconds, self._poll_seconds)
        self._again_seconds = min(2 * self._again_seconds, _LONGEST_AGAIN_SECONDS)
        return self._again_seconds

    async def _run_beside(self) -> None:
        """Claim on a lane of its own for those of whom few are held, when something was made due.

        Only to be sooner: the other loop finds everything, polls, and says what is wrong.  Two at
        once may claim what one place is free for; then one waits for the next.
        """
        while not self._is_stopping:
            await self._told.wait()
            self._told.clear()
            await self._lease.wait()
            room = self._room_beside()
            if not room:
                continue
            try:
                claims = await self._take(room, most=self._holdings.few)
            except (LeaseLost, *OUTLIVED):
                self._lease.renew_now()  # which finds what a lost answer may have brought
                await asyncio.sleep(_FIRST_PAUSE_SECONDS)
            else:
                if len(claims.tasks) == room:
                    self._told.set()

    def _room_beside(self) -> int:
        if self._is_stopping or not self._holdings.few:
            return 0
        return min(self._runner.turns, _MOST_OF_FEW)

    async def _take(
        self, room: int, *, most: int | None = None, since: Position | None = None
    ) -> Claims:
        worker_id, held = self._lease.worker_id, self._holdings.by_namespace
        if full := self._runner.full:
            held, most = {**held, **dict.fromkeys(full, _ALL)}, most or _ALL
        with self._holdings.trip():
            drops = self._holdings.drops
            claims = await self._store.claim(worker_id, room, held=held, most=most, since=since)
            await self._settings.follow(claims.settings_version)
            for claimed in claims.tasks:
                self._runner.take(self._holdings.add(claimed, since=drops))
        return claims

    async def _sleep(self, seconds: float) -> None:
        now = time.monotonic()
        if self._runner.waiting:
            seconds = min(seconds, STUCK_SECONDS)
        seconds = min(seconds, self._due_at - now)
        if seconds <= 0 or self._awake.is_set():
            return
        self._sleeps_until = now + seconds
        timer = asyncio.get_running_loop().call_later(seconds, self._awake.set)
        await self._awake.wait()
        timer.cancel()
        self._sleeps_until = 0.0
