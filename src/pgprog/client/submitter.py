"""Requests on their way into the queue: in batches, each with its own outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pgprog.client.within import within
from pgprog.engine.batcher import Batcher
from pgprog.errors import InvalidArgument, Overloaded, PgprogError, StoreUnavailable, for_sqlstate
from pgprog.store.faults import DataFault, LockTimeout, RolledBack, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.engine.deadlines import Deadlines
    from pgprog.store.engine_store import RequestLane
    from pgprog.store.rows import RawRequest, Submitted

# Small enough that the starts of some callers overlap the completions of others: 200 callers make
# 1.1 to 1.4 times as many calls as in batches of 200 (bench/calls.py).
_MOST = 64
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_TAKEN = ("started", "queued", "known")
_REPEAT = "repeat it; with an idempotency key that is done by itself"


class Send(Protocol):
    """Puts requests into the queue in one round trip."""

    async def __call__(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        """Return the outcomes in the order of *requests*."""
        ...


@dataclass(slots=True, eq=False)
class _Pending:
    request: RawRequest
    outcome: asyncio.Future[Submitted]


class Submitter:
    """Batches what callers ask for.

    What meets a stranger's open transaction goes one by one on a lane of its own, until its
    caller gives up.  When the connection is lost, requests with an idempotency key are repeated;
    of others the outcome is unknown, and their callers are told so.
    """

    def __init__(self, send: Send, *, deadlines: Deadlines) -> None:
        self._send = send
        self._deadlines = deadlines
        self._pause = _FIRST_PAUSE_SECONDS
        self._closed: StoreUnavailable | None = None
        self._pending: set[_Pending] = set()
        self._batches = Batcher(self._flush, most=_MOST, size_of=_size)
        self._alone = Batcher(self._flush_alone, most=1)

    async def submit(self, request: RawRequest, *, seconds: float) -> Submitted:
        """Return what became of a request: started, queued or known.

        Raises:
            PgprogError: The refusal, by its SQLSTATE.
            Overloaded: It was not sent within *seconds*; nothing was done.
            StoreUnavailable: It was sent, and its outcome is unknown; or the client is closed.
        """
        if self._closed is not None:
            raise StoreUnavailable(str(self._closed))
        pending = _Pending(request, self._deadlines.loop.create_future())
        self._pending.add(pending)
        self._batches.add(pending)
        try:
            submitted = await within(pending.outcome, seconds=seconds, deadlines=self._deadlines)
        except TimeoutError as e:
            raise self._not_in_time(pending, seconds) from e
        finally:
            self._pending.discard(pending)
        if submitted.outcome not in _TAKEN:
            raise _refusal(submitted)
        return submitted

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._batches.run())
            tasks.create_task(self._alone.run())

    async def wait_idle(self) -> None:
        """Return when every request has its outcome."""
        await self._batches.wait_idle()
        await self._alone.wait_idle()

    def close(self, error: StoreUnavailable) -> None:
        """Raise *error* in all who still wait, and in all who come."""
        self._closed = error
        for pending in list(self._pending):
            _settle(pending, error)

    def _not_in_time(self, pending: _Pending, seconds: float) -> PgprogError:
        if self._batches.discard(pending) or self._alone.discard(pending):
            msg = f"the request could not be sent in {seconds:g} s; nothing was done"
            return Overloaded(msg, hint="the database is away, or a transaction holds the same key")
        msg = f"the request was not answered in {seconds:g} s; its outcome is unknown"
        return StoreUnavailable(msg, hint="repeat it with an idempotency key")

    async def _flush(self, batch: list[_Pending]) -> None:
        await self._deliver(batch, lane="batches")

    async def _flush_alone(self, batch: list[_Pending]) -> None:
        await self._deliver(batch, lane="alone")

    async def _deliver(self, batch: Sequence[_Pending], *, lane: RequestLane) -> None:
        batch = [pending for pending in batch if not pending.outcome.done()]
        if not batch:
            return
        try:
            submitted = await self._send([pending.request for pending in batch], lane=lane)
        except LockTimeout:
            for pending in batch:
                self._alone.add(pending)
        except DataFault as e:
            await self._find_culprit(batch, e, lane=lane)
        except (Unreachable, RolledBack):
            await self._repeat(batch)
        except StoreUnavailable as e:
            await self._repeat_keyed(batch, e)
        else:
            self._pause = _FIRST_PAUSE_SECONDS
            for pending, each in zip(batch, submitted, strict=True):
                _settle(pending, each)

    async def _repeat_keyed(self, batch: Sequence[_Pending], lost: StoreUnavailable) -> None:
        """Repeat what is safe to repeat; of the rest nobody knows whether it was done."""
        for pending in batch:
            if pending.request.idempotency_key is None:
                _settle(pending, StoreUnavailable(str(lost), hint=_REPEAT))
        await self._repeat([pending for pending in batch if not pending.outcome.done()])

    async def _repeat(self, batch: Sequence[_Pending]) -> None:
        for pending in batch:
            self._batches.add(pending)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    async def _find_culprit(
        self, batch: Sequence[_Pending], fault: DataFault, *, lane: RequestLane
    ) -> None:
        if len(batch) > 1:
            half = len(batch) // 2
            await self._deliver(batch[:half], lane=lane)
            await self._deliver(batch[half:], lane=lane)
        else:
            _settle(batch[0], InvalidArgument(str(fault)))


def _settle(pending: _Pending, outcome: Submitted | PgprogError) -> None:
    """Tell the caller, unless it has given up."""
    if pending.outcome.done():
        return
    if isinstance(outcome, PgprogError):
        pending.outcome.set_exception(outcome)
    else:
        pending.outcome.set_result(outcome)


def _refusal(submitted: Submitted) -> PgprogError:
    error = for_sqlstate(submitted.outcome) or PgprogError
    return error(submitted.message or submitted.outcome)


def _size(pending: _Pending) -> int:
    return len(pending.request.args or b"") + len(pending.request.context or b"")
