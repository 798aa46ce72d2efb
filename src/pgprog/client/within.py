"""A bound on the wait for one future: a fraction of the price of `asyncio.timeout`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

    from pgprog.engine.deadlines import Deadlines

T = TypeVar("T")


async def within(future: asyncio.Future[T], *, seconds: float, deadlines: Deadlines) -> T:
    """Return the result of a future that nobody else waits for.

    Raises:
        TimeoutError: It did not come in time; the future is done with that.
    """
    deadline = deadlines.set(seconds, _expire, future)
    try:
        return await future
    finally:
        deadlines.clear(deadline)


def _expire(future: asyncio.Future[object]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
