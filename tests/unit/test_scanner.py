"""When the scanner looks again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pgprog.engine.holdings import Holdings
from pgprog.engine.scanner import Scanner
from pgprog.store.rows import Claims


class SlowStore:
    """Answers the first claim when it is let, the others at once: nothing is due for an hour."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.asked_again = asyncio.Event()

    async def claim(self, worker_id: int, max_tasks: int) -> Claims:
        if self.asked.is_set():
            self.asked_again.set()
        self.asked.set()
        await self.answer.wait()
        return Claims([], 3600.0)


class Free:
    """A lease that is held and a runner with room."""

    worker_id = 1
    room = 10

    async def wait(self) -> None:
        return


async def test_what_comes_due_while_a_claim_is_in_flight_is_looked_for() -> None:
    store, free = SlowStore(), Free()
    parts: Any = {"lease": free, "runner": free, "holdings": Holdings()}
    fake: Any = store
    scanner = Scanner(fake, **parts, poll_every=timedelta(hours=1))
    scanning = asyncio.create_task(scanner.run())
    await store.asked.wait()

    scanner.due_in(0.01)
    store.answer.set()

    await asyncio.wait_for(store.asked_again.wait(), 5)
    scanning.cancel()
