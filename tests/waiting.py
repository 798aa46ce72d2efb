"""Waiting for what others do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A loop that never rests takes the processor from the programs it waits for: both cores of two.
_PAUSE_SECONDS = 0.01


def until(is_so: Callable[[], object]) -> None:
    """Return once it is so; the time-out of the test ends a wait in vain."""
    while not is_so():
        time.sleep(_PAUSE_SECONDS)


async def until_on_loop(is_so: Callable[[], object], *, within: float = 30) -> None:
    """Return once it is so, while the loop goes on; after *within* seconds a wait was in vain."""
    async with asyncio.timeout(within):
        while not is_so():
            await asyncio.sleep(_PAUSE_SECONDS)
