"""Clients of the chaos, which ask all night and log what they were told; and the workers' link."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from tests.chaos.fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

_CLIENTS = 2
_RATE = 8.0


class Load:
    """Asks from entering to `stop`, in a thread of its own; a client that dies is replaced.

    *link* is for the workers: it stands still between `drop_packets` and `pass_packets`.
    """

    def __init__(self, place: Path, dsn: str, *, seed: int) -> None:
        self._fleet = Fleet(place, dsn, seed=seed, rate=_RATE)
        self._loop = asyncio.new_event_loop()
        self._is_open = threading.Event()
        self._begin, self._end, self._close = (asyncio.Event() for _ in range(3))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._work()])

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_open.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for event in (self._begin, self._end, self._close):
            self._loop.call_soon_threadsafe(event.set)
        self._thread.join()
        self._loop.close()

    def begin(self) -> None:
        self._loop.call_soon_threadsafe(self._begin.set)

    def stop(self) -> None:
        """Return when each client has heard the ends that it waits for."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._ended.wait()

    def drop_packets(self) -> None:
        self._loop.call_soon_threadsafe(self.link.stall)

    def pass_packets(self) -> None:
        self._loop.call_soon_threadsafe(self.link.go_on)

    async def _work(self) -> None:
        fleet = self._fleet
        await fleet.open(workers=1, clients=_CLIENTS)
        [seat, *clients] = fleet.seats
        self.link = seat.link
        # The night has its own workers: the seat is left empty, and no client makes steps.
        fleet.seats.remove(seat)
        for client in clients:
            client.makes_steps = False
        self._is_open.set()
        try:
            await self._begin.wait()
            if not self._end.is_set():
                fleet.start(clients)
            replacing = asyncio.create_task(fleet.replace())
            await self._end.wait()
            replacing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await replacing
            if not self._close.is_set():
                await fleet.stop(clients)
            self._ended.set()
            await self._close.wait()
        finally:
            await self.link.close()
            await fleet.close()
