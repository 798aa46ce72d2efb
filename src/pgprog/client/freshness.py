"""How fresh a read has to be, in the words of `get`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

from pgprog.cache.lease import NEVER
from pgprog.client.requests import seconds_of
from pgprog.errors import InvalidArgument

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.model import Direction

    Timeout = float | timedelta | None

_BIGINT = (1 << 63) - 1
_INTEGER = (1 << 31) - 1
_SECONDS = 30.0


class Freshness(TypedDict, total=False):
    """The options of `get` that say how old its answer may be.

    *at_least* is a version: nothing older is answered.  *max_lag*, in seconds, bounds the age of
    what a cache gives; the namespace's setting does otherwise.  With *cache* false PostgreSQL is
    read.  *timeout* (30 s) bounds the wait for *at_least*.
    """

    at_least: int | None
    max_lag: Timeout
    cache: bool
    timeout: Timeout


class Range(NamedTuple):
    """Which events are wanted."""

    max_events: int
    after: int | None
    direction: Direction


NO_EVENTS = Range(0, None, "forward")


def range_of(max_events: int, after: int | None, direction: Direction) -> Range:
    """Return a range, checked; that of no events is `NO_EVENTS`.

    Raises:
        InvalidArgument: As `check_range`.
    """
    if type(max_events) is int and max_events == 0 and after is None:
        return NO_EVENTS
    check_range(max_events, after)
    return Range(max_events, after, direction)


def check_range(max_events: object, after: object) -> None:
    """Check what the database would take for another function, by the types of its arguments.

    Raises:
        InvalidArgument: A number is none, or greater than the database's.
    """
    if not is_within(max_events, 0, _INTEGER):
        msg = f"max_events is {max_events!r}, 0 to {_INTEGER} are allowed"
        raise InvalidArgument(msg)
    if after is not None and not is_within(after, -_BIGINT, _BIGINT):
        msg = f"after is {after!r}, the id of an event is needed"
        raise InvalidArgument(msg)


def is_within(value: object, least: int, greatest: int) -> bool:
    """Return whether *value* is a whole number from *least* to *greatest*."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= greatest


class Wanted(NamedTuple):
    """A `Freshness` that was checked; *at_least* 0 and *max_lag* None are nothing special.

    What is answered must be known as of a time after *since*.
    """

    at_least: int = 0
    max_lag: float | None = None
    may_be_cached: bool = True
    seconds: float = _SECONDS
    since: float = NEVER


ANYTHING = Wanted()


def wanted(freshness: Freshness) -> Wanted:
    """Return the freshness that is wanted.

    Raises:
        InvalidArgument: A value is none of its kind.
    """
    if not freshness:
        return ANYTHING
    at_least: object = freshness.get("at_least") or 0
    if not isinstance(at_least, int) or not is_within(at_least, 0, _BIGINT):
        msg = f"at_least is {at_least!r}, a version is needed"
        raise InvalidArgument(msg)
    max_lag = freshness.get("max_lag")
    return Wanted(
        at_least,
        None if max_lag is None else seconds_of(max_lag, default=0.0),
        freshness.get("cache", True),
        seconds_of(freshness.get("timeout"), default=_SECONDS),
    )
