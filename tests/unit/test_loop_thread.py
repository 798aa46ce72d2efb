"""An event loop in a thread, for blocking callers, and its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from pgprog.client.loop_thread import LoopThread
from pgprog.errors import StoreUnavailable


def test_what_comes_while_the_loop_ends_is_refused_and_not_waited_for() -> None:
    loop = LoopThread()
    cancelled, let_go = threading.Event(), threading.Event()

    async def stay() -> None:
        """Go on for a while when cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            while not let_go.is_set():
                await asyncio.sleep(0)

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(stay())
        await asyncio.sleep(0)
        return task

    task = loop.run(begin())
    with concurrent.futures.ThreadPoolExecutor() as threads:
        closing = threads.submit(loop.close)
        assert cancelled.wait(5)
        late = threads.submit(loop.run, asyncio.sleep(0.01))
        try:
            with pytest.raises(StoreUnavailable, match="closed"):
                late.result(5)
        finally:
            let_go.set()
        closing.result(5)

    assert task.done()


def test_who_waits_when_the_loop_ends_is_not_left_waiting() -> None:
    loop = LoopThread()
    waits = threading.Event()

    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(loop.run, wait())
        assert waits.wait(5)
        loop.close()

        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result(5)
