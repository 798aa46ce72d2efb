"""Tasks of asyncio that run beside the callers of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgprog import logs

if TYPE_CHECKING:
    import asyncio

log = logs.get(__name__)


def tell_failure_of(part: str, task: asyncio.Task[None]) -> None:
    """Log it when *task* fails, as `client_failed` with its *part*: it is a bug of pgprog."""

    def tell(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.error("client_failed", part=part, error=error)

    task.add_done_callback(tell)
