"""Commits the ends of steps, in batches, until each has its outcome."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pgprog import logs
from pgprog.engine import decide, traces
from pgprog.engine.batcher import Batcher
from pgprog.engine.failures import fields_of
from pgprog.errors import InvalidArgument, StoreUnavailable
from pgprog.store.faults import OUTLIVED, DataFault, RolledBack, Unforeseen
from pgprog.store.measuring import measure_completions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.engine.access import OpenTransaction
    from pgprog.engine.holdings import Held, Holdings
    from pgprog.engine.lease import Lease
    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import CompletionLane, EngineStore
    from pgprog.store.rows import Claimed, Completed, Completion

log = logs.get(__name__)

_MOST = 400
# On the lane for few, which is quick because they are few: what is more joins the others.
_FEW = 16
# Beside another namespace so many are settled in a turn of the loop, which takes a millisecond.
# Alone that would cost a quarter: places that become free by and by are claimed for by and by.
_AT_A_TURN = 32
_CHAIN_STEPS = 50
_CHAIN_SECONDS = 1.0
# 'busy' is normal; after so many refusals a completion waits on a lane of its own.
_PATIENCE = 3
_BUSY_PAUSE_SECONDS = 0.005
_APART_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
# Where the database fails in a way that nobody expects, as at a block that cannot be read: a batch
# is halved soon, to find whose it is; two seconds later that step counts as a crash.
_TRIES_TOGETHER = 2
_TRIES_ALONE = 8


class Owner(Protocol):
    """The worker, as far as completions concern it."""

    def may_chain(self) -> bool:
        """Return whether a step may be followed at once by the next of its process."""
        ...

    def go_on(self, held: Held) -> None:
        """Run the next step of a chain."""
        ...

    def tell(self, claimed: Claimed, completion: Completion, version: int | None) -> None:
        """Release an answer: it is committed."""
        ...

    def due_in(self, seconds: float) -> None:
        """Look for due tasks then: there may be some that no chain went on with."""
        ...


@dataclass(slots=True, eq=False)
class _Ending:
    held: Held
    completion: Completion
    refusals: int = 0
    is_fault: bool = False


class Completer:
    """Sends completions to pgprog_engine.complete, whatever it takes.

    What cannot be stored is halved until the culprit stands alone and ends in error; for ten
    seconds after that its namespace is flushed apart.  What was rolled back or has an unknown
    outcome is repeated: the fence makes that safe.  Where the database fails, that is repeated for
    some time, and then the step runs again, but not for ever.  The few steps of a namespace go on a
    lane of their own beside the many of another.
    """

    def __init__(
        self,
        namespaces: Mapping[str, Namespace[Any]],
        *,
        store: EngineStore,
        holdings: Holdings,
        lease: Lease,
        owner: Owner,
    ) -> None:
        self._namespaces = namespaces
        self._store = store
        self._holdings = holdings
        self._lease = lease
        self._owner = owner
        self._part = store.metrics.parts.watch("completer")
        self._apart: dict[str, float] = {}
        self._batches = Batcher(self._flush, most=_MOST, size_of=_size)
        self._few = Batcher(self._flush_few, most=_FEW, size_of=_size)
        self._patient = Batcher(self._flush_patiently, most=_MOST, size_of=_size)
        self._broken = Batcher(self._flush_broken, most=1)

    def add(self, held: Held, completion: Completion) -> None:
        """Commit the completion with the next batch; where it is one of few, beside the others."""
        is_few = self._holdings.is_few(held.claimed.namespace) and len(self._few) < _FEW
        (self._few if is_few else self._batches).add(_Ending(held, completion))

    async def commit(
        self, held: Held, completion: Completion, transaction: OpenTransaction
    ) -> None:
        """Commit it in the transaction of its step; what that cannot store is an error."""
        ending, since = _Ending(held, completion), self._holdings.drops
        began_at = time.monotonic()
        try:
            completed = await self._complete_in(ending, transaction)
            with self._holdings.trip():  # a next task is visible from the commit on
                if completed.outcome == "done":
                    await transaction.commit()
                else:
                    await transaction.rollback()
                seconds = time.monotonic() - began_at
                measure_completions(self._store.metrics, [completion], [completed], seconds=seconds)
                self._settle(ending, completed, since=since)
        except (DataFault, InvalidArgument) as e:
            self.add(held, self._failed(held.claimed, e))
        except (RolledBack, StoreUnavailable) as e:
            log.warning("transaction_lost", detail=str(e))
            self.give_back(held)

    def give_back(self, held: Held) -> None:
        """Forget a claim; the next renewal finds it to be nobody's and hands it back."""
        traces.given_up(held)
        self._holdings.remove(held)
        self._lease.renew_now()

    def broke(self, held: Held) -> None:
        """Count a crash of a step that broke the engine: it runs again, but not for ever."""
        self._broken.add(held)

    async def run(self) -> None:
        """Flush until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._store.completions):
                tasks.create_task(self._batches.run())
            tasks.create_task(self._few.run())
            tasks.create_task(self._patient.run())
            tasks.create_task(self._broken.run())

    async def wait_idle(self) -> None:
        """Return when every completion has its outcome."""
        await self._broken.wait_idle()
        await self._few.wait_idle()
        await self._batches.wait_idle()
        await self._patient.wait_idle()
        await self._batches.wait_idle()
        await self._broken.wait_idle()

    async def _flush(self, endings: list[_Ending]) -> None:
        for group in self._groups(endings):
            await self._flush_group(group)

    async def _flush_few(self, endings: list[_Ending]) -> None:
        for group in self._groups(endings):
            await self._flush_group(group, lane="few")

    async def _flush_patiently(self, endings: list[_Ending]) -> None:
        await asyncio.sleep(_BUSY_PAUSE_SECONDS)
        await self._flush_group(endings)

    async def _flush_broken(self, broken: list[Held]) -> None:
        [held] = broken
        claimed, worker_id = held.claimed, self._lease.worker_id
        try:
            is_counted = not held.is_dropped and await self._store.report_crash(
                worker_id, task_id=claimed.task_id, claim_id=claimed.claim_id
            )
        except OUTLIVED as e:
            log.warning("crash_not_reported", detail=str(e))
            is_counted = False
        self.give_back(held)  # what was not counted is handed back by the next renewal
        if is_counted:
            self._owner.due_in(0.0)

    async def _flush_group(
        self, endings: Sequence[_Ending], *, lane: CompletionLane = "batches"
    ) -> None:
        """Repeat until every ending of the group has an outcome, or is put into a later flush."""
        pause = _FIRST_PAUSE_SECONDS
        tries_left = _TRIES_TOGETHER if len(endings) > 1 else _TRIES_ALONE
        while True:
            try:
                with self._holdings.trip():
                    since = self._holdings.drops
                    completed = await self._store.complete(
                        self._lease.worker_id,
                        [ending.completion for ending in endings],
                        chains=[self._may_chain(ending) for ending in endings],
                        lane=lane,
                    )
                    for pos, (ending, each) in enumerate(zip(endings, completed, strict=True)):
                        if pos and not pos % _AT_A_TURN and self._holdings.is_shared:
                            await asyncio.sleep(0)
                        self._settle(ending, each, since=since)
            except DataFault as e:
                await self._find_culprit(endings, e)
            except (RolledBack, StoreUnavailable) as e:
                self._not_committed(e)
                tries_left -= isinstance(e, Unforeseen)
                if tries_left:
                    pause = await _pause(pause)
                    continue
                await self._give_up(endings)
                return
            self._part.succeeded()
            return

    def _not_committed(self, error: RolledBack | StoreUnavailable) -> None:
        """Say what keeps the ends of steps, unless that is normal."""
        if isinstance(error, StoreUnavailable):
            self._lease.renew_now()
        elif isinstance(error, Unforeseen):
            log.warning("completions_failed", detail=str(error))
        else:
            return
        self._part.failed(f"the ends of steps cannot be committed: {error}")

    async def _flush_halves(self, endings: Sequence[_Ending]) -> None:
        half = len(endings) // 2
        await self._flush_group(endings[:half])
        await self._flush_group(endings[half:])

    async def _give_up(self, endings: Sequence[_Ending]) -> None:
        """Commit each half by itself; a lone step cannot end, and counts as a crash."""
        if len(endings) > 1:
            await self._flush_halves(endings)
            return
        [ending] = endings
        log.error("step_cannot_end", **fields_of(ending.held.claimed))
        self.broke(ending.held)

    async def _find_culprit(self, endings: Sequence[_Ending], fault: DataFault) -> None:
        if len(endings) > 1:
            await self._flush_halves(endings)
            return
        [ending] = endings
        claimed = ending.held.claimed
        if ending.is_fault:
            # Without its traceback: PostgreSQL's details quote what could not be stored.
            log.error("error_cannot_be_stored", **fields_of(claimed), detail=str(fault))
            self.give_back(ending.held)
            return
        log.warning("completion_cannot_be_stored", **fields_of(claimed), detail=str(fault))
        self._apart[claimed.namespace] = time.monotonic() + _APART_SECONDS
        failed = replace(ending, completion=self._failed(claimed, fault), is_fault=True)
        await self._flush_group([failed])

    async def _complete_in(self, ending: _Ending, transaction: OpenTransaction) -> Completed:
        """End the step in its transaction, which stays open unless that fails."""
        try:
            while True:
                completed = await transaction.complete(
                    self._lease.worker_id, ending.completion, chain=self._may_chain(ending)
                )
                if completed.outcome != "busy":
                    return completed
                await asyncio.sleep(_BUSY_PAUSE_SECONDS)
        except BaseException:
            await asyncio.shield(transaction.rollback())
            raise

    def _settle(self, ending: _Ending, completed: Completed, *, since: int) -> None:
        held = ending.held
        traces.settled(held, completed.outcome, ending.completion)
        match completed.outcome:
            case "done" | "already":
                self._holdings.remove(held)
                self._owner.tell(held.claimed, ending.completion, completed.version)
                if completed.next_ is not None:
                    next_ = self._holdings.add_next(completed.next_, after=held, since=since)
                    self._owner.go_on(next_)
                elif (seconds := self._next_due_in(ending)) is not None:
                    self._owner.due_in(seconds)
            case "busy":
                ending.refusals += 1
                (self._batches if ending.refusals <= _PATIENCE else self._patient).add(ending)
            case _:
                self._holdings.remove(held)
                log.warning("claim_lost", **fields_of(held.claimed))

    def _next_due_in(self, ending: _Ending) -> float | None:
        """Return when there may be something to do that no chain went on with."""
        settings = self._namespaces[ending.held.claimed.namespace].settings
        if settings.concurrency is not None or not self._may_chain(ending):
            return 0.0
        return decide.due_in(ending.completion)

    def _may_chain(self, ending: _Ending) -> bool:
        held = ending.held
        return (
            self._owner.may_chain()
            and held.chained + 1 < _CHAIN_STEPS
            and time.monotonic() - held.chain_began_at < _CHAIN_SECONDS
        )

    def _failed(self, claimed: Claimed, fault: Exception) -> Completion:
        settings = self._namespaces[claimed.namespace].settings
        return decide.after_data_fault(claimed, fault, settings=settings)

    def _groups(self, endings: list[_Ending]) -> list[list[_Ending]]:
        """Return the batch as it is, or namespaces with recent faults each for itself."""
        now = time.monotonic()
        self._apart = {name: until for name, until in self._apart.items() if until > now}
        if not self._apart:
            return [endings]
        groups: dict[str, list[_Ending]] = {}
        for ending in endings:
            name = ending.held.claimed.namespace
            groups.setdefault(name if name in self._apart else "", []).append(ending)
        return list(groups.values())


async def _pause(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return min(2 * seconds, _LONGEST_PAUSE_SECONDS)


def _size(ending: _Ending) -> int:
    completion = ending.completion
    parts = (completion.state, completion.metadata, completion.response, completion.error)
    size = sum(len(part) for part in parts if part is not None)
    return size + sum(
        len(event.payload) + len(event.metadata or b"") for event in completion.events
    )
