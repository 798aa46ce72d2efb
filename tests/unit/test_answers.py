"""Those who wait for the end of a task, without a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pgprog.client.answers import Answers
from pgprog.engine.deadlines import Deadlines
from pgprog.errors import PgprogError, SchemaMismatch
from pgprog.store.faults import Denied
from pgprog.store.rows import Ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

ENDED = Ended(7, "finished", b"1", None, 3)


@pytest.fixture
def asked() -> list[list[int]]:
    """What was asked of the database, one list a round trip."""
    return []


async def test_a_task_that_may_have_ended_before_is_looked_for_at_once_and_with_others(
    asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.client.answers._POLL_SECONDS", 1000.0)

    async def results(task_ids: Sequence[int]) -> list[Ended]:
        asked.append(sorted(task_ids))
        return [ENDED._replace(task_id=task_id) for task_id in task_ids]

    answers = Answers(results, deadlines=Deadlines())
    running = asyncio.create_task(answers.run())
    async with asyncio.timeout(5):
        ends = await asyncio.gather(
            *(answers.wait(task_id, seconds=5, is_new=False) for task_id in (7, 8, 9))
        )
    running.cancel()

    assert [end.task_id for end in ends] == [7, 8, 9]
    assert asked == [[7, 8, 9]]


async def test_an_end_that_cannot_be_seen_yet_is_looked_for_again_and_again(
    asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.client.answers._POLL_SECONDS", 1000.0)
    monkeypatch.setattr("pgprog.client.answers._AGAIN_SECONDS", 0.001)

    async def results(task_ids: Sequence[int]) -> list[Ended]:
        asked.append(sorted(task_ids))
        return [ENDED] if len(asked) == 4 else []

    answers = Answers(results, deadlines=Deadlines())
    running = asyncio.create_task(answers.run())
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(answers.wait(7, seconds=5))
        while not answers.is_awaited(7):
            await asyncio.sleep(0)
        answers.ended([7])
        end = await waiting
    running.cancel()

    assert end == ENDED
    assert asked == [[7]] * 4


async def ends_of(
    results: Callable[[Sequence[int]], Awaitable[list[Ended]]], task_ids: Sequence[int]
) -> list[Ended | BaseException]:
    """Return what those are told who wait for these tasks at once."""
    answers = Answers(results, deadlines=Deadlines())
    running = asyncio.create_task(answers.run())
    waiting = (answers.wait(task_id, seconds=2, is_new=False) for task_id in task_ids)
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    running.cancel()
    return ends


async def test_an_end_that_cannot_be_read_is_told_to_those_alone_who_wait_for_it() -> None:
    damage = PgprogError("the database failed: could not read block 5 (XX001)")

    async def results(task_ids: Sequence[int]) -> list[Ended]:
        if {5, 6} & {*task_ids}:
            raise damage
        return [ENDED._replace(task_id=task_id) for task_id in task_ids]

    ends = await ends_of(results, range(1, 10))

    told = [end.task_id if isinstance(end, Ended) else end for end in ends]
    assert told == [1, 2, 3, 4, damage, damage, 7, 8, 9]


async def test_of_a_failure_that_does_not_come_again_nobody_is_told() -> None:
    failures = iter([PgprogError("the database failed: its result type was changed (0A000)")])

    async def results(task_ids: Sequence[int]) -> list[Ended]:
        for failure in failures:
            raise failure
        return [ENDED._replace(task_id=task_id) for task_id in task_ids]

    [end] = await ends_of(results, [7])

    assert end == ENDED


async def test_who_may_not_ask_for_ends_is_told_so_by_one_round_trip(
    asked: list[list[int]],
) -> None:
    denied = Denied("permission denied for function results")

    async def results(task_ids: Sequence[int]) -> list[Ended]:
        asked.append(sorted(task_ids))
        raise denied

    ends = await ends_of(results, [7, 8, 9])

    assert ends == [denied] * 3
    assert asked == [[7, 8, 9]]


async def test_what_refuses_to_tell_of_ends_is_told_to_who_waits_and_ends_nothing(
    asked: list[list[int]],
) -> None:
    async def results(task_ids: Sequence[int]) -> list[Ended]:
        asked.append(sorted(task_ids))
        if len(asked) == 1:
            raise SchemaMismatch("there is no such function")
        return [ENDED]

    answers = Answers(results, deadlines=Deadlines())
    running = asyncio.create_task(answers.run())
    async with asyncio.timeout(5):
        with pytest.raises(SchemaMismatch):
            await answers.wait(7, seconds=2, is_new=False)
        end = await answers.wait(7, seconds=2, is_new=False)
    running.cancel()

    assert end == ENDED
