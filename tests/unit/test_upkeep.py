"""What a worker tells other programs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.unit.claims import make_claim

from pgprog.config import Config
from pgprog.engine.upkeep import Upkeep
from pgprog.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence


class Store:
    """Keeps what was announced; *told* is set when that has come."""

    def __init__(self, last: str) -> None:
        self.metrics = Metrics()
        self.payloads: list[str] = []
        self.last = last
        self.told = asyncio.Event()

    async def announce(self, _channel: str, payloads: Sequence[str]) -> None:
        self.payloads += payloads
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

    assert sorted(store.payloads) == ["", "1000"]
    running.cancel()
