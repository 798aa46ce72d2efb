"""Those who wait for the end of a task, without a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pgprog.client.answers import Answers
from pgprog.engine.deadlines import Deadlines
from pgprog.errors import SchemaMismatch
from pgprog.store.rows import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

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
