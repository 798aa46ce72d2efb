"""How many steps run at once where that follows latency and processor."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from pgprog.config import WorkerConfig
from pgprog.engine.places import Adaptive, Laps
from pgprog.errors import ConfigError

FRIEND_BEARS = 40


def latency_of_friend(steps: int, *, seconds: float = 0.01) -> float:
    """Return how long a step waits for a server that does 40 at once and queues the rest."""
    return seconds * max(1.0, steps / FRIEND_BEARS)


def seconds_of_friend(adaptive: Adaptive, count: int, *, seconds: float = 0.01) -> list[int]:
    """Return the places after each of so many seconds with more due than can run."""
    return [
        adaptive.learn(
            latency=latency_of_friend(adaptive.limit, seconds=seconds), cpu=0.2, is_behind=True
        )
        for _ in range(count)
    ]


def test_a_worker_begins_with_the_least() -> None:
    assert Adaptive(5, 100).limit == 5


def test_places_grow_to_the_most_within_twenty_seconds_while_latency_stays() -> None:
    adaptive = Adaptive(5, 105)
    grown = [adaptive.learn(latency=0.01, cpu=0.2, is_behind=True) for _ in range(25)]

    assert grown[:3] == [10, 15, 20]
    assert grown[19:] == [105] * 6


def test_places_stay_while_nothing_waits_for_one() -> None:
    adaptive = Adaptive(5, 100)

    assert {adaptive.learn(latency=0.01, cpu=0.2, is_behind=False) for _ in range(50)} == {5}


def test_places_swing_below_what_makes_handlers_take_twice_as_long() -> None:
    adaptive = Adaptive(4, 1000)
    swing = seconds_of_friend(adaptive, 600)[60:]

    assert max(swing) < 4 * FRIEND_BEARS
    assert min(swing) > FRIEND_BEARS / 2
    assert any(after < before for before, after in pairwise(swing))


def test_handlers_that_became_slower_for_good_are_the_measure_after_a_while() -> None:
    adaptive = Adaptive(5, 30)
    seconds_of_friend(adaptive, 30)
    shrunk = seconds_of_friend(adaptive, 10, seconds=0.03)
    later = seconds_of_friend(adaptive, 90, seconds=0.03)

    assert min(shrunk) == 5
    assert later[-1] == 30


def test_a_busy_processor_takes_places_away_down_to_the_least() -> None:
    adaptive = Adaptive(5, 100)
    adaptive.limit = 80
    places = [adaptive.learn(latency=0.01, cpu=0.95, is_behind=True) for _ in range(12)]

    assert places[:3] == [60, 45, 33]
    assert places[-1] == 5


def test_settings_that_allow_less_are_obeyed() -> None:
    adaptive = Adaptive(5, 100)
    adaptive.most = 3

    assert adaptive.learn(latency=0.01, cpu=0.2, is_behind=True) == 3


def test_laps_are_averaged_and_begun_anew() -> None:
    laps = Laps()
    laps.add(1.0)
    laps.add(3.0)

    assert [laps.take(), laps.take()] == [2.0, None]


def test_the_least_is_not_more_than_the_most() -> None:
    with pytest.raises(ConfigError, match="min_concurrency, 11, must be at most concurrency, 10"):
        WorkerConfig(concurrency=10, min_concurrency=11, stop_timeout=timedelta(0))
