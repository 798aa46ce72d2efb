"""How hints are paced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgprog.errors import InvalidArgument, StoreUnavailable
from pgprog.store import wakeups
from pgprog.store.faults import DataFault, RolledBack

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


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("the connection was lost"),
        RolledBack("the statement was cancelled"),
        DataFault("too many notifications in the NOTIFY queue"),  # of a session that listens
        InvalidArgument("too many notifications in the NOTIFY queue"),  # the same, to a client
        psycopg.errors.lookup("XX000")("it failed"),
    ],
)
async def test_a_hint_that_cannot_be_sent_is_lost_and_the_next_is_sent(error: Exception) -> None:
    sent: list[int] = []

    async def send(hints: Sequence[int]) -> None:
        sent.extend(hints)
        if len(sent) == 1:
            raise error

    hints = wakeups.Hints(send)
    sending = asyncio.create_task(hints.run())
    hints.add(1)
    async with asyncio.timeout(10):
        while not sent:
            await asyncio.sleep(0)
        hints.add(2)
        while len(sent) < 2 and not sending.done():
            await asyncio.sleep(0.001)
    sending.cancel()

    assert sent == [1, 2]


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
