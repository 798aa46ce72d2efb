"""What a client or an embedded engine shows of itself: a registry for Prometheus."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from functools import cached_property
from typing import TYPE_CHECKING, Self

from pgprog.metrics import Metrics
from pgprog.store.gauges import Gauges

if TYPE_CHECKING:
    from pgprog.metrics import Sample
    from pgprog.metrics.exposition import CollectorRegistry

# A look at the database takes half a second at most; the loop may be late.
_PATIENCE_SECONDS = 1.0


class Figures:
    """The metrics of one client, with the gauges of its database; an async context manager."""

    def __init__(self, dsn: str, *, name: str) -> None:
        self.metrics = Metrics()
        self._gauges = Gauges(dsn, name=name)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refreshing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Begin to look into the database when somebody asks."""
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Look no more."""
        self._loop = None
        await self._gauges.close()

    @cached_property
    def registry(self) -> CollectorRegistry:
        """A registry of its own, which any thread may read, and the event loop too.

        Raises:
            ConfigError: prometheus-client is not installed.
        """
        from pgprog.metrics.exposition import registry_of  # noqa: PLC0415 - who asks has it

        return registry_of(self._read)

    def _read(self) -> list[Sample]:
        self._refresh()
        return [*self.metrics.samples(), *self._gauges.samples]

    def _refresh(self) -> None:
        """Look into the database; where the loop itself asks, the next scrape has what is found."""
        loop = self._loop
        if loop is None:
            return
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:
                task = loop.create_task(self._gauges.refresh())
                self._refreshing.add(task)
                task.add_done_callback(self._refreshing.discard)
                return
        looking = self._gauges.refresh()
        try:
            future = asyncio.run_coroutine_threadsafe(looking, loop)
        except RuntimeError:  # the loop was closed meanwhile
            looking.close()
            return
        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            future.result(_PATIENCE_SECONDS)
