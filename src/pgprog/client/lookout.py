"""When to look at a process again: when something is told of it, or when it is time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pgprog.cache.entries import Key
    from pgprog.client.memory import Memory

T = TypeVar("T")

POLL_SECONDS = 1.0
# A commit is told a moment before it is visible, and the end of any task may wake all who watch.
_LEAST_SECONDS: Final = 0.05


class Lookout:
    """Looks at a process whenever *memory* tells that it has changed, else once a second."""

    def __init__(self, memory: Memory | None, key: Key) -> None:
        self.told = asyncio.Event()
        self._memory = memory
        self._key = key
        self._is_told = False  # whatever may come after the last look

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Be told for as long as the block lasts."""
        try:
            yield
        finally:
            if self._memory is not None:
                self._memory.unwatch(self._key, self.told.set)

    async def look(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what *read* finds; what it may not have seen ends the next pause."""
        self._is_told = False  # if it fails, too
        is_told = await self._watch()
        found = await read()
        self._is_told = is_told
        return found

    async def pause(self) -> None:
        """Wait until it is worth while to look, or time to."""
        while not await self._is_woken():
            if not self._is_told or not await self._watch():
                return

    async def _watch(self) -> bool:
        return self._memory is not None and await self._memory.watch(self._key, self.told.set)

    async def _is_woken(self) -> bool:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self.told.wait()
                await asyncio.sleep(_LEAST_SECONDS)
        except TimeoutError:
            return self.told.is_set()
        finally:
            self.told.clear()
        return True
