"""Requests on their way into the queue: in batches, each with its own outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pgprog.client.pending import (
    MOST_BYTES,
    Parcel,
    Pending,
    expire,
    failed,
    is_over,
    not_in_time,
    outcomes_of,
    refusal_of,
    settle,
    settle_all,
    size_of,
    split,
    told,
)
from pgprog.client.within import within
from pgprog.engine.batcher import Batcher
from pgprog.errors import InvalidArgument, PgprogError, StoreUnavailable
from pgprog.store.columns import Columns
from pgprog.store.faults import DataFault, LockTimeout, RolledBack, Unreachable
from pgprog.store.own_loop import check_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgprog.client.many import Part
    from pgprog.engine.deadlines import Deadlines
    from pgprog.store.engine_store import RequestLane
    from pgprog.store.rows import RawRequest, Submitted

# Small enough that the starts of some callers overlap the completions of others: 200 callers make
# 1.1 to 1.4 times as many calls as in batches of 200 (bench/calls.py).
_MOST = 64
# With 2000 programs enqueue twice as fast as with 64, of which each batch is a commit to wait for.
_MOST_OF_MANY = 2000
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_NOT_THROUGH = (StoreUnavailable, DataFault, RolledBack)
_REPEAT = "repeat it; with an idempotency key that is done by itself"


class Send(Protocol):
    """Puts requests into the queue in one round trip."""

    async def __call__(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        """Return the outcomes in the order of *requests*."""
        ...


class Submitter:
    """Batches what callers ask for.

    Many that are asked for at once travel in greater batches on a lane of their own; a batch that
    does not get through goes with the others then.  What meets a stranger's open transaction there
    goes one by one on a third lane, until its caller gives up.  When the connection is lost,
    requests with an idempotency key are repeated; of others the outcome is unknown, and their
    callers are told so.
    """

    def __init__(self, send: Send, *, deadlines: Deadlines) -> None:
        self._send = send
        self._deadlines = deadlines
        self._pause = _FIRST_PAUSE_SECONDS
        self._closed: StoreUnavailable | None = None
        self._pending: set[Pending] = set()
        self._parcels: set[Parcel] = set()
        self._batches = Batcher(self._flush, most=_MOST, size_of=size_of, is_over=is_over)
        self._many = Batcher(
            self._flush_many,
            most=_MOST_OF_MANY,
            size_of=lambda parcel: parcel.requests.size(),
            count_of=lambda parcel: len(parcel.requests),
            most_bytes=MOST_BYTES,
            is_over=is_over,
        )
        self._alone = Batcher(self._flush_alone, most=1, is_over=is_over)

    async def submit(self, request: RawRequest, *, seconds: float) -> Submitted:
        """Return what became of a request: started, queued or known.

        Raises:
            PgprogError: The refusal, by its SQLSTATE.
            Overloaded: It was not sent within *seconds*; nothing was done.
            StoreUnavailable: It was sent, and its outcome is unknown; or the client is closed.
            RuntimeError: The loop that runs here is not the client's.
        """
        check_loop(self._deadlines.loop)
        pending = self._add(request, to=self._batches)
        try:
            submitted = await within(pending.outcome, seconds=seconds, deadlines=self._deadlines)
        except TimeoutError as e:
            self._give_up()
            raise not_in_time(pending, seconds) from e
        except asyncio.CancelledError:
            self._give_up()
            raise
        finally:
            self._pending.discard(pending)
        if (refusal := refusal_of(submitted)) is not None:
            raise refusal
        return submitted

    async def submit_many(
        self, parts: Iterable[Part], *, seconds: float
    ) -> list[Submitted | PgprogError]:
        """Return what became of each, in order: what `submit` returns or raises.

        What is an error already stays one.  A part is made while those before it are on their way.

        Raises:
            RuntimeError: The loop that runs here is not the client's.
        """
        check_loop(self._deadlines.loop)
        parcels: list[Parcel] = []
        faults: dict[int, PgprogError] = {}
        count = 0
        deadline = self._deadlines.set(seconds, expire, (parcels, seconds))
        ends_at = self._deadlines.loop.time() + seconds
        try:
            for part in parts:
                parcels += map(self._add_parcel, split(part.requests))
                faults |= {count + pos: fault for pos, fault in part.faults.items()}
                count += len(part.requests) + len(part.faults)
                await asyncio.sleep(0)
            if self._deadlines.loop.time() >= ends_at:
                expire((parcels, seconds))  # also those that were made after it
            # One after another: gather would cost a callback and a turn of the loop for each.
            settled = [outcome for parcel in parcels for outcome in await outcomes_of(parcel)]
        finally:
            self._deadlines.clear(deadline)
            for parcel in parcels:
                self._forget(parcel)
        if not faults:
            return settled
        outcomes = iter(settled)
        return [faults.get(pos) or next(outcomes) for pos in range(count)]

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._batches.run())
            tasks.create_task(self._many.run())
            tasks.create_task(self._alone.run())

    async def wait_idle(self) -> None:
        """Return when every request has its outcome."""
        await self._many.wait_idle()
        await self._batches.wait_idle()
        await self._alone.wait_idle()

    def close(self, error: StoreUnavailable) -> None:
        """Raise *error* in all who still wait, and in all who come."""
        self._closed = error
        for pending in list(self._pending):
            settle(pending, error)
        for parcel in list(self._parcels):
            settle_all(parcel, [error] * len(parcel.requests))

    def _add(self, request: RawRequest, *, to: Batcher[Pending]) -> Pending:
        pending = Pending(request, self._deadlines.loop.create_future())
        if self._closed is None:
            self._pending.add(pending)
            to.add(pending)
        else:
            settle(pending, StoreUnavailable(str(self._closed)))
        return pending

    def _add_parcel(self, requests: Columns) -> Parcel:
        parcel = Parcel(requests, self._deadlines.loop.create_future())
        if self._closed is None:
            self._parcels.add(parcel)
            self._many.add(parcel)
        else:
            settle_all(parcel, [StoreUnavailable(str(self._closed)) for _ in requests])
        return parcel

    def _forget(self, parcel: Parcel) -> None:
        """Drop what nobody waits for any more, be it an error."""
        self._parcels.discard(parcel)
        self._pending.difference_update(parcel.opened)
        parcel.outcomes.cancel()
        if not parcel.may_be_done:
            self._many.give_up()
        for pending in parcel.opened:
            pending.outcome.cancel()
            self._give_up()

    def _give_up(self) -> None:
        """Let a request that nobody waits for any more go, wherever it waits."""
        self._batches.give_up()
        self._alone.give_up()

    def _open(self, parcel: Parcel) -> Sequence[Pending]:
        """Let each request of a parcel that was sent go on by itself; return them."""
        if parcel.outcomes.done():
            return ()
        create = self._deadlines.loop.create_future
        parcel.opened = [Pending(each, create(), may_be_done=True) for each in parcel.requests]
        self._pending.update(parcel.opened)
        self._parcels.discard(parcel)
        parcel.outcomes.set_result(None)
        return parcel.opened

    async def _flush(self, batch: list[Pending]) -> None:
        await self._deliver(batch, lane="batches")

    async def _flush_alone(self, batch: list[Pending]) -> None:
        await self._deliver(batch, lane="alone")

    async def _flush_many(self, parcels: list[Parcel]) -> None:
        parcels = [parcel for parcel in parcels if not parcel.outcomes.done()]
        if not parcels:
            return
        for parcel in parcels:
            parcel.may_be_done = True
        requests = Columns.joined([parcel.requests for parcel in parcels])
        try:
            submitted = await self._send(requests, lane="many")
        except _NOT_THROUGH as e:
            opened = [pending for parcel in parcels for pending in self._open(parcel)]
            if opened:  # or all callers have given up meanwhile
                await self._recover(opened, e, lane="many")
        except PgprogError as e:
            for parcel in parcels:
                settle_all(parcel, [e] * len(parcel.requests))
        else:
            self._pause = _FIRST_PAUSE_SECONDS
            outcomes, start = told(submitted), 0
            for parcel in parcels:
                end = start + len(parcel.requests)
                settle_all(parcel, outcomes[start:end])
                start = end

    async def _deliver(self, batch: Sequence[Pending], *, lane: RequestLane) -> None:
        batch = [pending for pending in batch if not pending.outcome.done()]
        if not batch:
            return
        for pending in batch:
            pending.may_be_done = True
        try:
            submitted = await self._send([pending.request for pending in batch], lane=lane)
        except _NOT_THROUGH as e:
            await self._recover(batch, e, lane=lane)
        except PgprogError as e:  # the statement itself was refused: it did nothing
            for pending in batch:
                settle(pending, failed(pending, e))
        else:
            self._pause = _FIRST_PAUSE_SECONDS
            for pending, each in zip(batch, submitted, strict=True):
                settle(pending, each)

    async def _recover(
        self,
        batch: Sequence[Pending],
        error: StoreUnavailable | LockTimeout | DataFault | RolledBack,
        *,
        lane: RequestLane,
    ) -> None:
        """Do what can be done for a batch that did not get through."""
        match error:
            case LockTimeout():
                _take_back(batch, to=self._batches if lane == "many" else self._alone)
            case DataFault():
                await self._find_culprit(batch, error, lane=lane)
            case Unreachable() | RolledBack():
                for pending in batch:
                    pending.refused = error
                _take_back(batch, to=self._batches)
                await self._wait()
            case _:
                await self._repeat_keyed(batch, error)

    async def _repeat_keyed(self, batch: Sequence[Pending], lost: StoreUnavailable) -> None:
        """Repeat what is safe to repeat; of the rest nobody knows whether it was done."""
        for pending in batch:
            if pending.request.idempotency_key is None:
                settle(pending, StoreUnavailable(str(lost), hint=_REPEAT))
        for pending in batch:
            if not pending.outcome.done():
                pending.was_lost = True
                self._batches.add(pending)
        await self._wait()

    async def _wait(self) -> None:
        """Let the database come back; who has given up meanwhile takes no memory."""
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._many.forget()
        self._batches.forget()
        self._alone.forget()

    async def _find_culprit(
        self, batch: Sequence[Pending], fault: DataFault, *, lane: RequestLane
    ) -> None:
        if len(batch) > 1:
            half = len(batch) // 2
            await self._deliver(batch[:half], lane=lane)
            await self._deliver(batch[half:], lane=lane)
        else:
            settle(batch[0], failed(batch[0], InvalidArgument(str(fault))))


def _take_back(batch: Iterable[Pending], *, to: Batcher[Pending]) -> None:
    """Put requests with which this round trip did nothing into another batch."""
    for pending in batch:
        pending.may_be_done = pending.was_lost
        to.add(pending)
