"""Read from memory in a test, which takes a moment to be filled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pgprog.config import Config, NamespaceConfig, NamespaceSettings, ReaderConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog import AsyncClient
    from pgprog.config import CacheSettings
    from pgprog.model import Process


def config_of_reader(db: str, path: str, *, cache: CacheSettings) -> Config:
    """Return the configuration of a reader of the namespace orders at *path*."""
    orders = NamespaceConfig(handlers="shop:orders", settings=NamespaceSettings(cache=cache))
    return Config(dsn=db, reader=ReaderConfig(socket=path), namespaces={"orders": orders})


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
