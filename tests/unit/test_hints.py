"""How hints are paced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_hints_are_2_ms_apart_and_what_piles_up_meanwhile_is_sent_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = await paced(monkeypatch, seconds_of_sending=[0.0, 0.0], batches=[1, 100])

    assert pauses == [0.002, 0.002]


async def test_hints_that_take_long_to_send_are_twice_as_far_apart_at_most_20_ms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = await paced(monkeypatch, seconds_of_sending=[0.004, 5.0], batches=[1, 1])

    assert pauses == [pytest.approx(0.008), 0.02]


async def paced(
    monkeypatch: pytest.MonkeyPatch, *, seconds_of_sending: list[float], batches: list[int]
) -> list[float]:
    """Send batches of hints by a clock of its own and return the pause behind each."""
    sent: list[int] = []
    pauses: list[float] = []
    clock = [0.0]
    paused = asyncio.Event()
    goes_on = asyncio.Event()

    async def send(hints: Sequence[int]) -> None:
        clock[0] += seconds_of_sending[len(sent)]
        sent.append(len(hints))

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        paused.set()
        await goes_on.wait()
        goes_on.clear()

    monkeypatch.setattr("pgprog.store.wakeups.asyncio.sleep", pause)
    monkeypatch.setattr("pgprog.store.wakeups.time.monotonic", lambda: clock[0])
    hints = wakeups.Hints(send)
    sending = asyncio.create_task(hints.run())
    for count in batches:
        paused.clear()
        hints.add_all(range(count))
        goes_on.set() if pauses else None
        await paused.wait()
    sending.cancel()

    assert sent == batches
    return pauses
