"""Steps that are thought not to wait for anything, one after another in one task of asyncio."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING, Any

from pgprog.engine.attempt import task_in
from pgprog.engine.within_task import within_task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pgprog.engine.holdings import Held


class QuickSteps:
    """Runs steps in the order in which they came, all of them in one task.

    A task for each would be a quarter of what Python spends on a step that never waits.  One that
    waits after all keeps the task, and the rest go on in another; *waits* hears of it.  *run*
    returns the step of a claim; *stepped* hears when it is over, and of the error that ended it.
    """

    def __init__(
        self,
        run: Callable[[Held], Coroutine[Any, Any, None]],
        *,
        waits: Callable[[Held], None],
        stepped: Callable[[Held, BaseException | None], None],
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._run = run
        self._waits = waits
        self._stepped = stepped
        self._steps: deque[Held] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many steps have not begun."""
        return len(self._steps)

    def add(self, held: Held) -> None:
        """Run a step when those before it have ended or wait."""
        self._steps.append(held)
        if self._task is None:
            self._go_on()

    def _go_on(self) -> None:
        self._task = None
        if self._steps:
            self._task = asyncio.create_task(self._serve())
            self.tasks.add(self._task)
            self._task.add_done_callback(self.tasks.discard)

    async def _serve(self) -> None:
        task = task_in(asyncio.get_running_loop())
        # What follows takes milliseconds: a claim that is asked for right now goes out before.
        await asyncio.sleep(0)
        try:
            while self._task is task and self._steps and not task.cancelling():
                held = self._steps.popleft()
                held.step = task
                await self._step(held)
        finally:
            if self._task is task:
                self._go_on()

    async def _step(self, held: Held) -> None:
        error: BaseException | None = None
        try:
            if not held.is_dropped:
                on_wait = functools.partial(self._wait, held)
                await within_task(self._run(held), on_wait=on_wait)
        except BaseException as e:
            error = e
            if not isinstance(e, Exception):
                raise
        finally:
            held.step = None  # the task goes on with others: who gives this claim up spares them
            self._stepped(held, error)

    def _wait(self, held: Held) -> None:
        """Leave the task to a step that waits."""
        if self._task is held.step:
            self._waits(held)
            self._go_on()
