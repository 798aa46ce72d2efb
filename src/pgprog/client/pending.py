"""Requests on their way, each by itself or many in a parcel, until their callers are told."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from pgprog.errors import Overloaded, PgprogError, StoreUnavailable, for_sqlstate
from pgprog.store.rows import Submitted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence

    from pgprog.store.columns import Columns
    from pgprog.store.faults import RolledBack, Unreachable
    from pgprog.store.rows import RawRequest

MOST_BYTES = 8 << 20
_TAKEN = frozenset({"started", "queued", "known"})
_outcome_of = itemgetter(Submitted._fields.index("outcome"))


@dataclass(slots=True, eq=False)
class Pending:
    """A request; it *may_be_done* once it is sent, until it is known that it is not.

    *refused* is why it was not, the last time.  Once an answer *was_lost* that is never known: what
    a repeat meets says nothing of what was sent before.
    """

    request: RawRequest
    outcome: asyncio.Future[Submitted]
    may_be_done: bool = False
    was_lost: bool = False
    refused: Unreachable | RolledBack | None = None


@dataclass(slots=True, eq=False)
class Parcel:
    """Requests that were asked for at once and travel together, at a third of the price of each.

    What does not get through is *opened*: each request goes on by itself.
    """

    requests: Columns
    outcomes: asyncio.Future[Sequence[Submitted | PgprogError] | None]
    may_be_done: bool = False
    opened: Sequence[Pending] = ()


def is_over(late: Pending | Parcel) -> bool:
    """Return whether the caller was told, or has given up."""
    return late.outcomes.done() if isinstance(late, Parcel) else late.outcome.done()


def settle(pending: Pending, outcome: Submitted | PgprogError) -> None:
    """Tell the caller, unless it has given up."""
    if pending.outcome.done():
        return
    if isinstance(outcome, PgprogError):
        pending.outcome.set_exception(outcome)
    else:
        pending.outcome.set_result(outcome)


def settle_all(parcel: Parcel, outcomes: Sequence[Submitted | PgprogError]) -> None:
    """Tell the caller of many, unless it has given up."""
    if not parcel.outcomes.done():
        parcel.outcomes.set_result(outcomes)


def split(requests: Columns) -> Iterator[Columns]:
    """Yield what fits into a batch; nothing where there is nothing."""
    if len(requests) > 1 and requests.size() > MOST_BYTES:
        half = len(requests) // 2
        yield from split(requests[:half])
        yield from split(requests[half:])
    elif requests:
        yield requests


def expire(late: tuple[Sequence[Parcel], float]) -> None:
    """Tell callers whose time is up, in so many seconds, what is known of their requests."""
    parcels, seconds = late
    for parcel in parcels:
        if parcel.outcomes.done():
            for pending in parcel.opened:
                settle(pending, not_in_time(pending, seconds))
        else:
            settle_all(parcel, [not_in_time(parcel, seconds) for _ in parcel.requests])


def not_in_time(late: Pending | Parcel, seconds: float) -> PgprogError:
    """Return what to tell of a request whose time is up."""
    if not late.may_be_done:
        msg = f"the request could not be sent in {seconds:g} s; nothing was done"
        why = late.refused if isinstance(late, Pending) else None
        if why is not None:
            return Overloaded(f"{msg}: {why}", hint=getattr(why, "hint", None))
        return Overloaded(msg, hint="the database is away, or a transaction holds the same key")
    msg = f"the request was not answered in {seconds:g} s; its outcome is unknown"
    is_keyed = isinstance(late, Pending) and late.request.idempotency_key is not None
    return StoreUnavailable(
        msg, hint=f"repeat it with {'the same' if is_keyed else 'an'} idempotency key"
    )


def failed(pending: Pending, error: PgprogError) -> PgprogError:
    """Return what to tell of a request that failed, of which an earlier answer may be lost."""
    if not pending.was_lost:
        return error
    msg = f"an answer was lost, so the outcome is unknown, and the repeat failed: {error}"
    return StoreUnavailable(msg, hint=error.hint)


async def outcomes_of(parcel: Parcel) -> Sequence[Submitted | PgprogError]:
    """Return what became of each request of a parcel, when it is known of all."""
    outcomes = await parcel.outcomes
    if outcomes is None:
        return [await _settled(pending) for pending in parcel.opened]
    return outcomes


async def _settled(pending: Pending) -> Submitted | PgprogError:
    try:
        submitted = await pending.outcome
    except PgprogError as e:
        return e
    return refusal_of(submitted) or submitted


def told(submitted: Sequence[Submitted]) -> Sequence[Submitted | PgprogError]:
    """Return what callers are told: each that was taken, the error of each that was refused."""
    if _TAKEN.issuperset(map(_outcome_of, submitted)):
        return submitted
    return [refusal_of(each) or each for each in submitted]


def refusal_of(submitted: Submitted) -> PgprogError | None:
    """Return the error of a refused request, None for one that was taken."""
    if submitted.outcome in _TAKEN:
        return None
    error = for_sqlstate(submitted.outcome) or PgprogError
    return error(submitted.message or submitted.outcome)


def size_of(pending: Pending) -> int:
    """Return how many bytes the payloads of a request have."""
    return len(pending.request.args or b"") + len(pending.request.context or b"")
