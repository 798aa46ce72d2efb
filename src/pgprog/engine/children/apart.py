"""Steps that run in child processes, seen from their worker."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

from pgprog import logs
from pgprog.engine import decide, traces
from pgprog.engine.children import wire
from pgprog.engine.children.pool import AllBusy
from pgprog.engine.children.process import ChildUnavailable
from pgprog.engine.failures import log_failure
from pgprog.engine.places import STUCK_SECONDS, UNAVAILABLE_SECONDS
from pgprog.errors import InvalidArgument, StoreUnavailable
from pgprog.store.faults import OUTLIVED, DataFault, LockTimeout, RolledBack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from pgprog.engine.children.pool import Children
    from pgprog.engine.children.process import ChildProcess
    from pgprog.engine.holdings import Held, Holdings
    from pgprog.engine.lease import Lease
    from pgprog.engine.surroundings import Endings
    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed, Completed, Completion

log = logs.get(__name__)

# How long the row of a dead step may be locked before its crash goes uncounted.
_REPORTS = 50
_REPORT_PAUSE_SECONDS = 0.1

_ERRORS: Mapping[str, type[Exception]] = {
    each.__name__: each
    for each in (DataFault, InvalidArgument, LockTimeout, RolledBack, StoreUnavailable)
}


class Owner(Protocol):
    """The worker, as far as its children concern it."""

    def wake(self) -> None:
        """Look for due tasks now."""
        ...


class Apart:
    """Runs steps in *children*, each to its end: committed, failed, given back, or lost.

    A child that dies while a step that had begun runs in it is a crash of this step alone; the
    database is told at once, and the next attempt may start.
    """

    def __init__(
        self,
        namespaces: Mapping[str, Namespace[Any]],
        *,
        children: Children,
        store: EngineStore,
        holdings: Holdings,
        lease: Lease,
        endings: Endings,
        owner: Owner,
    ) -> None:
        self._namespaces = namespaces
        self._children = children
        self._store = store
        self._holdings = holdings
        self._lease = lease
        self._endings = endings
        self._owner = owner

    def takes(self, claimed: Claimed) -> bool:
        """Return whether a step runs in a child process."""
        settings = self._namespaces[claimed.namespace].settings
        return settings.isolation == "process" or (
            claimed.alone and self._children.can_run(claimed.namespace)
        )

    @property
    def full(self) -> Collection[str]:
        """The namespaces whose steps would wait for a child, with no end in sight."""
        if not self._children.are_all_busy:
            return ()
        names = self._namespaces.items()
        return [name for name, each in names if each.settings.isolation == "process"]

    async def run(self, held: Held) -> None:
        """Run a step and hand its end over to the endings; a cancellation kills its child."""
        claimed = held.claimed
        traces.enter(held, worker_id=self._lease.worker_id)
        try:
            patience = self._patience(claimed.namespace)
            async with self._children.one(claimed.namespace, patience=patience) as child:
                held.runs = True
                if claimed.attempt > 1:
                    await self._lease.report_begun()
                    await traces.link(held, self._store.first_trace)
                self._lease.check()
                if not held.is_dropped:
                    await self._run_in(child, held)
        except AllBusy:
            self._endings.give_back(held)
        except ChildUnavailable as e:
            log.error("no_child_process", detail=str(e))  # noqa: TRY400 - the message says it all
            await asyncio.sleep(UNAVAILABLE_SECONDS)
            self._endings.give_back(held)

    def _patience(self, namespace: str) -> float | None:
        """Return for how many seconds a step waits for a child that stays busy, None: any.

        What was lost with a worker would be claimed again at once.
        """
        is_isolated = self._namespaces[namespace].settings.isolation == "process"
        return STUCK_SECONDS if is_isolated else None

    async def _run_in(self, child: ChildProcess, held: Held) -> None:
        settings = self._namespaces[held.claimed.namespace].settings
        series = self._store.metrics.task_processing[held.claimed.namespace, held.claimed.type]
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(settings.step_timeout.total_seconds()):
                worker_id = self._lease.worker_id
                ended = await child.run(held, settings, worker_id=worker_id)
        except TimeoutError:
            await child.end()
            child.is_busy = False
            error = decide.StepTimeout.over(settings.step_timeout)
            failed = decide.after_failure(
                held.claimed, error, settings=settings, random=random.random()
            )
            log_failure(error, failed)
            ended = wire.Ended(failed)
        series.observe(time.monotonic() - began_at)
        if ended is None:
            await self._lost(held, child)
            return
        completion = traces.handled(held, ended.completion)
        if held.is_dropped:
            return
        if completion is None:
            self._endings.give_back(held)
        else:
            await self._end(held, child, completion)

    async def _end(self, held: Held, child: ChildProcess, completion: Completion) -> None:
        held.ends = True
        if child.is_busy:
            transaction = ChildTransaction(child, on_death=lambda: self._lost(held, child))
            await self._endings.commit(held, completion, transaction)
        else:
            self._endings.add(held, completion)

    async def _lost(self, held: Held, child: ChildProcess) -> None:
        """Count a crash where the step had begun, and let it go; its child is dead."""
        claimed = held.claimed
        traces.given_up(held, "child died")
        log.error("child_died", exit_code=child.exit_code, has_begun=child.has_begun)
        self._lease.check()  # where we stood still for a lease the child ended itself: no crash
        if held.is_dropped:
            return
        if child.has_begun and await self._reported(claimed):
            self._holdings.remove(held)
            self._owner.wake()
        else:
            self._endings.give_back(held)

    async def _reported(self, claimed: Claimed) -> bool:
        for _ in range(_REPORTS):
            try:
                if await self._store.report_crash(
                    self._lease.worker_id, task_id=claimed.task_id, claim_id=claimed.claim_id
                ):
                    return True
            except OUTLIVED as e:
                log.warning("crash_not_reported", detail=str(e))
            self._lease.renew_now()  # where the claim is gone, this step is dropped
            await asyncio.sleep(_REPORT_PAUSE_SECONDS)
        return False


class ChildTransaction:
    """The transaction of a step in its child, which has what shall be committed."""

    def __init__(self, child: ChildProcess, *, on_death: Callable[[], Awaitable[None]]) -> None:
        self._child = child
        self._on_death = on_death

    async def complete(self, worker_id: int, _completion: Completion, *, chain: bool) -> Completed:
        """End the step in it; raises as `StepTransaction.complete` does."""
        answer = await self._child.ask(wire.Complete(worker_id, chain))
        if answer is None:
            await self._on_death()
        completed = _checked(answer).completed
        if completed is None:
            msg = "a child process completed nothing"
            raise StoreUnavailable(msg)
        return completed

    async def commit(self) -> None:
        """Commit all; where the child dies of it the outcome is unknown."""
        _checked(await self._child.ask(wire.Commit()))

    async def rollback(self) -> None:
        """Undo all; the death of the child does so too."""
        if self._child.is_busy and not self._child.death.done():
            await self._child.ask(wire.Rollback())


def _checked(answer: wire.Answered | None) -> wire.Answered:
    """Return *answer*, or raise the error that it tells."""
    if answer is None:
        msg = "the child process of the step died"
        raise StoreUnavailable(msg)
    if answer.error is not None:
        raise _ERRORS.get(answer.error, RuntimeError)(answer.detail)
    return answer
