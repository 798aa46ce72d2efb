"""What a worker tells other programs, and how it keeps house."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.claims import make_claim

from pgprog.config import Config
from pgprog.engine import upkeep as upkeep_module
from pgprog.engine.upkeep import Role, Upkeep
from pgprog.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence


class Store:
    """Keeps what was announced; *told* is set when that has come."""

    def __init__(self, last: str) -> None:
        self.metrics = Metrics()
        self.payloads: list[tuple[str, str]] = []
        self.last = last
        self.told = asyncio.Event()

    async def announce(self, _channel: str, payloads: Sequence[str], *, lane: str) -> None:
        self.payloads += [(lane, payload) for payload in payloads]
        if self.last in payloads:
            self.told.set()


async def test_the_end_of_a_task_beside_many_others_is_told_by_itself() -> None:
    store: Any = Store(last="1000")
    upkeep = Upkeep(
        store,
        config=Config(dsn=""),
        roles=(),
        wake=lambda: None,
        is_few=lambda namespace: namespace == "quiet",
    )
    running = asyncio.create_task(upkeep.run())
    for task_id in range(1000):
        upkeep.announce_end(make_claim(task_id, namespace="crowd"))
    upkeep.announce_end(make_claim(1000, namespace="quiet"))

    await asyncio.wait_for(store.told.wait(), 5)

    assert sorted(store.payloads) == [("batches", ""), ("few", "1000")]
    running.cancel()


class Rubbish:
    """Weeks to drop and batches to erase; *clean* is set by the call that finds none of these."""

    def __init__(self, batches: int) -> None:
        self.metrics = Metrics()
        self.weeks = 3
        self.batches = batches
        self.clean = asyncio.Event()

    async def maintain(self, **_: Any) -> bool:
        return True

    async def drop_old(self, **_: Any) -> bool:
        self.weeks -= 1
        return self.weeks > 0

    async def erase_old(self, **_: Any) -> bool:
        self.batches -= 1
        if self.batches == 0:
            self.clean.set()
        return self.batches > 0

    async def measure_queues(self) -> bool:
        return True


async def test_what_is_old_is_erased_at_once_for_as_long_as_there_is_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep_module, "_ERASE_SECONDS", 0)
    store: Any = Rubbish(batches=100)
    upkeep = Upkeep(store, config=Config(dsn=""), roles=[Role.MAINTENANCE], wake=lambda: None)
    running = asyncio.create_task(upkeep.run())

    await asyncio.wait_for(store.clean.wait(), 5)

    assert store.batches == 0
    assert store.weeks == 0
    running.cancel()


async def test_keeping_house_is_not_put_off_by_what_is_to_be_erased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep_module, "_ERASE_SECONDS", 0)
    monkeypatch.setattr(upkeep_module, "_MAINTAIN_SECONDS", 0.01)
    store: Any = Rubbish(batches=10**9)
    kept = asyncio.Event()
    rounds = 0

    async def maintain(**_: Any) -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            kept.set()
        return True

    store.maintain = maintain
    upkeep = Upkeep(store, config=Config(dsn=""), roles=[Role.MAINTENANCE], wake=lambda: None)
    running = asyncio.create_task(upkeep.run())

    await asyncio.wait_for(kept.wait(), 5)

    running.cancel()


class Rounds:
    """Notes in which round what was asked for; *over* is set in the last of so many."""

    def __init__(self, count: int, *, is_busy: bool) -> None:
        self.metrics = Metrics()
        self.measured: list[int] = []
        self.judged: list[int] = []
        self.over = asyncio.Event()
        self._count = count
        self._is_busy = is_busy
        self._round = 0

    def is_busy(self) -> bool:
        self._round += 1
        if self._round > self._count:
            self.over.set()
        return self._is_busy

    async def list_workers_and_sweep(self) -> tuple[dict[int, int], int]:
        return {}, 0

    async def maintain(self, **_: Any) -> bool:
        return True

    async def drop_old(self, **_: Any) -> bool:
        return False

    async def erase_old(self, **_: Any) -> bool:
        return False

    async def measure_queues(self) -> bool:
        self.measured.append(self._round)
        return True

    async def judge_settings(self) -> list[Any]:
        self.judged.append(self._round)
        return []

    async def measure_and_judge(self) -> list[Any]:
        await self.measure_queues()
        return await self.judge_settings()


@pytest.mark.parametrize(
    ("is_busy", "roles", "measured", "judged"),
    [
        (False, [*Role], [1, 11], [1, 11]),
        (False, [Role.COLLECTOR], [], [1, 11]),
        (True, [*Role], [*range(1, 12)], [1, 6, 11]),
        (True, [Role.MAINTENANCE], [*range(1, 12)], []),
    ],
)
async def test_an_idle_worker_measures_and_judges_less_often(
    is_busy: bool,
    roles: list[Role],
    measured: list[int],
    judged: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep_module, "_MEASURE_SECONDS", 0)
    rounds = Rounds(11, is_busy=is_busy)
    store: Any = rounds
    upkeep = Upkeep(
        store, config=Config(dsn=""), roles=roles, wake=lambda: None, is_busy=rounds.is_busy
    )
    running = asyncio.create_task(upkeep.run())

    await asyncio.wait_for(rounds.over.wait(), 5)

    assert [no for no in rounds.measured if no < 12] == measured
    assert [no for no in rounds.judged if no < 12] == judged
    running.cancel()
