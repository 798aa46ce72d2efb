"""Engines that are opened or closed more than once."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from pgprog import Client, Intent, Namespace, Step

if TYPE_CHECKING:
    import pytest

    from pgprog import Engine


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


async def test_an_engine_that_two_close_at_once_answers_first_and_both_wait_for_its_end(
    make_engine: Any,
) -> None:
    shop: Namespace[Any] = Namespace("shop")
    started, released = asyncio.Event(), asyncio.Event()

    @shop.init
    async def begin(step: Step[Any]) -> Intent[Any, str]:
        started.set()
        await released.wait()
        return Intent(response="open")

    engine: Engine = await make_engine(shop).__aenter__()
    asking = asyncio.create_task(engine.init("shop", "s"))
    await started.wait()
    closing = [asyncio.create_task(engine.__aexit__(None, None, None)) for _ in range(2)]
    done, _ = await asyncio.wait(closing, timeout=0.1)
    released.set()

    assert await asyncio.wait_for(asking, 5) == "open"
    assert not done
    await asyncio.wait_for(asyncio.gather(*closing), 5)


def test_a_client_that_threads_close_at_once_is_closed_once(db: str) -> None:
    errors: list[BaseException] = []

    def close(client: Client, together: threading.Barrier) -> None:
        together.wait()
        try:
            client.__exit__(None, None, None)
        except BaseException as e:  # noqa: BLE001 - whatever it is, it is too much
            errors.append(e)

    for _ in range(10):
        given = Client(db).__enter__(), threading.Barrier(3)
        closing = [threading.Thread(target=close, args=given, daemon=True) for _ in range(3)]
        for each in closing:
            each.start()
        for each in closing:
            each.join(5)

    assert errors == []
