"""Requests on their way into the queue: in batches, each with its own outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pgprog.client.within import within
from pgprog.engine.batcher import Batcher
from pgprog.errors import InvalidArgument, Overloaded, PgprogError, StoreUnavailable, for_sqlstate
from pgprog.store.faults import DataFault, LockTimeout, RolledBack, Unreachable
from pgprog.store.rows import RawRequest, Submitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgprog.engine.deadlines import Deadlines
    from pgprog.store.engine_store import RequestLane

# Small enough that the starts of some callers overlap the completions of others: 200 callers make
# 1.1 to 1.4 times as many calls as in batches of 200 (bench/calls.py).
_MOST = 64
# With 2000 programs enqueue twice as fast as with 64, of which each batch is a commit to wait for.
_MOST_OF_MANY = 2000
# So many are made in a turn of the loop, which takes some 2 ms.
_AT_A_TURN = 100
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
    """A request; it *may_be_done* once it is sent, until it is known that it is not.

    *refused* is why it was not, the last time.
    """

    request: RawRequest
    outcome: asyncio.Future[Submitted]
    may_be_done: bool = False
    refused: Unreachable | RolledBack | None = None


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
        self._pending: set[_Pending] = set()
        self._batches = Batcher(self._flush, most=_MOST, size_of=_size)
        self._many = Batcher(self._flush_many, most=_MOST_OF_MANY, size_of=_size)
        self._alone = Batcher(self._flush_alone, most=1)

    async def submit(self, request: RawRequest, *, seconds: float) -> Submitted:
        """Return what became of a request: started, queued or known.

        Raises:
            PgprogError: The refusal, by its SQLSTATE.
            Overloaded: It was not sent within *seconds*; nothing was done.
            StoreUnavailable: It was sent, and its outcome is unknown; or the client is closed.
        """
        pending = self._add(request, to=self._batches)
        try:
            submitted = await within(pending.outcome, seconds=seconds, deadlines=self._deadlines)
        except TimeoutError as e:
            raise _not_in_time(pending, seconds) from e
        finally:
            self._pending.discard(pending)
        if (refusal := _refusal(submitted)) is not None:
            raise refusal
        return submitted

    async def submit_many(
        self, requests: Iterable[RawRequest | PgprogError], *, seconds: float
    ) -> list[Submitted | PgprogError]:
        """Return what became of each, in order: what `submit` returns or raises.

        What is an error already stays one.  Each is made while those before it are on their way.
        """
        many: list[_Pending] = []
        faults: dict[int, PgprogError] = {}
        deadline = self._deadlines.set(seconds, _expire, (many, seconds))
        try:
            for pos, request in enumerate(requests):
                if isinstance(request, RawRequest):
                    many.append(self._add(request, to=self._many))
                else:
                    faults[pos] = request
                if pos % _AT_A_TURN == _AT_A_TURN - 1:
                    await asyncio.sleep(0)
            # One after another: gather would cost a callback and a turn of the loop for each.
            settled = [await _settled(pending) for pending in many]
        finally:
            self._deadlines.clear(deadline)
            self._pending.difference_update(many)
            for pending in many:
                pending.outcome.cancel()  # nobody waits for it any more, be it an error
        outcomes = iter(settled)
        return [faults.get(pos) or next(outcomes) for pos in range(len(many) + len(faults))]

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
            _settle(pending, error)

    def _add(self, request: RawRequest, *, to: Batcher[_Pending]) -> _Pending:
        pending = _Pending(request, self._deadlines.loop.create_future())
        if self._closed is None:
            self._pending.add(pending)
            to.add(pending)
        else:
            _settle(pending, StoreUnavailable(str(self._closed)))
        return pending

    async def _flush(self, batch: list[_Pending]) -> None:
        await self._deliver(batch, lane="batches")

    async def _flush_many(self, batch: list[_Pending]) -> None:
        await self._deliver(batch, lane="many")

    async def _flush_alone(self, batch: list[_Pending]) -> None:
        await self._deliver(batch, lane="alone")

    async def _deliver(self, batch: Sequence[_Pending], *, lane: RequestLane) -> None:
        batch = [pending for pending in batch if not pending.outcome.done()]
        if not batch:
            return
        for pending in batch:
            pending.may_be_done = True
        try:
            submitted = await self._send([pending.request for pending in batch], lane=lane)
        except LockTimeout:
            _take_back(batch, to=self._batches if lane == "many" else self._alone)
        except DataFault as e:
            await self._find_culprit(batch, e, lane=lane)
        except (Unreachable, RolledBack) as e:
            for pending in batch:
                pending.refused = e
            _take_back(batch, to=self._batches)
            await self._wait()
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
        for pending in batch:
            if not pending.outcome.done():
                self._batches.add(pending)
        await self._wait()

    async def _wait(self) -> None:
        """Let the database come back; who has given up meanwhile takes no memory."""
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        for batcher in (self._many, self._batches, self._alone):
            batcher.forget(lambda pending: pending.outcome.done())

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


def _take_back(batch: Iterable[_Pending], *, to: Batcher[_Pending]) -> None:
    """Put requests of which nothing was done into another batch."""
    for pending in batch:
        pending.may_be_done = False
        to.add(pending)


def _expire(late: tuple[Sequence[_Pending], float]) -> None:
    many, seconds = late
    for pending in many:
        _settle(pending, _not_in_time(pending, seconds))


def _not_in_time(pending: _Pending, seconds: float) -> PgprogError:
    if not pending.may_be_done:
        msg = f"the request could not be sent in {seconds:g} s; nothing was done"
        if (why := pending.refused) is not None:
            return Overloaded(f"{msg}: {why}", hint=getattr(why, "hint", None))
        return Overloaded(msg, hint="the database is away, or a transaction holds the same key")
    msg = f"the request was not answered in {seconds:g} s; its outcome is unknown"
    return StoreUnavailable(msg, hint="repeat it with an idempotency key")


async def _settled(pending: _Pending) -> Submitted | PgprogError:
    try:
        submitted = await pending.outcome
    except PgprogError as e:
        return e
    return _refusal(submitted) or submitted


def _refusal(submitted: Submitted) -> PgprogError | None:
    if submitted.outcome in _TAKEN:
        return None
    error = for_sqlstate(submitted.outcome) or PgprogError
    return error(submitted.message or submitted.outcome)


def _size(pending: _Pending) -> int:
    return len(pending.request.args or b"") + len(pending.request.context or b"")
