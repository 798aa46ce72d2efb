"""One worker: what it is made of, how it starts and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from pgprog import logs
from pgprog.current import OUTSIDE, current
from pgprog.engine.attempt import Attempts
from pgprog.engine.children import Apart, Children
from pgprog.engine.completer import Completer
from pgprog.engine.hearing import Hearing
from pgprog.engine.holdings import Holdings
from pgprog.engine.lease import Lease
from pgprog.engine.places import Places
from pgprog.engine.pulse import pulse_of
from pgprog.engine.runner import Runner
from pgprog.engine.scanner import Scanner
from pgprog.engine.served import check_names, check_not_imported, check_schema, serves
from pgprog.engine.settings import Settings
from pgprog.engine.settling import end, wait_settled
from pgprog.engine.upkeep import Role, Upkeep
from pgprog.errors import LeaseLost
from pgprog.metrics import Metrics
from pgprog.store.engine_store import EngineStore
from pgprog.store.faults import translated_for_callers
from pgprog.store.renewals import Renewals
from pgprog.store.rows import Outcome
from pgprog.store.transactions import StepTransactions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgprog.config import Config
    from pgprog.encryption import Encryption
    from pgprog.engine.holdings import Held
    from pgprog.engine.pulse import Pulse
    from pgprog.namespace import Namespace
    from pgprog.replication.shared import Feed
    from pgprog.store.engine_store import RequestLane
    from pgprog.store.rows import Claimed, Completion, RawRequest, Submitted

    # Gets a committed end, with the version after it; returns whether anybody here waited for it.
    Tell = Callable[[Claimed, Completion, int | None], bool]

log = logs.get(__name__)

_NAME = "pgprog worker"


class Worker:
    """Serves *namespaces*: claims their due tasks, runs the handlers, commits what they intend.

    An async context manager.  Leaving the block lets running steps end within the stop time-out
    and hands the rest back at once, with no attempt burned.  *tell* gets every end of a task
    after its commit, *on_registered* the id of each incarnation before it claims anything;
    *metrics* are told of everything.  Where the stream wakes it, it listens to `feed`, if its
    owner gives and runs one, else to one of its own.  `served` has them as the database sets them.
    """

    feed: Feed | None = None
    _runner: Runner
    _scanner: Scanner

    def __init__(
        self,
        config: Config,
        namespaces: Sequence[Namespace[Any]],
        *,
        roles: Collection[Role] = frozenset(Role),
        tell: Tell | None = None,
        on_registered: Callable[[int], None] | None = None,
        metrics: Metrics | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        self._config = config
        self._metrics = metrics or Metrics()
        self._encryption = encryption or config.encryption.load()
        self._namespaces = list(namespaces)
        self._names = [namespace.name for namespace in namespaces]
        self._roles = roles
        self._tell = tell
        self._on_registered = on_registered
        self._chains_on, self._is_over = True, False
        self.served: dict[str, Namespace[Any]] = {}
        self._closing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Register, and begin to claim.

        Raises:
            SchemaMismatch: The database needs `pgprog db migrate`.
            StoreUnavailable: It cannot be reached.
            ConfigError: Two namespaces have one name, or no child process can import one with
                isolation process.
        """
        try:
            with translated_for_callers():
                await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop: let the steps end, hand back the rest; a cancellation cuts the wait short.

        Raises:
            Exception: Why a loop of the worker failed, if one did.
        """
        log.info("worker_stopping", worker_id=self.worker_id, steps=len(self._holdings))
        self._metrics.parts.phase = "draining"
        self._chains_on = False
        self._scanner.stop()
        try:
            within = self._config.worker.stop_timeout
            await wait_settled(self._runner, self._completer, loops=self._loops, within=within)
        finally:
            await self._closing.aclose()

    @property
    def worker_id(self) -> int:
        """The present incarnation."""
        return self._lease.worker_id

    @property
    def pulse(self) -> Pulse:
        """What shows whether this worker makes progress."""
        config = self._config.worker
        return pulse_of(
            self._scanner, self._lease, self._runner, upkeep=self._upkeep.signs, config=config
        )

    async def wait_failed(self) -> None:
        """Wait for a loop of the worker to fail, which none should, and raise why."""
        await asyncio.shield(self._loops)

    async def send(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        """Take requests, and start those whose process stands free, while places are free.

        Raises:
            LockTimeout: Nothing was done; a stranger's open transaction holds a key or an id.
            StoreUnavailable: The outcome of all is unknown.
        """
        with self._holdings.trip():
            since = self._holdings.drops
            try:
                submitted = await self._store.start(
                    self.worker_id, self._starts(), requests, lane=lane
                )
            except LeaseLost:
                self._lease.renew_now()
                submitted = await self._store.start(None, 0, requests, lane=lane)
            for each in submitted:
                if each.claimed is not None and not self._is_over:
                    self._runner.take(self._holdings.add(each.claimed, since=since))
        if any(each.outcome == "queued" for each in submitted):
            self._scanner.wake()
        return submitted

    def wake(self) -> None:
        """Look for due tasks now: some were handed back."""
        self._scanner.go_back()

    def registered(self, worker_id: int) -> None:
        """Pass on which incarnation this is."""
        if self._on_registered is not None:
            self._on_registered(worker_id)

    def safe_until(self, until: float) -> None:
        """Pass on how long steps may run without another renewal."""
        self._children.run_until(until)

    def due_in(self, seconds: float) -> None:
        """Look for due tasks then."""
        self._scanner.due_in(seconds)

    def freed(self) -> None:
        """Let the scanner see whether there is room."""
        self._scanner.freed()

    def settings_changed(self) -> None:
        """Claim by the settings that are obeyed from here on."""
        self._store.preload(self._settings.preloads())
        config = self._config.worker
        most = config.concurrency
        if self._settings.all_are_isolated():
            most = min(most, config.children)  # no more is claimed than can run
        self._places.allow(most)

    def go_on(self, held: Held) -> None:
        """Run the next step of a chain."""
        self._runner.take(held)

    def may_chain(self) -> bool:
        """Return whether a step may be followed at once by the next of its process."""
        return self._chains_on and self._lease.is_held

    def tell(self, claimed: Claimed, completion: Completion, version: int | None) -> None:
        """Release a committed answer: to those who wait here, else to other programs."""
        self.freed()
        if completion.outcome is Outcome.RETRY:
            return
        if self._tell is None or not self._tell(claimed, completion, version):
            self._upkeep.announce_end(claimed)

    async def _start(self) -> None:
        self._chains_on = True
        self._is_over = False
        check_not_imported()
        check_names(self._namespaces)
        self._store = EngineStore(
            self._config.dsn,
            name=_NAME,
            completions=self._config.pool.engine,
            metrics=self._metrics,
            encryption=self._encryption,
        )
        self._closing.push_async_callback(self._store.close)
        await check_schema(self._store)
        self._holdings = Holdings(self._names)
        self._closing.callback(self._metrics.show(self._holdings.busy))
        self._lease = Lease(
            self._store,
            name=f"{socket.gethostname()}:{os.getpid()}",
            serves=serves(self._namespaces),
            config=self._config.worker,
            renewals=Renewals(self._config.dsn, name=_NAME),
            holdings=self._holdings,
            owner=self,
        )
        self._build(self.served)
        self._closing.push_async_callback(self._hand_back)
        await self._settings.check_children()  # before the lease begins, for it may take a second
        await self._lease.begin()
        await self._settings.begin()
        self._loops = asyncio.create_task(self._run())
        self._closing.push_async_callback(self._end_loops)
        self._metrics.parts.phase = "running"
        log.info("worker_started", worker_id=self.worker_id, namespaces=self._names)

    def _apart(self, served: dict[str, Namespace[Any]]) -> Apart:
        config, dsn, keys = self._config.worker, self._config.dsn, self._encryption
        self._children = Children(
            self._namespaces, dsn=dsn, lease=config.lease, most=config.children, encryption=keys
        )
        self._children.on_free = self.wake
        self._closing.push_async_callback(self._children.close)
        return Apart(
            served,
            children=self._children,
            store=self._store,
            holdings=self._holdings,
            lease=self._lease,
            endings=self._completer,
            owner=self,
        )

    def _scanning(self, served: dict[str, Namespace[Any]]) -> Scanner:
        self._settings = Settings(
            self._namespaces, served, store=self._store, children=self._children, owner=self
        )
        return Scanner(
            self._store,
            lease=self._lease,
            holdings=self._holdings,
            runner=self._runner,
            settings=self._settings,
            poll_every=self._config.worker.poll_every,
        )

    def _build(self, served: dict[str, Namespace[Any]]) -> None:
        config, store, holdings = self._config, self._store, self._holdings
        size, lease = config.pool.transactions, config.worker.lease
        transactions = StepTransactions(
            config.dsn, size=size, lease=lease, name=_NAME, encryption=self._encryption
        )
        self._closing.callback(self._metrics.show(transactions.samples))
        self._closing.push_async_callback(transactions.close)
        self._completer = Completer(
            served, store=store, holdings=holdings, lease=self._lease, owner=self
        )
        most = config.worker.concurrency
        self._attempts = Attempts(served, store=store, transactions=transactions, concurrency=most)
        self._runner = Runner(
            self._attempts,
            concurrency=most,
            holdings=holdings,
            lease=self._lease,
            endings=self._completer,
            on_free=self.freed,
            apart=self._apart(served),
        )
        self._scanner = self._scanning(served)
        self._places = Places(self._runner, self._scanner, least=config.worker.min_concurrency)
        self._attempts.laps = self._places.laps
        self._upkeep = Upkeep(
            store,
            config=config,
            roles=self._roles,
            wake=self.wake,
            is_busy=lambda: len(holdings) > 0 or self._scanner.has_backlog,
            is_few=holdings.is_few,
        )

    async def _run(self) -> None:
        current.set(OUTSIDE)  # we may be opened within a step, or a block of `carry`
        scanner, feed = self._scanner, self.feed
        hearing = Hearing(self._config, self._names, scanner=scanner, name=_NAME, feed=feed)
        try:
            async with asyncio.TaskGroup() as loops:
                steps = (self._scanner, self._completer, self._places)
                for part in (self._lease, *steps, self._upkeep, hearing):
                    loops.create_task(part.run())
        finally:
            self._is_over = True
            self._holdings.drop()  # no step may outlive what renews its lease

    def _starts(self) -> int:
        """Return how many requests may be started directly.

        While due tasks wait, only half of the places: those who wait were here first.
        """
        if not self.may_chain():
            return 0
        room = self._runner.room
        if self._scanner.has_backlog:
            room = min(room, max(0, self._config.worker.concurrency // 2 - self._runner.busy))
        return room

    async def _end_loops(self) -> None:
        try:
            await end(self._loops)
        finally:
            if left := await self._runner.abandon():
                log.error("steps_go_on", worker_id=self.worker_id, steps=left)
            self._attempts.close()

    async def _hand_back(self) -> None:
        handed_back = await self._lease.end()
        log.info("worker_stopped", worker_id=self.worker_id, handed_back=handed_back)
