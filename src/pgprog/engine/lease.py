"""The lease of a worker: its incarnation, its renewal, and what happens when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from pgprog import logs
from pgprog.engine.heartbeat import Heartbeat
from pgprog.store import wakeups
from pgprog.store.faults import OUTLIVED

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import Any

    from pgprog.config import WorkerConfig
    from pgprog.engine.holdings import Held, Holdings
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.renewals import Renewals
    from pgprog.store.rows import Served

log = logs.get(__name__)

# The share of a lease after which a worker that could not renew gives its steps up.
_SAFE_SHARE = 0.8
_TICKS_A_LEASE = 40
_RETRY_SECONDS = 0.5
_END_SECONDS = 2.0
_TELL_SECONDS = 0.5


class Owner(Protocol):
    """The worker, as far as its lease concerns it."""

    def wake(self) -> None:
        """Look for due tasks now: some were handed back."""
        ...

    def registered(self, worker_id: int) -> None:
        """Learn which incarnation claims from here on; it has claimed nothing yet."""
        ...

    def safe_until(self, until: float) -> None:
        """Learn how long steps may run without another renewal, monotonic."""
        ...


class Lease:
    """One worker's proof that it may hold claims; *worker_id* is its present incarnation.

    It ends by our own monotonic clock, counted from the moment the renewal was sent: then all
    steps are cancelled, before anybody else may start them.  A renewal that comes through later
    regains it; when a collector was faster, another incarnation begins.  Each renewal tells what
    the database thinks that we hold, and what is nobody's is handed back.
    """

    def __init__(
        self,
        store: EngineStore,
        *,
        name: str,
        serves: Mapping[str, Served],
        config: WorkerConfig,
        renewals: Renewals,
        holdings: Holdings,
        owner: Owner,
    ) -> None:
        self.worker_id = 0
        self.ticked_at = time.monotonic()
        self._store = store
        self._name = name
        self._serves = serves
        self._duration = config.lease
        self._seconds = config.lease.total_seconds()
        self._holdings = holdings
        self._owner = owner
        self._safe_until = 0.0
        self._metrics = store.metrics
        self._part = store.metrics.parts.watch("lease")
        self._loop_part = store.metrics.parts.watch("loop", patience=self._seconds / 2)
        self._held = asyncio.Event()
        self._is_ended = False
        self._has_stopped = False
        self._failure: Exception | None = None
        self._reports: list[tuple[float, asyncio.Future[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._heartbeat = Heartbeat(
            self,
            renewals=renewals,
            lease=config.lease,
            every=config.heartbeat_every,
            loop=asyncio.get_running_loop(),
        )

    @property
    def is_held(self) -> bool:
        """Whether the worker may claim and run."""
        return self._held.is_set()

    @property
    def answers(self) -> int:
        """How many renewals the database has answered."""
        return self._heartbeat.answers

    @property
    def may_rest(self) -> bool:
        """Whether nothing is renewed any more."""
        return self._has_stopped

    async def begin(self) -> None:
        """Register an incarnation and begin to renew.

        Raises:
            StoreUnavailable: There is no database.
        """
        registering = asyncio.ensure_future(self._register())
        try:
            await asyncio.shield(registering)
        except asyncio.CancelledError:  # `end` has to know what is registered
            await asyncio.wait([registering], timeout=_END_SECONDS)
            registering.cancel()
            raise
        self.ticked_at = time.monotonic()
        self._heartbeat.start()

    async def wait(self) -> None:
        """Return when the lease is held."""
        await self._held.wait()

    async def run(self) -> None:
        """Tick, and give the steps up before the lease ends, until cancelled.

        Raises:
            Exception: What ended the heartbeat, where it will not pass.
        """
        try:
            while self._failure is None:
                self.ticked_at = time.monotonic()
                self._loop_part.succeeded()
                self.check()
                await asyncio.sleep(self._seconds / _TICKS_A_LEASE)
        finally:
            self._heartbeat.stop()
        raise self._failure

    def check(self) -> None:
        """Give the steps up if the lease is about to end: the tick may come later, after a stop."""
        if time.monotonic() > self._safe_until and self.is_held:
            log.error("lease_cannot_be_renewed", worker_id=self.worker_id)
            self._lapse("the lease cannot be renewed")

    def renew_now(self) -> None:
        """Learn from the database what is really held: an answer was lost."""
        self._heartbeat.renew_now()

    async def report_begun(self) -> None:
        """Return when the database knows of all steps that have begun so far."""
        reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reports.append((time.monotonic(), reported))
        self.renew_now()
        await reported

    async def end(self) -> int:
        """Stop to renew, hand back all that is held, and return how many tasks that were.

        Without a database, or behind a stranger's lock, nothing is done; a collector will.  Others
        are told to look, though nothing was handed back: what was let go since chains ended waits
        for them.
        """
        self._heartbeat.stop()
        self._has_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self.worker_id:
            return 0
        handed_back = 0
        try:
            async with asyncio.timeout(_END_SECONDS):
                handed_back = await self._store.deregister_worker(self.worker_id)
        except (*OUTLIVED, TimeoutError) as e:
            log.warning("worker_not_deregistered", worker_id=self.worker_id, detail=str(e))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TELL_SECONDS):
                await self._store.announce(wakeups.DUE, [*self._serves])
        return handed_back

    # ---- What the heartbeat asks and tells ----

    def begun(self) -> list[int]:
        """Return the tasks whose handlers have started; called from the heartbeat's thread."""
        return self._holdings.begun()

    def renewed(self, worker_id: int, claims: list[tuple[int, int]], asked_at: float) -> None:
        """Take what the database says is held, by a renewal sent at *asked_at*, monotonic."""
        if worker_id != self.worker_id or self._has_stopped:
            return
        self._extend(asked_at)
        for since, reported in self._reports:
            if since <= asked_at and not reported.done():
                reported.set_result(None)
        self._reports = [report for report in self._reports if not report[1].done()]
        if not self.is_held:
            log.info("lease_regained", worker_id=worker_id)
            self._held.set()
        self._part.succeeded()
        lost = self._holdings.drop_lost(claims, asked_at=asked_at)
        self._count_lost(lost)
        if lost:
            log.warning("claims_lost", worker_id=worker_id, tasks=len(lost))
        self._background(self._hand_back_strangers(claims))

    def ended(self, worker_id: int) -> None:
        """Give everything up and begin another incarnation: a collector has ended this one."""
        if worker_id == self.worker_id and not self._is_ended and not self._has_stopped:
            self._is_ended = True
            log.error("incarnation_ended", worker_id=worker_id)
            self._lapse("a collector took this worker for dead; it begins again")
            self._background(self._begin_again())

    def failed(self, error: Exception) -> None:
        """End the worker with the error that ended its heartbeat."""
        self._failure = error

    async def _register(self) -> None:
        asked_at = time.monotonic()
        self.worker_id = await self._store.register_worker(self._name, self._serves, self._duration)
        self._owner.registered(self.worker_id)
        self._extend(asked_at)
        self._is_ended = False
        self._part.succeeded()
        self._held.set()

    async def _begin_again(self) -> None:
        while self._is_ended:
            try:
                await self._register()
            except OUTLIVED as e:
                log.warning("worker_not_registered", detail=str(e))
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception as e:
                self.failed(e)
                raise
        log.info("incarnation_began", worker_id=self.worker_id)

    def _extend(self, asked_at: float) -> None:
        self._safe_until = asked_at + self._seconds * _SAFE_SHARE
        self._owner.safe_until(self._safe_until)

    def _lapse(self, reason: str) -> None:
        self._part.failed(reason)
        self._held.clear()
        dropped = self._holdings.drop()
        self._count_lost(dropped)
        if dropped:
            log.warning("steps_cancelled", worker_id=self.worker_id, tasks=len(dropped))

    def _count_lost(self, lost: Sequence[Held]) -> None:
        for held in lost:
            self._metrics.claims_lost.add(held.claimed.namespace)

    async def _hand_back_strangers(self, claims: list[tuple[int, int]]) -> None:
        strangers = await self._holdings.strangers(claims)
        if not strangers:
            return
        with contextlib.suppress(*OUTLIVED):  # the next renewal tells again
            count = await self._store.hand_back(strangers)
            if count:  # none, when all were ended while their renewal was on its way
                log.info("claims_handed_back", worker_id=self.worker_id, tasks=count)
                self._owner.wake()
                await self._store.announce(wakeups.DUE, [*self._serves])

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
