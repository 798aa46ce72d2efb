"""Instants and durations as Python's own, whatever library has made them.

Those of pendulum are datetimes and timedeltas, and reckon in their own way: a difference of theirs
cannot be divided by a timedelta, and msgspec writes none of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NOTHING = timedelta()


def plain_instant(at: datetime) -> datetime:
    """Return an aware instant as a datetime that is no subclass."""
    # By the functions of C, which ask no subclass.
    return at if type(at) is datetime else _EPOCH + datetime.__sub__(at, _EPOCH)


def plain_duration(duration: timedelta) -> timedelta:
    """Return a duration as a timedelta that is no subclass."""
    return duration if type(duration) is timedelta else timedelta.__add__(duration, _NOTHING)
