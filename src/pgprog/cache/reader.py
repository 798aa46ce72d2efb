"""Keeps a cache true: brings it what the stream tells, and beats of the database's state."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pgprog import logs
from pgprog.cache.gate import Gate
from pgprog.cache.snapshots import Snapshot
from pgprog.cache.stream import changes_of
from pgprog.errors import PgprogError
from pgprog.replication.messages import Connected, Lost, Oversized, Progress, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.cache.fence import Cache
    from pgprog.replication.messages import FeedEvent
    from pgprog.store.beats import Beat, Beats

log = logs.get(__name__)

_BEAT_SECONDS: Final = 0.15
# While something is held back until it is visible.
_GATE_SECONDS: Final = 0.005
# Before the servers that answer are compared again.
_APART_SECONDS: Final = 1.0
_ELSEWHERE: Final = "another server answers"


class Reader:
    """Takes what a stream tells, which *reopen* opens anew, and asks *beats*.

    *server* is that of the cache while it is warm: reads of another are not for it.  *connections*
    counts the streams that were opened.
    """

    def __init__(self, cache: Cache, beats: Beats, *, reopen: Callable[[], None]) -> None:
        self.server: str | None = None
        self.connections = 0
        self._cache = cache
        self._gate = Gate(cache)
        self._beats = beats
        self._reopen = reopen
        self._connected: Connected | None = None
        self._ends = 0  # how many times the cache had to be given up
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            if (connected := self._connected) is not None:
                with suppress(PgprogError):  # the lease ends by itself
                    ask = self._beat if self._cache.is_warm else self._warm_up
                    await ask(connected)
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    _GATE_SECONDS if self._gate.is_waiting else _BEAT_SECONDS
                ):
                    await self._hurry.wait()
            self._hurry.clear()

    def hear(self, event: FeedEvent) -> None:
        """Take what the stream tells next."""
        now, was_waiting = time.monotonic(), self._gate.is_waiting
        if type(event) is Transaction:
            changes = changes_of(event.changes)
            if changes is None:
                self._empty("a table was emptied or altered")
            else:
                self._gate.on_transaction(event.xid, event.end_lsn, changes, now=now)
        elif type(event) is Progress:
            self._gate.on_progress(event.lsn, now=now)
        elif type(event) is Oversized:
            self._empty(f"transaction {event.xid} has {event.size} bytes")
        elif type(event) is Connected:
            self._go_cold()
            self._cache.lease.restart(event.lsn)
            self.connections += 1
            self._connected = event
            self._hurry.set()
        elif type(event) is Lost:
            self._go_cold()
            self._connected = None
        if self._gate.is_waiting and not was_waiting:
            self._hurry.set()

    async def _warm_up(self, connected: Connected) -> None:
        ends = self._ends
        self._cache.listen()
        taken_at = await self._beats.take_xid()
        beat = await self._beats.beat(connected.publications)
        if ends != self._ends:
            return  # the stream was lost meanwhile, or told what ends the cache
        if taken_at != beat.server:
            return  # the connection was lost between the two, and leads elsewhere
        if fault := _fault_of(connected, beat):
            await self._begin_anew(fault)
            return
        if beat.server != self.server:
            self._cache.forget_told()
        self.server = beat.server
        self._gate.is_shut = beat.has_standby
        self._cache.warm_up(Snapshot.parse(beat.snapshot))
        self._hurry.set()  # nothing is served before the first beat

    async def _beat(self, connected: Connected) -> None:
        ends, sent_at = self._ends, time.monotonic()
        beat = await self._beats.beat(connected.publications)
        if ends != self._ends:
            return
        if fault := _fault_of(connected, beat):
            await self._begin_anew(fault)
            return
        now, snapshot = time.monotonic(), Snapshot.parse(beat.snapshot)
        self._gate.is_shut = beat.has_standby
        self._cache.on_beat(snapshot, beat.lsn, sent_at=sent_at, now=now)
        self._gate.on_snapshot(snapshot, now=now)

    async def _begin_anew(self, fault: str) -> None:
        """Open another stream, which looks at everything first, and says what is wrong."""
        log.warning("cache_emptied", detail=fault)
        self._go_cold()
        self._connected = None
        self._reopen()
        if fault == _ELSEWHERE:  # either of the two may be at the wrong one
            await self._beats.reconnect()
            await asyncio.sleep(_APART_SECONDS)

    def _empty(self, why: str) -> None:
        """Begin to keep anew: of this the stream does not tell enough."""
        log.warning("cache_emptied", detail=why)
        self._go_cold()
        self._hurry.set()

    def _go_cold(self) -> None:
        self._ends += 1
        self._gate.clear()
        self._cache.go_cold()


def _fault_of(connected: Connected, beat: Beat) -> str | None:
    """Return why nothing that the stream tells can be trusted any longer.

    What it does is known as of when it was opened: an alteration since then, seen by the first
    beat or a later one, is one of which nobody has looked at what it leaves out.
    """
    if beat.in_recovery or beat.server != connected.server:
        return _ELSEWHERE
    if beat.missing or beat.fingerprint != connected.fingerprint:
        return "the publications were altered"
    return None
