"""Many time-outs on one timer."""

from __future__ import annotations

import asyncio

from pgprog.engine.deadlines import Deadlines


async def test_what_is_set_is_called_in_its_time_whatever_came_before_it() -> None:
    deadlines = Deadlines()
    called: list[str] = []
    over = asyncio.Event()
    deadlines.set(0.04, lambda _: over.set(), None)

    deadlines.set(60, called.append, "much later")
    deadlines.set(0.02, called.append, "later")
    deadlines.set(0.001, called.append, "at once")
    await over.wait()

    assert {*called} == {"at once", "later"}


async def test_what_is_cleared_is_not_called_and_holds_up_nothing() -> None:
    deadlines = Deadlines()
    called: list[str] = []
    over = asyncio.Event()
    cleared = deadlines.set(0.001, called.append, "cleared")
    deadlines.set(0.02, lambda _: over.set(), None)

    deadlines.clear(cleared)
    await over.wait()

    assert not called


async def test_a_deadline_may_be_cleared_by_another_that_is_reached_with_it() -> None:
    deadlines = Deadlines()
    called: list[str] = []
    over = asyncio.Event()
    numbers: list[int] = []
    deadlines.set(0, lambda _: deadlines.clear(numbers[0]), None)
    numbers.append(deadlines.set(0, called.append, "cleared"))
    deadlines.set(0.02, lambda _: over.set(), None)

    await over.wait()

    assert not called
