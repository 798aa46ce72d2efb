"""Those who wait for the end of a task, and how they learn of it."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any

from pgprog.client.within import within
from pgprog.codec import decode
from pgprog.errors import (
    Overloaded,
    PgprogError,
    Rejected,
    SchemaMismatch,
    StepFailed,
    StoreUnavailable,
    TaskCancelled,
)
from pgprog.model import TaskStatus
from pgprog.store.faults import Denied
from pgprog.store.own_loop import check_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from pgprog.codec import Numbers
    from pgprog.engine.deadlines import Deadlines
    from pgprog.store.rows import Ended

_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 0.5
# The stream tells a commit a moment before a read can see it: where cores are scarce, a long one.
_AGAIN_SECONDS = 0.005
_MOST = 1000
# What is the same for each task that is asked for.
_OF_ALL = (StoreUnavailable, Overloaded, SchemaMismatch, Denied)


class Answers:
    """Waits for many tasks together: those who wait are polled for every 50 ms.

    What ends in this program is told at once, and a hint from another makes it look at once.
    A task is first polled for when it has been waited for as long as that, or at once where it
    may have ended before.
    """

    def __init__(
        self,
        results: Callable[[Sequence[int]], Awaitable[list[Ended]]],
        *,
        deadlines: Deadlines,
    ) -> None:
        self._results = results
        self._deadlines = deadlines
        self._waiting: dict[int, list[asyncio.Future[Ended]]] = {}
        self._since: dict[int, float] = {}
        self._polled_at = 0.0
        self._hinted: set[int] = set()
        self._closed: StoreUnavailable | None = None
        self._anybody = asyncio.Event()
        self._look = asyncio.Event()

    async def wait(self, task_id: int, *, seconds: float, is_new: bool = True) -> Ended:
        """Return the end of a task, which may have come before where it is not *is_new*.

        Raises:
            TimeoutError: It did not come in time.
            StoreUnavailable: The client is closed, or was meanwhile; the task goes on.
            PgprogError: Nobody may ask for ends, or this one cannot be read.
            RuntimeError: The loop that runs here is not the client's.
        """
        check_loop(self._deadlines.loop)
        if self._closed is not None:
            raise StoreUnavailable(str(self._closed))
        future: asyncio.Future[Ended] = self._deadlines.loop.create_future()
        self._waiting.setdefault(task_id, []).append(future)
        self._since.setdefault(task_id, time.monotonic())
        self._anybody.set()
        if not is_new:
            self._hinted.add(task_id)
            self._look.set()
        try:
            return await within(future, seconds=seconds, deadlines=self._deadlines)
        finally:
            self._forget(task_id, future)

    def is_awaited(self, task_id: int) -> bool:
        """Return whether anybody here waits for a task."""
        return task_id in self._waiting

    def tell(self, ended: Ended) -> None:
        """Give a committed end to all who wait for it."""
        for future in self._waiting.get(ended.task_id, ()):
            if not future.done():
                future.set_result(ended)

    def hint(self, payload: str) -> None:
        """Look at once for the tasks of a notification; an empty one may mean any."""
        told = {*payload.split(",")}
        is_list = all(part.isdecimal() for part in told)  # anybody may notify, and say anything
        self._hinted.update(
            task_id for task_id in self._waiting if not is_list or str(task_id) in told
        )
        if self._hinted:
            self._look.set()

    def ended(self, task_ids: Iterable[int]) -> None:
        """Look at once for tasks that have ended, as the stream says, until that is seen."""
        self._look_for(task_ids, pause=_AGAIN_SECONDS)

    def close(self, error: StoreUnavailable) -> None:
        """Raise *error* in all who wait and will."""
        self._closed = error
        self._raise_in(self._waiting, error)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._anybody.wait()
            timer = self._deadlines.loop.call_later(_POLL_SECONDS, self._look.set)
            await self._look.wait()
            timer.cancel()
            self._look.clear()
            if not self._waiting:
                self._anybody.clear()
                continue
            try:
                await self._poll()
            except (StoreUnavailable, Overloaded):
                await asyncio.sleep(_PAUSE_SECONDS)
            except (SchemaMismatch, Denied) as e:  # who asks an older schema, or may not, is told
                self._raise_in(self._waiting, e)

    def _raise_in(self, task_ids: Iterable[int], error: PgprogError) -> None:
        for future in [future for each in task_ids for future in self._waiting.get(each, ())]:
            if not future.done():
                future.set_exception(error)

    def _look_for(self, task_ids: Iterable[int], *, pause: float) -> None:
        """Look now and, while they are waited for, again after pauses twice as long each."""
        if awaited := self._waiting.keys() & task_ids:
            self._hinted.update(awaited)
            self._look.set()
            if pause < _POLL_SECONDS:
                again = functools.partial(self._look_for, awaited, pause=2 * pause)
                self._deadlines.loop.call_later(pause, again)

    async def _poll(self) -> None:
        long_ago = time.monotonic() - _POLL_SECONDS
        due = []
        if self._polled_at <= long_ago:  # hints come more often
            self._polled_at = time.monotonic()
            due = [task_id for task_id, since in self._since.items() if since <= long_ago]
        ids = [*self._hinted.intersection(self._waiting).union(due)]
        self._hinted.clear()
        for start in range(0, len(ids), _MOST):
            await self._tell_of(ids[start : start + _MOST])

    async def _tell_of(self, task_ids: Sequence[int]) -> None:
        """Tell the ends of these; what cannot be read is told to those alone who wait for it.

        After a failure all are asked for again, as what a connection had prepared may be why, and
        then halves and halves of halves.
        """
        parts, has_failed = [task_ids], False
        while parts:
            part = [task_id for task_id in parts.pop() if task_id in self._waiting]
            try:
                for ended in await self._results(part):
                    self.tell(ended)
            except _OF_ALL:
                raise
            except PgprogError as e:
                if not has_failed:
                    has_failed = True
                    parts.append(sorted(part))  # what lies in one damaged block is side by side
                elif len(part) > 1:
                    half = len(part) // 2
                    parts += part[half:], part[:half]
                else:
                    self._raise_in(part, e)

    def _forget(self, task_id: int, future: asyncio.Future[Ended]) -> None:
        waiting = self._waiting[task_id]
        waiting.remove(future)
        if not waiting:
            del self._waiting[task_id], self._since[task_id]


def response_of(ended: Ended, *, numbers: Numbers = "float") -> bytes | None:
    """Return the raw response of an ended task, or raise what it ended with.

    *numbers* is how the payload of a rejection is read.

    Raises:
        Rejected: The handler said no.
        StepFailed: The task ended in error.
        TaskCancelled: It was cancelled before it ran.
    """
    error: Any = {} if ended.error is None else decode(ended.error, numbers=numbers)
    match ended.status:
        case TaskStatus.ERROR:
            raise StepFailed(
                ended.task_id,
                str(error.get("error_type")),
                str(error.get("detail")),
                int(error.get("attempt", 0)),
            )
        case TaskStatus.CANCELLED:
            raise TaskCancelled(str(error.get("cause")))
        case _ if "rejected" in error:
            raise Rejected(error["rejected"])
        case _:
            return ended.response
