"""Where claims begin to look, while an old snapshot keeps what has ended."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pgprog import logs
from pgprog.store.faults import OUTLIVED
from pgprog.store.rows import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.engine.holdings import Holdings
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claims

log = logs.get(__name__)

# What takes PostgreSQL so long passes by many rows that have ended.
_SLOW_SECONDS: Final = 0.005
_SLOW_SECONDS_OF_ONE: Final = 60e-6
# Between two looks at all, a multiple of what one takes: they may have a fifth of a core.  One that
# has waited for a lock takes long, too.
_SHORTEST_REST_SECONDS: Final = 0.1
_LONGEST_REST_SECONDS: Final = 2.0
_REST: Final = 4
# One that is not answered waits for a lock or for a connection that is gone.
_LONGEST_LOOK_SECONDS: Final = 5.0
# What ranks before what was claimed and is committed after it mostly is some milliseconds late.
_LATE: Final = timedelta(milliseconds=100)
_FIRST: Final = Position(datetime.min.replace(tzinfo=UTC), 0)


class Passing:
    """Lets claims pass by what the last ones have looked at, while looking at all takes long.

    Rows that have ended stay while somebody's old snapshot may see them, all before what waits: a
    claim that looks at everything passes by each of them.  Behind one that took long they begin
    where the last one has come to, *since*.  What comes to wait before that, by its priority, from
    a commit that took long or from a worker that died, is looked for beside the claims, for a fifth
    of the time while steps run or something is made due (`wake`), and *poll_every* seconds apart
    otherwise; claims go back to it, at once: *on_found*.
    """

    def __init__(
        self,
        store: EngineStore,
        *,
        holdings: Holdings,
        poll_seconds: float,
        on_found: Callable[[], None],
    ) -> None:
        self.since: Position | None = None
        self._store = store
        self._holdings = holdings
        self._poll_seconds = poll_seconds
        self._on_found = on_found
        self._changed = asyncio.Event()
        self._told = asyncio.Event()
        self._asking: asyncio.Future[tuple[datetime | None, float]] | None = None
        self._is_stopping = False

    def learn(self, claims: Claims, *, since: Position | None, asked: int) -> None:
        """Choose where the next claim begins, by one for *asked* tasks that began at *since*."""
        if since is not self.since:
            return  # what was found meanwhile comes first
        is_slow = claims.seconds > max(_SLOW_SECONDS, asked * _SLOW_SECONDS_OF_ONE)
        if not is_slow and (since is None or since is _FIRST):
            self.since = None
        elif since is None:
            self.since = _FIRST  # the next one is as slow, and says how far it has come
            self._changed.set()
            self.wake()
        else:
            self.since = following(claims, since=since)

    def go_back(self) -> None:
        """Let the next claim look at everything: some of what waits first was handed back."""
        self.since = None

    def wake(self) -> None:
        """Look soon, also where no step runs: something was made due."""
        self._told.set()

    def stop(self) -> None:
        """Let `run` return."""
        self._is_stopping = True
        self._changed.set()
        self.wake()

    async def run(self) -> None:
        """Look for what claims pass by, until `stop`."""
        while not self._is_stopping:
            await self._changed.wait()
            self._changed.clear()
            rest = _SHORTEST_REST_SECONDS
            while await self._rested(rest) and (since := self.since) is not None:
                self._told.clear()
                rest = await self._look(since)

    async def _rested(self, seconds: float) -> bool:
        """Rest, and return False where passing by has begun anew meanwhile, or ends."""
        if not await _comes(self._changed, within=seconds) and not len(self._holdings):
            await _comes(self._told, within=self._poll_seconds - seconds)
        return not self._changed.is_set()

    async def _look(self, since: Position) -> float:
        """Let claims go back to what waits before *since*, and return how long to rest."""
        if since is _FIRST:
            return _SHORTEST_REST_SECONDS
        try:
            async with asyncio.timeout(_LONGEST_LOOK_SECONDS):
                rank, seconds = await self._asked(since)
        except (*OUTLIVED, TimeoutError) as e:
            log.warning("look_failed", detail=str(e) or "no answer")
            self.since = None  # the next claim finds it
            self._on_found()
            return _SHORTEST_REST_SECONDS
        if seconds < _SLOW_SECONDS:
            self.since = None
        elif rank is not None and self.since is not None:
            self.since = Position(rank, 0)
        if rank is not None:
            self._on_found()
        return min(max(_SHORTEST_REST_SECONDS, _REST * seconds), _LONGEST_REST_SECONDS)

    async def _asked(self, since: Position) -> tuple[datetime | None, float]:
        """Ask, once the last one is answered that was given up: they would queue behind it."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        self._asking = asyncio.ensure_future(self._store.first_rank(since))
        self._asking.add_done_callback(_seen)
        return await asyncio.shield(self._asking)


def following(claims: Claims, *, since: Position) -> Position:
    """Return where the claim behind one that began at *since* may begin.

    Where none is left that is no later than a moment ago: what is of low priority ranks in the
    future, and all that is asked for meanwhile before it.
    """
    seen = claims.seen or since
    is_all = claims.wait_seconds > 0
    return min(seen, Position(claims.told_at - _LATE, 0)) if is_all else seen


def _seen(asked: asyncio.Future[Any]) -> None:
    if not asked.cancelled():
        asked.exception()  # asyncio would print that of a look that nobody waits for any more


async def _comes(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True
