"""Tasks of asyncio that run beside the callers of a client."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgprog import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

log = logs.get(__name__)


def tell_failure_of(part: str, task: asyncio.Task[None]) -> None:
    """Log it when *task* fails, as `client_failed` with its *part*: it is a bug of pgprog."""

    def tell(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.error("client_failed", part=part, error=error)

    task.add_done_callback(tell)


@asynccontextmanager
async def running(part: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have *work* done beside the block, to its end; its failure is logged and ends nothing."""
    task = asyncio.create_task(work)
    tell_failure_of(part, task)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
