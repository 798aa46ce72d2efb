"""A bound on the wait for one future: half the price of `asyncio.timeout`, paid twice a call."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def within(future: asyncio.Future[T], *, seconds: float) -> T:
    """Return the result of a future that nobody else waits for.

    Raises:
        TimeoutError: It did not come in time; the future is done with that.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _expire, future)
    try:
        return await future
    finally:
        timer.cancel()


def _expire(future: asyncio.Future[T]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
