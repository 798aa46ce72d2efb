"""Read from memory in a test, which takes a moment to be filled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog import AsyncClient
    from pgprog.model import Process


async def cached(
    client: AsyncClient, *, where: Callable[[Process[Any]], bool] = lambda _: True, **options: Any
) -> Process[Any]:
    """Return process o-1 from memory, once it is there as it should be."""
    async with asyncio.timeout(20):
        while True:
            found = await client.get("orders", "o-1", **options)
            if found is not None and found.source == "cache" and where(found):
                return found
            await asyncio.sleep(0.01)
