"""Whether a worker makes progress, and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.store.probe import answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pgprog.daemon.notify import Manager
    from pgprog.engine import Sign, Vitals

log = logs.get(__name__)

_ASK_SECONDS = 2.0


class Progress:
    """Judges a worker by its *signs* of life, looking every *every* seconds.

    A part that stands still is at fault only if *asks*, on a connection of its own, says that the
    database answers: a database that is away is not the death of workers.  The first such look is
    a warning: the answer for the part may be on its way.  *silent* names what stands still.
    """

    def __init__(
        self,
        signs: Sequence[Sign],
        *,
        every: float,
        asks: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.silent: list[str] = []
        self.is_cut = False
        self._signs = signs
        self._every = every
        self._asks = asks
        self._clock = clock
        self._counts = {sign.name: sign.count() for sign in signs}
        self._moved_at = dict.fromkeys(self._counts, clock())
        self._is_suspected = False

    async def look(self) -> bool:
        """Return whether the worker makes progress, or could not if it wanted to."""
        self._see()
        if not self.silent:
            self.is_cut = self._is_suspected = False
            return True
        self.is_cut = not await self._asks()
        if self.is_cut:
            self._moved_at = dict.fromkeys(self._counts, self._clock())
            self._is_suspected = False
            return True
        was_suspected, self._is_suspected = self._is_suspected, True
        return not was_suspected

    def _see(self) -> None:
        now = self._clock()
        for sign in self._signs:
            count = sign.count()
            if sign.may_rest() or count != self._counts[sign.name]:
                self._counts[sign.name], self._moved_at[sign.name] = count, now
        self.silent = [
            sign.name
            for sign in self._signs
            if now - self._moved_at[sign.name] > sign.rests_seconds + self._every
        ]


@contextlib.asynccontextmanager
async def telling(manager: Manager, *, dsn: str) -> AsyncIterator[Callable[[Vitals], None]]:
    """Give what begins to tell *manager* of a worker that has started, to the end of the block."""
    begun: list[asyncio.Task[None]] = []

    def begin(vitals: Vitals) -> None:
        manager.ready(vitals.status())
        begun.append(asyncio.create_task(_tell(manager, vitals, dsn=dsn)))

    try:
        yield begin
    finally:
        for each in begun:
            each.cancel()


async def _tell(manager: Manager, vitals: Vitals, *, dsn: str) -> None:
    within = min(_ASK_SECONDS, manager.every / 2)
    asks = functools.partial(answers, dsn, name="pgprog watchdog", within=within)
    progress = Progress(vitals.signs, every=manager.every, asks=asks)
    while True:
        if await progress.look():
            manager.alive(vitals.status())
            if progress.is_cut:
                manager.troubled("the database does not answer")
        else:
            log.error("no_progress", parts=progress.silent)
            manager.troubled(f"no progress: {', '.join(progress.silent)}")
        await asyncio.sleep(manager.every)
