"""When a collector looks again, and how late it sees that a worker is dead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgprog.engine.collector import Collector


class Cluster:
    """Two workers at a clock of its own; the second renews each two seconds until it dies."""

    def __init__(self, *, killed_at: float) -> None:
        self.now = 0.0
        self.killed_at = killed_at

    async def list_workers(self) -> dict[int, int]:
        return {1: int(self.now / 2), 2: int(min(self.now, self.killed_at) / 2)}


def collector_of(store: Any) -> Collector:
    lease = timedelta(seconds=10)
    return Collector(store, lease=lease, on_freed=lambda: None, clock=lambda: store.now)


@pytest.mark.parametrize("begins_at", [tenth / 10 for tenth in range(20)])
async def test_a_dead_worker_is_seen_within_a_lease_and_two_seconds_of_its_end(
    begins_at: float,
) -> None:
    cluster = Cluster(killed_at=20)  # just after a renewal; looks fall anywhere between two
    cluster.now = begins_at
    collector = collector_of(cluster)
    while not await collector.look(due_at=cluster.now):
        cluster.now += collector.pause() + 0.005  # what a look takes

    assert 30 <= cluster.now < 32.1


async def test_a_collector_that_is_alone_looks_less_often() -> None:
    class Alone(Cluster):
        async def list_workers(self) -> dict[int, int]:
            return {1: int(self.now)}

    collector = collector_of(Alone(killed_at=0))
    await collector.look(due_at=0)

    assert collector.pause() == 5


async def test_a_worker_that_is_dead_already_makes_nobody_look_without_a_pause() -> None:
    cluster = Cluster(killed_at=0)
    collector = collector_of(cluster)
    await collector.look(due_at=0)
    pauses = []
    for cluster.now in (0.0, 9.25, 10.0):
        pauses.append(collector.pause())

    assert pauses == [2, 0.75, 2]
