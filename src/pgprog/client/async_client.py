"""The client for asynchronous programs; everything else asks through it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from pgprog.client.answers import Answers, response_of
from pgprog.client.background import running, tell_failure_of
from pgprog.client.cached_reads import enabled
from pgprog.client.figures import Figures
from pgprog.client.hearing import feed_for, hear_ends, hearing_ends
from pgprog.client.many import parts_of
from pgprog.client.opening import Opening
from pgprog.client.operations import AsyncOperations
from pgprog.client.remembering import remembering
from pgprog.client.requests import asked, listed, raw_request, seconds_of
from pgprog.client.submitter import Submitter
from pgprog.client.tasks import AsyncTask, check_not_current
from pgprog.client.watching import Wakes
from pgprog.config import PoolConfig
from pgprog.engine.deadlines import Deadlines
from pgprog.engine.settling import end
from pgprog.errors import CallTimeout, PgprogError, StoreUnavailable
from pgprog.model import Request, TaskId, TaskType
from pgprog.store import wakeups
from pgprog.store.client_store import ClientStore
from pgprog.store.columns import queued_in
from pgprog.tracing.spans import requesting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from typing_extensions import Unpack

    from pgprog.client.requests import Asked, Options
    from pgprog.config import CacheSettings, Wakeups
    from pgprog.encryption import Encryption
    from pgprog.namespace import Handler, Namespace
    from pgprog.store.engine_store import RequestLane
    from pgprog.store.rows import Ended, RawRequest, Submitted

    Timeout = float | timedelta | None
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_NAME = "pgprog client"
_ANSWER_SECONDS = 30.0


class AsyncClient(AsyncOperations):
    """Asks processes through PostgreSQL; an async context manager.

    *dsn* may be a transaction pooler, *direct_dsn* is for LISTEN and replication.  Answers are
    found by polling, every 50 ms; sooner, as *wakeups* says, by LISTEN when their worker tells, or
    by the replication stream, too, whoever ends the task.  One client serves any number of callers
    at once, all of one event loop: their requests travel in batches.  A request with an idempotency
    key is repeated by itself when the connection is lost.

    *cache* names the namespaces whose processes are kept in memory, with their settings; without
    the stream, or with *encryption*, they are read from PostgreSQL.  A *reader*, the socket of one
    that this machine shares, is asked instead.
    """

    def __init__(
        self,
        dsn: str,
        *,
        direct_dsn: str | None = None,
        pool: PoolConfig | None = None,
        cache: Mapping[str, CacheSettings] | None = None,
        wakeups: Wakeups = "notify",
        encryption: Encryption | None = None,
        reader: str | None = None,
    ) -> None:
        self._dsn = dsn
        self._wakeups = wakeups
        self._direct_dsn = direct_dsn or dsn
        self._pool = pool or PoolConfig()
        self._encryption = encryption
        self._cache = {} if encryption or reader else enabled(cache)
        self._reader = None if encryption else reader
        self._feed = feed_for(self._cache, wakeups, self._direct_dsn, name=_NAME)
        self._closing = Opening()
        self._figures = Figures(dsn, name=_NAME)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConfigError: A DSN cannot be read.
            SchemaMismatch: The database needs `pgprog db migrate`.
            StoreUnavailable: The database cannot be reached.
        """
        self._closing.begin()
        self._store = ClientStore(
            self._dsn,
            size=self._pool.api,
            checkout_timeout=self._pool.checkout_timeout,
            name=_NAME,
            encryption=self._encryption,
            metrics=self._figures.metrics,
        )
        self._closing.push_async_callback(self._store.close)
        self._wakes = Wakes()
        try:
            await self._store.open()
            await self._closing.enter_async_context(self._figures)
            await self._closing.enter_async_context(running("feed", self._feed.run()))
            dsns = self._dsn, self._direct_dsn
            memory = remembering(self._store, self._cache, self._reader, self._feed, dsns)
            if (cached := await self._closing.enter_async_context(memory)) is not None:
                self._closing.callback(self._figures.metrics.show(cached.samples))
            self._cached = cached
            self._answers = Answers(self._store.results, deadlines=(deadlines := Deadlines()))
            if self._wakeups == "stream":
                self._closing.enter_context(hearing_ends(self._answers, self._wakes, self._feed))
            self._due = wakeups.Hints(partial(self._store.announce, wakeups.DUE))
            self._submitter = Submitter(self._send, deadlines=deadlines)
            self._loops = asyncio.create_task(self._run())
            tell_failure_of("loops", self._loops)
            self._closing.push_async_callback(self._end_loops)
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close, after requests on their way; who waits for an answer gets StoreUnavailable."""
        await self._closing.aclose()

    @overload
    async def init(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def init(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> Any: ...  # noqa: ANN401 - JSON

    async def init(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> Any:
        """Create a process, and return what the handler of its init answers.

        Raises:
            ProcessExists: The id is taken.
            PgprogError: As `call`.
        """
        return await self.ask(asked(TaskType.INIT, target, process_id, args, options))

    @overload
    async def call(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def call(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> Any: ...  # noqa: ANN401 - JSON

    async def call(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> Any:
        """Call a process and return its answer.

        By a handler, with the handler's own arguments, the answer has the handler's type.  By the
        name of a namespace, with *args* and options, it is plain JSON.

        Raises:
            Rejected: The handler said no; the process is untouched.
            StepFailed: The task ended in error.
            TaskCancelled: It was cancelled before it ran.
            CallTimeout: The answer did not come within *timeout* (30 s); the task goes on.
            PgprogError: It was refused: see `Request` and the errors with an SQLSTATE.
            StoreUnavailable: The connection was lost, and there is no idempotency key to repeat by.
        """
        return await self.ask(asked(TaskType.CALL, target, process_id, args, options))

    @overload
    async def repair(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def repair(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> Any: ...  # noqa: ANN401 - JSON

    async def repair(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> Any:
        """Have a process in error mended by its repair handler, and return what that answers.

        Raises:
            ProcessNotInError: There is nothing to repair, or another repair was faster.
            PgprogError: As `call`; a failing repair changes nothing.
        """
        return await self.ask(asked(TaskType.REPAIR, target, process_id, args, options))

    @overload
    async def notify(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncTask: ...

    @overload
    async def notify(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> AsyncTask: ...

    async def notify(
        self, target: Any, process_id: str, /, *args: Any, **options: Any
    ) -> AsyncTask:
        """Tell a process something; return when it is queued, without waiting for its step.

        Raises:
            PgprogError: It was refused.
        """
        return await self.queue(asked(TaskType.NOTIFY, target, process_id, args, options))

    async def submit(
        self,
        type: str,  # noqa: A002 - the word of the specification
        namespace: str | Namespace[Any],
        process_id: str,
        args: object = None,
        **options: Unpack[Options],
    ) -> AsyncTask:
        """Queue a request and return its task, without waiting for its end.

        Raises:
            PgprogError: It was refused.
            Overloaded: It could not be sent within *timeout*; nothing was done.
        """
        return await self.queue(asked(type, namespace, process_id, (args,), options))

    async def submit_many(
        self, requests: Iterable[Request], *, timeout: Timeout = None
    ) -> list[AsyncTask | PgprogError]:
        """Queue many requests in few statements; return the task or the error of each, in order."""
        seconds = seconds_of(timeout, default=_ANSWER_SECONDS)
        asked = listed(requests)
        parts = parts_of(asked, namespace_of=self.namespace_of)
        outcomes = await self._submitter.submit_many(parts, seconds=seconds)
        return [
            got if isinstance(got, PgprogError) else self._task(got, (of.namespace, of.process_id))
            for got, of in zip(outcomes, asked, strict=True)
        ]

    async def end_of(
        self, task_id: int, *, process: tuple[str, str] | None = None, timeout: Timeout = None
    ) -> Ended:
        """Return the end of a task that exists, for tasks that wait."""
        seconds = seconds_of(timeout, default=_ANSWER_SECONDS)
        if process is None and self._cached is not None:
            process = self._cached.process_of(task_id)
        return await self._await_end(task_id, seconds, process=process, is_new=False)

    async def ask(self, asked: Asked) -> Any:  # noqa: ANN401 - what the handler answers
        """Return the answer to what `asked` made, for clients of another colour."""
        check_not_current(asked.request.namespace, asked.request.process_id)
        began_at = time.monotonic()
        seconds = seconds_of(asked.timeout, default=self._patience(asked.request.namespace))
        process = (asked.request.namespace, asked.request.process_id)
        with requesting(asked.request) as span:
            submitted = await self._submit(asked.request, seconds=seconds)
            span.sent(submitted.task_id)
            left = began_at + seconds - time.monotonic()
            is_new = submitted.outcome != "known"
            ended = await self._await_end(submitted.task_id, left, process=process, is_new=is_new)
            return asked.response.decode(response_of(ended, numbers=asked.response.numbers))

    async def queue(self, asked: Asked) -> AsyncTask:
        """Return the task of what `asked` made, for clients of another colour."""
        seconds = seconds_of(asked.timeout, default=_ANSWER_SECONDS)
        with requesting(asked.request) as span:
            submitted = await self._submit(asked.request, seconds=seconds)
            span.sent(submitted.task_id)
        return self._task(submitted, (asked.request.namespace, asked.request.process_id))

    def _task(self, submitted: Submitted, process: tuple[str, str]) -> AsyncTask:
        if self._cached is not None:
            self._cached.remember(submitted.task_id, process)
        return AsyncTask(self, TaskId(submitted.task_id), process=process)

    async def _submit(self, request: Request, *, seconds: float) -> Submitted:
        raw = raw_request(request, namespace=self.namespace_of(request.namespace))
        return await self._submitter.submit(raw, seconds=seconds)

    async def _await_end(
        self, task_id: int, seconds: float, *, process: tuple[str, str] | None, is_new: bool
    ) -> Ended:
        try:
            ended = await self._answers.wait(task_id, seconds=seconds, is_new=is_new)
        except TimeoutError as e:
            raise CallTimeout(task_id) from e
        if process is not None:
            self._note(process, ended.version)
        return ended

    def _patience(self, namespace: str) -> float:
        known = self.namespace_of(namespace)
        return _ANSWER_SECONDS if known is None else known.settings.step_timeout.total_seconds()

    async def _send(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        submitted = await self._store.submit_many(requests, lane=lane)
        self._due.add_all(queued_in(requests, submitted))
        return submitted

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            for part in (self._submitter.run(), self._answers.run(), self._due.run()):
                loops.create_task(part)
            if self._wakeups != "poll":
                loops.create_task(hear_ends(self._answers, self._direct_dsn, name=_NAME))

    async def _end_loops(self) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pool.checkout_timeout.total_seconds()):
                    await self._submitter.wait_idle()
                    await self._due.flush()  # or workers would find the last requests by polling
        finally:  # also for who is cancelled meanwhile
            closed = StoreUnavailable("the client is closed")
            self._submitter.close(closed)
            self._answers.close(closed)
            self._wakes.close()
            await end(self._loops)
