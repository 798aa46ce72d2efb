"""One run of a handler, within its step time-out."""

from __future__ import annotations

import asyncio
import contextvars
import types
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgprog.codec import Codec, Misfit
from pgprog.engine.access import AsyncAccess, SyncAccess
from pgprog.engine.decide import StepTimeout
from pgprog.errors import PermanentError
from pgprog.model import ProcessStatus, Step, TaskId, TaskType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator
    from concurrent.futures import ThreadPoolExecutor

    from pgprog.namespace import Handler, Namespace
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed
    from pgprog.store.transactions import StepTransactions


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
        threads: ThreadPoolExecutor,
    ) -> None:
        self.straggler: asyncio.Future[object] | None = None
        self._claimed = claimed
        self._namespace = namespace
        self._threads = threads
        self._timeout = namespace.settings.step_timeout
        self._type = TaskType(claimed.type)
        self.handler = namespace.resolve(self._type, claimed.name)
        colour = AsyncAccess if self.handler is None or self.handler.is_async else SyncAccess
        self.access: AsyncAccess | SyncAccess = colour(
            claimed, namespace=namespace, store=store, transactions=transactions
        )

    async def run(self) -> object:
        """Return what the handler returned.

        Raises:
            Misfit: No handler takes the task, or its args do not fit.
            StepTimeout: The handler ran over its time.
            Exception: What the handler raised.
        """
        if self.handler is None:
            what = f"{self._claimed.type} {self._claimed.name or ''}".rstrip()
            msg = f"namespace {self._claimed.namespace} has no handler for {what}"
            raise Misfit(msg)
        step = self._step()
        if isinstance(self.access, SyncAccess):
            self.access.use_loop(asyncio.get_running_loop())
            return await self._run_in_thread(self.handler, step)
        return await self._run_in_loop(self.handler, step)

    async def _run_in_loop(self, handler: Handler[..., Any, Any], step: Step[Any]) -> object:
        until = asyncio.get_running_loop().time() + self._timeout.total_seconds()
        returned: Awaitable[object] | object = handler.run(step, self._claimed.args)
        if not asyncio.iscoroutine(returned):
            return returned
        # What never waits cannot be timed out: only the others pay for a timer.
        try:
            awaited = returned.send(None)
        except StopIteration as e:
            return e.value
        scope = asyncio.timeout_at(until)
        try:
            async with scope:
                return await _resumed(returned, awaited)
        except TimeoutError as e:
            if not scope.expired():
                raise
            raise self._timed_out() from e

    async def _run_in_thread(self, handler: Handler[..., Any, Any], step: Step[Any]) -> object:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        running: asyncio.Future[object] = loop.run_in_executor(
            self._threads, context.run, handler.run, step, self._claimed.args
        )
        self.straggler = running
        await asyncio.wait([running], timeout=self._timeout.total_seconds())
        if not running.done():
            raise self._timed_out()
        self.straggler = None
        return running.result()

    def _timed_out(self) -> StepTimeout:
        return StepTimeout(f"the handler ran over {self._timeout.total_seconds():g} s")

    def _step(self) -> Step[Any]:
        claimed = self._claimed
        plain: Codec[Any] = self._namespace.plain_codec
        try:
            state = self._namespace.load_state(claimed.state, claimed.state_version)
        except Misfit as e:
            msg = f"the state of process {claimed.process_id} cannot be read: {e}"
            raise PermanentError(msg, code="Misfit") from e
        return Step(
            namespace=claimed.namespace,
            process_id=claimed.process_id,
            task_id=TaskId(claimed.task_id),
            type=self._type,
            name=claimed.name,
            args=plain.decode(claimed.args),
            context=plain.decode(claimed.context),
            attempt=claimed.attempt,
            state=state,
            metadata=plain.decode(claimed.metadata),
            status=ProcessStatus(claimed.status),
            last_event_id=claimed.last_event_id,
            version=claimed.version,
            deadline=datetime.now(UTC) + self._timeout,
            _access=self.access,
        )


@types.coroutine
def _resumed(
    coroutine: Coroutine[object, object, object], awaited: object
) -> Generator[object, object, object]:
    """Go on with a coroutine that waits for *awaited* in the task that we run in."""
    try:
        yield awaited
    except BaseException as e:  # noqa: BLE001 - whatever comes, a time-out's cancel first of all
        try:
            awaited = coroutine.throw(e)
        except StopIteration as returned:
            return returned.value
        return (yield from _resumed(coroutine, awaited))
    return (yield from coroutine.__await__())
