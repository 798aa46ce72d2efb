"""The end of a worker: its steps may end before it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.engine.completer import Completer
    from pgprog.engine.runner import Runner


async def wait_settled(
    runner: Runner, completer: Completer, *, loops: asyncio.Task[None], within: timedelta
) -> None:
    """Return when all steps have ended, in time, or can end no more: a loop has failed."""
    settling = asyncio.create_task(_settle(runner, completer))
    try:
        await asyncio.wait(
            [settling, loops],
            timeout=within.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        settling.cancel()


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and return when it has ended; raises what it failed with.

    Who is cancelled meanwhile waits for that end as well, and then hears of its own cancellation:
    to await the task with `CancelledError` suppressed would swallow both.
    """
    task.cancel()
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise
    if not task.cancelled():
        task.result()


async def _settle(runner: Runner, completer: Completer) -> None:
    await runner.wait_idle()
    await completer.wait_idle()
