"""A clock that is an hour late, for every Python program that finds this on its path."""

from __future__ import annotations

import datetime as dt
import time

_HOUR = 3600.0
_time, _time_ns = time.time, time.time_ns


class _Late(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> _Late:
        return cls.fromtimestamp(_time() - _HOUR, tz)


time.time = lambda: _time() - _HOUR
time.time_ns = lambda: _time_ns() - int(_HOUR * 1e9)
dt.datetime = _Late  # type: ignore[misc] # what a wrong clock looks like from Python
