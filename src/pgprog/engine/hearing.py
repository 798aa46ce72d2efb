"""How a worker hears from elsewhere that something is due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgprog.replication import inserts
from pgprog.replication.shared import Feed
from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pgprog.config import Config
    from pgprog.engine.scanner import Scanner

# The stream tells a commit a moment before a claim can see it: mostly less than the first pause,
# but longer where cores are scarce or the commit waits for a standby.
_AGAIN_SECONDS = (0.005, 0.02, 0.08)


class Hearing:
    """Wakes *scanner* for tasks and timers of *namespaces*, by what `worker.wakeups` says.

    All of it only makes the scanner sooner: it polls in any case.  Another's *feed* is run by that
    one; without, it has its own.
    """

    def __init__(
        self,
        config: Config,
        namespaces: Collection[str],
        *,
        scanner: Scanner,
        name: str,
        feed: Feed | None = None,
    ) -> None:
        self._dsn = config.direct_dsn or config.dsn
        self._wakeups = config.worker.wakeups
        self._namespaces = frozenset(namespaces)
        self._scanner = scanner
        self._name = name
        self._feed = feed
        self._again: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Hear until cancelled."""
        async with asyncio.TaskGroup() as ways:
            if self._wakeups != "poll":
                ways.create_task(
                    wakeups.listen(
                        self._dsn, channels=(wakeups.DUE,), hear=self._notified, name=self._name
                    )
                )
            if self._wakeups == "stream":
                ways.create_task(self._follow())

    async def _follow(self) -> None:
        feed = self._feed or Feed(self._dsn, name=f"{self._name} reader")
        with inserts.hearing(feed, inserts.DUE, told=self._told, look=self._scanner.wake):
            if feed is self._feed:
                await asyncio.Event().wait()
            else:
                await feed.run()

    def _notified(self, _channel: str, namespace: str) -> None:
        if not namespace or namespace in self._namespaces:
            self._scanner.wake()

    def _told(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take the namespaces of tasks and timers, and when they are due by the database's clock.

        Where our clock is not that, polling makes up for it.
        """
        due = [due_at for namespace, due_at in rows if namespace in self._namespaces]
        if not due:
            return
        seconds = (min(due) - datetime.now(UTC)).total_seconds()
        if seconds > 0:
            self._scanner.due_in(seconds)
            return
        self._look(_AGAIN_SECONDS)

    def _look(self, again: Sequence[float]) -> None:
        """Wake the scanner now and after each of these pauses, but for those of an earlier look."""
        self._scanner.wake()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if again:
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(again[0], self._look, again[1:])
