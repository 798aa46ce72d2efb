"""Whatever the stream, the snapshots and the readers do in whatever order, no read is wrong."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.property.cache_world import World

STEPS = 4000


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("is_synchronous", [False, True], ids=["alone", "with a standby"])
def test_a_cached_read_is_never_torn_stale_or_older_than_what_was_seen(
    seed: int, is_synchronous: bool
) -> None:
    world = World(random.Random(seed), is_synchronous=is_synchronous)

    for _ in range(STEPS):
        world.act()
    world.settle()


def test_the_world_meets_every_race() -> None:
    counts: Counter[str] = Counter()
    for seed in range(4):
        world = World(random.Random(seed))
        for _ in range(STEPS):
            world.act()
        counts += world.counts + world.cache.counts

    assert all(counts[kind] > 50 for kind in ("hits", "kept", "refused", "pending")), counts
