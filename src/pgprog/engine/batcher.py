"""Batches without a timer: what piles up while one flush is in flight is the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Batcher(Generic[T]):
    """Hands items to *flush*, in the order in which they came, one flush at a time for each `run`.

    A batch has at most *most* items, of which one may count for several by *count_of*, and, beyond
    the first, *most_bytes* by *size_of*.  *flush* deals with every failure by itself: what it
    raises ends `run`.  What waits and *is_over* may be taken back.
    """

    def __init__(
        self,
        flush: Callable[[list[T]], Awaitable[None]],
        *,
        most: int,
        size_of: Callable[[T], int] = lambda _: 0,
        count_of: Callable[[T], int] | None = None,
        most_bytes: int = 8 << 20,
        is_over: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._flush = flush
        self._most = most
        self._size_of = size_of
        self._count_of = count_of
        self._most_bytes = most_bytes
        self._is_over = is_over
        self._given_up = 0
        self._items: deque[T] = deque()
        self._flights = 0
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def add(self, item: T) -> None:
        """Put *item* into the next batch that has room."""
        self._items.append(item)
        self._idle.clear()
        self._filled.set()

    def give_up(self) -> None:
        """Count one that is over and perhaps waits; take all such back when they are the most.

        So they take no more room than what is waited for, at a price of two looks for each.
        """
        self._given_up += 1
        if 2 * self._given_up > len(self._items):
            self.forget()

    def forget(self) -> None:
        """Take back what waits and is over."""
        self._given_up = 0
        self._items = deque(item for item in self._items if not self._is_over(item))

    async def run(self) -> None:
        """Flush until cancelled; as many flushes are in flight as this is running."""
        while True:
            await self._filled.wait()
            while batch := self._next_batch():
                self._flights += 1
                try:
                    await self._flush(batch)
                finally:
                    self._flights -= 1
                await asyncio.sleep(0)  # a batch that ends and one that begins are long enough each
            self._filled.clear()
            if not self._flights:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return when nothing waits and nothing is in flight."""
        await self._idle.wait()

    def _next_batch(self) -> list[T]:
        batch: list[T] = []
        count = size = 0
        while self._items and count < self._most:
            count += 1 if self._count_of is None else self._count_of(self._items[0])
            size += self._size_of(self._items[0])
            if batch and (size > self._most_bytes or count > self._most):
                break
            batch.append(self._items.popleft())
        return batch
