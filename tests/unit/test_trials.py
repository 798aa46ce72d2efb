"""A change of settings after which steps fail, and changes that only look like one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from pgprog.config import NamespaceSettings
from pgprog.engine.trials import LEAST, Trials
from pgprog.errors import StoreUnavailable
from pgprog.store.rows import Outcome

ASKED = NamespaceSettings(rollback_error_rate=0.5, rollback_window=timedelta(seconds=60))


class Store:
    """A database that takes back whatever it is asked to, once it is there."""

    def __init__(self) -> None:
        self.is_there = True
        self.asked: list[tuple[str, int, str]] = []

    async def roll_back_settings(self, namespace: str, version: int, *, reason: str) -> int | None:
        if not self.is_there:
            raise StoreUnavailable("gone")
        self.asked.append((namespace, version, reason))
        return version + 1


class Stage:
    def __init__(self) -> None:
        self.now = 0.0
        self.store = Store()
        engine_store: Any = self.store
        self.trials = Trials(engine_store, clock=lambda: self.now)

    def see(self, *, failed: int, of: int, as_: Outcome = Outcome.RETRY) -> None:
        for number in range(of):
            self.trials.count("jobs", as_ if number < failed else Outcome.FINISHED)

    async def taken_back(self) -> list[int]:
        """Return the versions that were taken back by now."""
        running = asyncio.create_task(self.trials.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        return [version for _, version, _ in self.store.asked]


@pytest.fixture
def stage() -> Stage:
    """Version 1 has proved itself, version 2 is new."""
    stage = Stage()
    stage.trials.begin("jobs", 1, ASKED)
    stage.see(failed=1, of=LEAST)
    stage.trials.begin("jobs", 2, ASKED)
    return stage


@pytest.mark.parametrize(
    "as_", [Outcome.RETRY, Outcome.BROKEN, Outcome.FAILED, Outcome.CRITICAL], ids=str
)
async def test_a_change_after_which_more_fail_than_the_bound_is_taken_back_once(
    stage: Stage, as_: Outcome
) -> None:
    stage.see(failed=11, of=LEAST, as_=as_)
    stage.see(failed=11, of=11, as_=as_)
    assert await stage.taken_back() == [2]
    stage.see(failed=9, of=9, as_=as_)

    assert await stage.taken_back() == [2]
    [(namespace, _, reason)] = stage.store.asked
    assert namespace == "jobs"
    assert reason == (
        "rolled back by itself: 22 of 31 attempts failed since version 2, 1 of 20 before"
    )


async def test_a_change_after_which_no_more_fail_than_the_bound_stays(stage: Stage) -> None:
    stage.see(failed=0, of=10)
    stage.see(failed=10, of=10)

    assert await stage.taken_back() == []


async def test_few_attempts_after_a_change_say_nothing(stage: Stage) -> None:
    stage.see(failed=LEAST - 1, of=LEAST - 1)
    assert await stage.taken_back() == []
    stage.see(failed=1, of=1)
    assert await stage.taken_back() == [2]


async def test_few_attempts_before_a_change_say_nothing() -> None:
    stage = Stage()
    stage.trials.begin("jobs", 1, ASKED)
    stage.see(failed=0, of=LEAST - 1)
    stage.trials.begin("jobs", 2, ASKED)
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == []


async def test_what_failed_before_the_change_is_not_its_fault() -> None:
    stage = Stage()
    stage.trials.begin("jobs", 1, ASKED)
    stage.see(failed=11, of=LEAST)
    stage.trials.begin("jobs", 2, ASKED)
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == []


async def test_the_settings_that_a_worker_begins_with_are_not_on_trial() -> None:
    stage = Stage()
    stage.trials.begin("jobs", 7, ASKED)
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == []


async def test_a_rejection_is_no_failure(stage: Stage) -> None:
    stage.see(failed=LEAST, of=LEAST, as_=Outcome.REJECTED)

    assert await stage.taken_back() == []


async def test_a_change_that_has_held_for_its_window_stays_whatever_fails_later(
    stage: Stage,
) -> None:
    stage.see(failed=0, of=LEAST)
    stage.now = 60.0
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == []


async def test_what_counts_before_a_change_is_what_was_seen_last(stage: Stage) -> None:
    for stage.now in (60.0, 120.0):
        stage.see(failed=LEAST, of=LEAST)
    stage.trials.begin("jobs", 3, ASKED)
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == []


async def test_of_two_changes_in_a_row_the_second_is_judged_by_what_was_before_both(
    stage: Stage,
) -> None:
    stage.see(failed=3, of=3)
    stage.trials.begin("jobs", 3, ASKED)
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == [3]


async def test_a_rollback_is_not_taken_back_in_its_turn(stage: Stage) -> None:
    stage.see(failed=LEAST, of=LEAST)
    assert await stage.taken_back() == [2]
    stage.trials.begin("jobs", 3, ASKED)
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == [2]


async def test_a_change_that_does_not_ask_for_it_stays(stage: Stage) -> None:
    stage.trials.begin("jobs", 3, NamespaceSettings())
    stage.see(failed=LEAST, of=LEAST)

    assert await stage.taken_back() == []


async def test_without_a_database_the_next_failure_asks_again(stage: Stage) -> None:
    stage.store.is_there = False
    stage.see(failed=LEAST, of=LEAST)
    assert await stage.taken_back() == []
    stage.store.is_there = True
    stage.see(failed=1, of=1)

    assert await stage.taken_back() == [2]
