"""Engines that are opened more than once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pgprog import Engine, Namespace


def test_an_engine_that_is_opened_again_in_another_loop_is_as_good_as_new(
    make_engine: Any, counters: Namespace[Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine: Engine = make_engine(counters)

    async def use(process_id: str) -> tuple[bool, list[tuple[str, tuple[str, ...]]]]:
        async with engine:
            await engine.init("counters", process_id)
            assert await engine.call("counters", process_id, {"amount": 1}, name="add") == 1
            shown = [(each.name, each.labels) for each in engine._figures.metrics.samples()]
            return engine._worker.may_chain(), shown

    first, again = asyncio.run(use("a")), asyncio.run(use("b"))

    assert again[0] is first[0] is True
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []
    assert sorted(again[1]) == sorted(first[1])
