"""When a worker counts as one that makes progress."""

from __future__ import annotations

import pytest

from pgprog.daemon.progress import Progress
from pgprog.engine import Sign


class Part:
    """A part of a worker, with a clock and a database that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = 0
        self.is_resting = False
        self.is_answered = True
        self.asked = 0
        sign = Sign(
            name="claims",
            count=lambda: self.rounds,
            rests_seconds=1,
            may_rest=lambda: self.is_resting,
        )
        self._progress = Progress([sign], every=5, asks=self._asks, clock=lambda: self.now)

    async def looks(self, count: int = 1, *, rounds: int = 0) -> list[bool]:
        """Look every five seconds, after so many rounds each."""
        seen = []
        for _ in range(count):
            self.now += 5
            self.rounds += rounds
            seen.append(await self._progress.look())
        return seen

    async def _asks(self) -> bool:
        self.asked += 1
        return self.is_answered


@pytest.fixture
def part() -> Part:
    return Part()


async def test_a_part_that_goes_round_makes_progress_and_nobody_else_is_asked(part: Part) -> None:
    assert await part.looks(20, rounds=1) == [True] * 20
    assert part.asked == 0


async def test_a_part_that_has_nothing_to_ask_for_may_stand_still(part: Part) -> None:
    part.is_resting = True

    assert await part.looks(20) == [True] * 20
    assert part.asked == 0


async def test_a_part_that_stands_still_while_the_database_answers_makes_none(part: Part) -> None:
    assert await part.looks(6) == [True, True, False, False, False, False]


async def test_a_part_that_goes_on_after_a_warning_is_forgiven(part: Part) -> None:
    await part.looks(2)

    assert await part.looks(2, rounds=1) == [True, True]
    assert await part.looks(3) == [True, True, False]


async def test_a_database_that_is_away_is_not_the_death_of_a_worker(part: Part) -> None:
    part.is_answered = False

    assert await part.looks(20) == [True] * 20
    assert part.asked > 0


async def test_a_part_has_its_time_again_when_the_database_is_back(part: Part) -> None:
    part.is_answered = False
    await part.looks(2)
    part.is_answered = True

    assert await part.looks(3) == [True, True, False]
