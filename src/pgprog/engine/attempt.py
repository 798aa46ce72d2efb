"""One run of a handler, within its step time-out."""

from __future__ import annotations

import asyncio
import contextvars
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pgprog.codec import Misfit
from pgprog.engine.access import AsyncAccess, SyncAccess
from pgprog.engine.deadlines import Deadlines
from pgprog.engine.decide import StepTimeout
from pgprog.engine.steps import step_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pgprog.engine.places import Laps
    from pgprog.model import Step
    from pgprog.namespace import Handler, Namespace
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed
    from pgprog.store.transactions import StepTransactions


class NoThread(Exception):  # noqa: N818 - what happened; it never leaves the engine
    """There is no thread for a sync handler: the system has no more, or the program ends.

    Or those that ran over their time keep all of them.
    """


class Threads:
    """So many threads for sync handlers; one that runs over its time keeps its own.

    Nothing waits for one: its handler would be called when the step is over for everybody else.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="pgprog step")

    def begin(
        self, work: Callable[[], object], *, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[object]:
        """Call *work* in a thread, and return what comes of it.

        Raises:
            NoThread: It was not called, and will not be.
        """
        if not self._left:
            msg = "handlers that ran over their time keep all threads"
            raise NoThread(msg)
        ended: Future[object] = Future()
        try:
            self._threads.submit(_fulfil, ended, work)
        except RuntimeError as e:  # none can be started, or the program ends; the work is queued
            if ended.cancel():  # no thread that is there has begun with it
                raise NoThread(str(e)) from e
        running = asyncio.wrap_future(ended, loop=loop)
        self._left -= 1
        running.add_done_callback(self._ended)
        return running

    def close(self) -> None:
        """Let them end, stragglers when they like: they cannot be stopped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, _: asyncio.Future[object]) -> None:
        self._left += 1


class Attempts:
    """Makes the attempts of one worker; sync handlers run in *concurrency* threads.

    *laps*, where somebody wants to know, gets how long each took.
    """

    def __init__(
        self,
        namespaces: Mapping[str, Namespace[Any]],
        *,
        store: EngineStore,
        transactions: StepTransactions,
        concurrency: int,
    ) -> None:
        self.laps: Laps | None = None
        self._namespaces = namespaces
        self._store = store
        self._transactions = transactions
        self._is_quick: dict[Callable[..., object], bool] = {}
        self._deadlines = Deadlines()
        self._threads = Threads(concurrency)

    def is_quick(self, claimed: Claimed) -> bool | None:
        """Return whether a claim's handler has never waited for anything, None before it has run.

        Handlers in threads are waited for.
        """
        handler = self._handler(claimed)
        if handler is None or not handler.is_async:
            return False
        return self._is_quick.get(handler.function)

    def learn(self, claimed: Claimed, *, is_quick: bool) -> None:
        """Remember whether a claim's handler has waited; that it once did counts for ever."""
        handler = self._handler(claimed)
        if handler is not None:
            known = self._is_quick.get(handler.function, True)
            self._is_quick[handler.function] = is_quick and known

    def make(self, claimed: Claimed) -> Attempt:
        """Return the attempt that a claim asks for."""
        return Attempt(
            claimed,
            namespace=self._namespaces[claimed.namespace],
            store=self._store,
            transactions=self._transactions,
            deadlines=self._deadlines,
            threads=self._threads,
            laps=self.laps,
        )

    async def first_trace(self, task_id: int) -> str | None:
        """Return the traceparent of the first attempt of a task, None where it has told none."""
        return await self._store.first_trace(task_id)

    def _handler(self, claimed: Claimed) -> Handler[..., Any] | None:
        return self._namespaces[claimed.namespace].resolve(claimed.type, claimed.name)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()


class Attempt:
    """A handler and the step that it is called with.

    *straggler* is the thread of a sync handler that ran over its time: it cannot be stopped, and
    its late result is thrown away.
    """

    def __init__(
        self,
        claimed: Claimed,
        *,
        namespace: Namespace[Any],
        store: EngineStore,
        transactions: StepTransactions,
        deadlines: Deadlines,
        threads: Threads,
        laps: Laps | None = None,
    ) -> None:
        self.straggler: asyncio.Future[object] | None = None
        self.namespace = namespace
        self._claimed = claimed
        self._deadlines = deadlines
        self._threads = threads
        self._timeout = namespace.settings.step_timeout
        self._is_expired = False
        self._laps = laps
        self._took = store.metrics.task_processing[claimed.namespace, claimed.type].add
        self.handler = namespace.resolve(claimed.type, claimed.name)
        colour = AsyncAccess if self.handler is None or self.handler.is_async else SyncAccess
        self.access: AsyncAccess | SyncAccess = colour(
            claimed, namespace=namespace, store=store, transactions=transactions
        )

    async def run(self) -> object:
        """Return what the handler returned.

        Raises:
            Misfit: No handler takes the task, or its args do not fit.
            NoThread: It was not called.
            StepTimeout: The handler ran over its time.
            Exception: What the handler raised.
        """
        if self.handler is None:
            what = f"{self._claimed.type} {self._claimed.name or ''}".rstrip()
            msg = f"namespace {self._claimed.namespace} has no handler for {what}"
            raise Misfit(msg)
        step = step_of(
            self._claimed,
            namespace=self.namespace,
            access=self.access,
            deadline=datetime.now(UTC) + self._timeout,
        )
        self.access.begin(self._deadlines.loop)
        began_at = time.monotonic()
        try:
            if isinstance(self.access, SyncAccess):
                return await self._run_in_thread(self.handler, step)
            return await self._run_in_loop(self.handler, step)
        finally:
            seconds = time.monotonic() - began_at
            self._took(seconds)
            if self._laps is not None:
                self._laps.add(seconds)

    async def _run_in_loop(self, handler: Handler[..., Any, Any], step: Step[Any]) -> object:
        returned: Awaitable[object] | object = handler.run(step, self._claimed.args)
        if not asyncio.iscoroutine(returned):
            return returned
        task = task_in(self._deadlines.loop)
        deadline = self._deadlines.set(self._timeout.total_seconds(), self._expire, task)
        try:
            result: object = await returned
        except asyncio.CancelledError as e:
            if not self._is_expired:
                raise
            raise self._timed_out() from e
        finally:
            self._deadlines.clear(deadline)
            if self._is_expired:
                task.uncancel()
        if task.cancelling():
            await asyncio.sleep(0)  # a handler that cancelled its own task is told here
        return result

    def _expire(self, task: asyncio.Task[object]) -> None:
        # What asyncio.timeout does, at a fraction of its price, which every step pays.
        self._is_expired = True
        task.cancel()

    async def _run_in_thread(self, handler: Handler[..., Any, Any], step: Step[Any]) -> object:
        context = contextvars.copy_context()
        work = partial(context.run, _run_blocking, handler, step, self._claimed.args)
        running = self._threads.begin(work, loop=self._deadlines.loop)
        self.straggler = running
        await asyncio.wait([running], timeout=self._timeout.total_seconds())
        if not running.done():
            raise self._timed_out()
        self.straggler = None
        return running.result()

    def _timed_out(self) -> StepTimeout:
        return StepTimeout.over(self._timeout)


def _fulfil(ended: Future[object], work: Callable[[], object]) -> None:
    """Tell *ended* what comes of *work*, unless nobody wants it any more."""
    if not ended.set_running_or_notify_cancel():
        return
    try:
        ended.set_result(work())
    except BaseException as e:  # noqa: BLE001 - the step raises it
        ended.set_exception(e)
    finally:
        del ended  # the error knows this frame: together they would wait for the garbage collector


def _run_blocking(handler: Handler[..., Any, Any], step: Step[Any], args: bytes | None) -> object:
    """Call a sync handler as a coroutine would be: no future takes a StopIteration."""
    try:
        return handler.run(step, args)
    except StopIteration as e:
        msg = "the handler raised StopIteration"
        raise RuntimeError(msg) from e


def task_in(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    """Return the running task; to ask which loop runs would be a system call."""
    task = asyncio.current_task(loop)
    if task is None:
        msg = "a step runs in no task"
        raise RuntimeError(msg)
    return task
