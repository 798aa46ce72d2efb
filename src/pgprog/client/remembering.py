"""Which memory a client reads from: its own, that of a shared reader, or none."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pgprog.client.cached_reads import CachedReads
from pgprog.client.shared.reads import SharedReads
from pgprog.store.pool import conninfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pgprog.client.memory import Memory
    from pgprog.config import CacheSettings
    from pgprog.replication.shared import Feed
    from pgprog.store.client_store import ClientStore

_NAME = "pgprog client"


@asynccontextmanager
async def remembering(
    store: ClientStore,
    cache: Mapping[str, CacheSettings],
    reader: str | None,
    feed: Feed,
    dsns: tuple[str, str],
) -> AsyncIterator[Memory | None]:
    """Keep the memory for as long as the block lasts; *dsns* are the usual and the direct one.

    Raises:
        ConfigError: The direct one cannot be read.
    """
    dsn, direct_dsn = dsns
    conninfo(direct_dsn, name=_NAME)  # who uses it later is a loop that must not end of it
    if cache:
        cached = CachedReads(cache, store)
        async with cached.follow(feed, direct_dsn, name=_NAME):
            yield cached
    elif reader is not None:
        shared = SharedReads(reader, store, dsn=dsn, name=_NAME)
        async with shared.follow():
            yield shared
    else:
        yield None
