"""The SQL functions of what workers do beside their tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgprog.store.measuring import timed
from pgprog.store.rows import TakenBack

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.metrics import Metrics
    from pgprog.store.lane import Lane

# An idle worker asks for little in few statements.
_LIST_AND_SWEEP: Final = """
select worker_id, renewals from pgprog_engine.list_workers()
union all
select null, pgprog_engine.collect_zombies(null, null)
"""
_MEASURE_AND_JUDGE: Final = """
select j.* from pgprog_engine.judge_settings() as j
union all
select null, null, null, null, null from pgprog_engine.measure_queues()
"""


class Housekeeping:
    """The calls of collectors and of who keeps house, for who has their lanes.

    What is erased or counted may take a second at a time, and again, for as long as there is any: a
    look at other workers that came so late would prove nothing of them.
    """

    metrics: Metrics
    _upkeep: Lane
    _housekeeping: Lane

    async def list_workers(self) -> dict[int, int]:
        """Return the renewal counter of each worker incarnation."""
        return dict(await self._upkeep.fetch("select * from pgprog_engine.list_workers()"))

    async def list_workers_and_sweep(self) -> tuple[dict[int, int], int]:
        """Return the same, and how many tasks of workers were freed that are gone."""
        with timed(self.metrics.zombie_collection[()]):
            *counters, [_, freed] = await self._upkeep.fetch(_LIST_AND_SWEEP)
        self.metrics.zombies.add(by=freed)
        return dict(counters), int(freed)

    async def collect_zombies(self, worker_id: int, renewals: int) -> int:
        """End a worker that has this renewal counter; return how many tasks were freed."""
        with timed(self.metrics.zombie_collection[()]):
            [[count]] = await self._upkeep.fetch(
                "select pgprog_engine.collect_zombies(%s, %s)", (worker_id, renewals)
            )
        self.metrics.zombies.add(by=count)
        return int(count)

    async def maintain(self, *, key_ttl: timedelta) -> bool:
        """Do the housekeeping; False when another worker is at it."""
        [[done]] = await self._housekeeping.fetch("select pgprog_engine.maintain(%s)", (key_ttl,))
        return bool(done)

    async def drop_old(self, *, task_retention: timedelta) -> bool:
        """Drop one partition whose time is over; return whether there is more to drop at once."""
        [[more]] = await self._housekeeping.fetch(
            "select pgprog_engine.drop_old(%s)", (task_retention,)
        )
        return bool(more)

    async def erase_old(self, *, key_ttl: timedelta, audit_retention: timedelta) -> bool:
        """Erase a batch of what nobody asks for any more; return whether there is more."""
        [[more]] = await self._housekeeping.fetch(
            "select pgprog_engine.erase_old(%s, %s)", (key_ttl, audit_retention)
        )
        return bool(more)

    async def measure_queues(self) -> bool:
        """Count the tasks that wait, by which requests are refused; False when others just did."""
        [[done]] = await self._housekeeping.fetch("select pgprog_engine.measure_queues()")
        return bool(done)

    async def judge_settings(self) -> list[TakenBack]:
        """Take changes of settings back under which tasks fail, where namespaces want that."""
        rows = await self._housekeeping.fetch("select * from pgprog_engine.judge_settings()")
        return [TakenBack(*row) for row in rows]

    async def measure_and_judge(self) -> list[TakenBack]:
        """Do both in one round trip."""
        *rows, _ = await self._housekeeping.fetch(_MEASURE_AND_JUDGE)
        return [TakenBack(*row) for row in rows]
