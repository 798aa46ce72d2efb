"""What a worker does when the stream tells it of tasks, without a database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from pgprog.config import Config
from pgprog.engine.hearing import Hearing

if TYPE_CHECKING:
    import pytest

    from pgprog.engine.scanner import Scanner


class Woken:
    """Counts how often a scanner is woken."""

    def __init__(self) -> None:
        self.times = 0

    def wake(self) -> None:
        self.times += 1


async def test_what_the_stream_told_is_looked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgprog.engine.hearing._AGAIN_SECONDS", (0.001, 0.001, 0.001))
    woken = Woken()
    hearing = Hearing(Config(dsn=""), ["orders"], scanner=cast("Scanner", woken), name="worker")

    hearing._told([("orders", datetime.now(UTC))])
    async with asyncio.timeout(5):
        while woken.times < 4:
            await asyncio.sleep(0)

    assert woken.times == 4
