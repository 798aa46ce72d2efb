"""Watching with a blocking client, and who interrupts it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.client.loop_thread import LoopThread
from pgprog.client.sync_client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of nothing, but with a loop."""
    nothing: Any = None
    client = Client.over(nothing)
    client._loop = LoopThread()
    yield client
    if not client._loop.has_ended:
        client._loop.close()


def test_who_interrupts_a_watch_gets_his_interrupt_though_a_read_takes_time_to_end(
    client: Client,
) -> None:
    waits, ends = threading.Event(), threading.Event()

    async def watched() -> AsyncGenerator[int, None]:
        yield 1
        try:
            waits.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(9):  # as a query does that has to be cancelled
                await asyncio.sleep(0)
            ends.set()

    def interrupt() -> None:
        waits.wait(5)
        os.kill(os.getpid(), signal.SIGINT)

    watching = client._following(watched())
    assert next(watching) == 1
    threading.Thread(target=interrupt).start()

    with pytest.raises(KeyboardInterrupt):
        next(watching)

    assert ends.is_set()


def test_a_watch_may_be_given_up_after_its_client_was_closed(client: Client) -> None:
    ended = threading.Event()

    async def watched() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            ended.set()

    watching: Any = client._following(watched())
    assert next(watching) == 1
    client._loop.close()
    watching.close()

    assert ended.is_set()
    with pytest.raises(StopIteration):
        next(watching)
