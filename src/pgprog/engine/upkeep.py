"""What a worker does beside its tasks: zombies, bad settings, housekeeping, hints to others."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from enum import StrEnum
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.engine.collector import LONE_LOOK_SECONDS, Collector
from pgprog.engine.pulse import Sign
from pgprog.errors import StoreUnavailable
from pgprog.model import TaskType
from pgprog.store import wakeups
from pgprog.store.faults import OUTLIVED, DataFault, RolledBack, Unforeseen

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgprog.config import Config
    from pgprog.store.engine_store import CompletionLane, EngineStore
    from pgprog.store.rows import Claimed, TakenBack

log = logs.get(__name__)

_MAINTAIN_SECONDS = 60.0
# Between two batches of what is erased, or two drops: others are to be served, too.
_ERASE_SECONDS = 0.1
_MEASURE_SECONDS = 1.0
# In rounds of measuring: all that an idle worker asks for shall be fewer than two statements a
# second, of which its claims and renewals are one and a half.
_JUDGE_ROUNDS = 5
_IDLE_ROUNDS = 10
# The payload of a notification has 8000 bytes.
_MOST_IDS = 350
_AWAITED = frozenset({TaskType.INIT, TaskType.CALL, TaskType.REPAIR})


class Role(StrEnum):
    """What a worker program does: run steps, end zombies, keep house, answer over HTTP.

    A reader, which serves other programs from memory, is one for a machine: only who is asked for
    it by name is one.
    """

    STEPS = "steps"
    COLLECTOR = "collector"
    MAINTENANCE = "maintenance"
    HTTP = "http"
    READER = "reader"


# A reader is one for a machine: only who asks for it gets it.
DEFAULT_ROLES = frozenset(Role) - {Role.READER}


class Upkeep:
    """Loops that nothing waits for; each failure of theirs is mended by the next round."""

    def __init__(
        self,
        store: EngineStore,
        *,
        config: Config,
        roles: Collection[Role],
        wake: Callable[[], None],
        is_busy: Callable[[], bool] = lambda: False,
        is_few: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._config = config
        self._roles = roles
        self._is_busy = is_busy
        self._collector = Collector(store, lease=config.worker.lease, on_freed=wake)
        self._is_few = is_few
        self._measures = 0
        self._ended = wakeups.Hints(self._announce)
        self._ended_of_few = wakeups.Hints(functools.partial(self._announce, lane="few"))

    @property
    def signs(self) -> tuple[Sign, ...]:
        """The parts that go round by the roles."""
        measures, looks = _MEASURE_SECONDS * _IDLE_ROUNDS, LONE_LOOK_SECONDS
        signs = {
            Role.COLLECTOR: Sign(
                name="collector", count=lambda: self._collector.looks, rests_seconds=looks
            ),
            Role.MAINTENANCE: Sign(
                name="maintenance", count=lambda: self._measures, rests_seconds=measures
            ),
        }
        return tuple(sign for role, sign in signs.items() if role in self._roles)

    def announce_end(self, claimed: Claimed) -> None:
        """Tell other programs, with the next hint, that a task has ended.

        What is one of few beside many does not wait for the next hint of these.
        """
        if claimed.type in _AWAITED:
            hints = self._ended_of_few if self._is_few(claimed.namespace) else self._ended
            hints.add(claimed.task_id)

    async def run(self) -> None:
        """Go round until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._ended.run())
            loops.create_task(self._ended_of_few.run())
            if Role.COLLECTOR in self._roles:
                loops.create_task(self._collector.run())
            if Role.MAINTENANCE in self._roles:
                loops.create_task(self._maintain())
            if {Role.COLLECTOR, Role.MAINTENANCE} & {*self._roles}:
                loops.create_task(self._watch())

    async def _maintain(self) -> None:
        """Keep house each minute; in between, erase what is old for as long as there is any."""
        clock = asyncio.get_running_loop().time
        parts = self._store.metrics.parts
        part = parts.watch("maintenance", patience=5 * _MAINTAIN_SECONDS, is_needed=False)
        while True:
            next_at = clock() + _MAINTAIN_SECONDS * random.uniform(0.8, 1.2)
            try:
                await self._store.maintain(key_ttl=self._config.key_ttl)
                await self._drop_old(until=next_at)
                await self._erase_old(until=next_at)
                part.succeeded()
            except OUTLIVED as e:
                part.failed(f"the housekeeping failed: {e}")
                log.warning("maintenance_failed", detail=str(e))
            await asyncio.sleep(next_at - clock())

    async def _drop_old(self, *, until: float) -> None:
        while await self._store.drop_old(task_retention=self._config.task_retention):
            if asyncio.get_running_loop().time() > until:
                return
            await asyncio.sleep(_ERASE_SECONDS)

    async def _erase_old(self, *, until: float) -> None:
        config = self._config
        while await self._store.erase_old(
            key_ttl=config.key_ttl, audit_retention=config.audit_retention
        ):
            if asyncio.get_running_loop().time() > until:
                return
            await asyncio.sleep(_ERASE_SECONDS)

    async def _watch(self) -> None:
        """Measure the queues each second, and judge settings each fifth.

        While nothing is done here, both now and then.
        """
        idle_rounds = 0
        judged_ago = _JUDGE_ROUNDS
        while True:
            await asyncio.sleep(_MEASURE_SECONDS)
            judged_ago += 1
            idle_rounds = 0 if self._is_busy() else idle_rounds + 1
            if idle_rounds and (idle_rounds - 1) % _IDLE_ROUNDS:
                continue
            is_judging = Role.COLLECTOR in self._roles and judged_ago >= _JUDGE_ROUNDS
            if is_judging:
                judged_ago = 0
            with contextlib.suppress(StoreUnavailable):  # the next round tries again
                try:
                    await self._tell_back(await self._ask(is_judging=is_judging))
                except (Unforeseen, DataFault) as e:
                    log.warning("queues_not_measured", detail=str(e))
                except RolledBack:
                    pass
                self._measures += 1

    async def _ask(self, *, is_judging: bool) -> Sequence[TakenBack]:
        """Measure and judge in one statement, as far as the roles are ours."""
        if Role.MAINTENANCE not in self._roles:
            return await self._store.judge_settings() if is_judging else ()
        if is_judging:
            return await self._store.measure_and_judge()
        await self._store.measure_queues()
        return ()

    async def _tell_back(self, taken_back: Sequence[TakenBack]) -> None:
        """Say which changes of settings were taken back; who listens obeys at once."""
        for back in taken_back:
            self._store.metrics.settings_rollbacks.add()
            log.error("settings_rolled_back", **back._asdict())
            await self._store.announce(wakeups.DUE, [back.namespace])

    async def _announce(self, task_ids: Sequence[int], *, lane: CompletionLane = "batches") -> None:
        payload = ",".join(map(str, task_ids)) if len(task_ids) <= _MOST_IDS else ""
        await self._store.announce(wakeups.ENDED, [payload], lane=lane)
