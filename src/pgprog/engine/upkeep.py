"""What a worker does beside its tasks: collecting zombies, housekeeping, hints to others."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.engine.collector import Collector
from pgprog.errors import StoreUnavailable
from pgprog.model import TaskType
from pgprog.store import wakeups
from pgprog.store.faults import RolledBack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta

    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed

log = logs.get(__name__)

_MAINTAIN_SECONDS = 60.0
# The payload of a notification has 8000 bytes.
_MOST_IDS = 350
_AWAITED = frozenset({TaskType.INIT, TaskType.CALL, TaskType.REPAIR})


class Upkeep:
    """Loops that nothing waits for; each failure of theirs is mended by the next round."""

    def __init__(
        self,
        store: EngineStore,
        *,
        direct_dsn: str,
        namespaces: Iterable[str],
        lease: timedelta,
        task_retention: timedelta,
        key_ttl: timedelta,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._direct_dsn = direct_dsn
        self._namespaces = frozenset(namespaces)
        self._task_retention = task_retention
        self._key_ttl = key_ttl
        self._wake = wake
        self._collector = Collector(store, lease=lease, on_freed=wake)
        self._ended = wakeups.Hints(self._announce)

    def announce_end(self, claimed: Claimed) -> None:
        """Tell other programs, with the next hint, that a task has ended."""
        if claimed.type in _AWAITED:
            self._ended.add(claimed.task_id)

    async def run(self) -> None:
        """Go round until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._collector.run())
            loops.create_task(self._maintain())
            loops.create_task(self._ended.run())
            loops.create_task(
                wakeups.listen(
                    self._direct_dsn,
                    channels=(wakeups.DUE,),
                    hear=self._hear,
                    name="pgprog worker",
                )
            )

    def _hear(self, _channel: str, namespace: str) -> None:
        if not namespace or namespace in self._namespaces:
            self._wake()

    async def _maintain(self) -> None:
        while True:
            try:
                await self._store.maintain(
                    task_retention=self._task_retention, key_ttl=self._key_ttl
                )
            except (RolledBack, StoreUnavailable) as e:
                log.warning("maintenance_failed", detail=str(e))
            await asyncio.sleep(_MAINTAIN_SECONDS * random.uniform(0.8, 1.2))

    async def _announce(self, task_ids: Sequence[int]) -> None:
        payload = ",".join(map(str, task_ids)) if len(task_ids) <= _MOST_IDS else ""
        await self._store.announce(wakeups.ENDED, [payload])
