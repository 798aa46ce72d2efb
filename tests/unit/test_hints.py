"""How hints are paced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


async def test_a_lone_hint_delays_the_next_by_2_ms_and_many_by_20_ms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Sequence[int]] = []
    pauses: list[float] = []
    goes_on = asyncio.Event()

    async def send(hints: Sequence[int]) -> None:
        sent.append(hints)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        goes_on.set()
        await asyncio.Event().wait() if len(pauses) == 2 else None

    monkeypatch.setattr("pgprog.store.wakeups.asyncio.sleep", pause)
    hints = wakeups.Hints(send)
    sending = asyncio.create_task(hints.run())
    hints.add(0)
    await goes_on.wait()
    goes_on.clear()
    for number in range(100):
        hints.add(number)
    await goes_on.wait()
    sending.cancel()

    assert [len(each) for each in sent] == [1, 100]
    assert pauses == [0.002, 0.02]
