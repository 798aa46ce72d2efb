"""The client for synchronous programs: a thin face over the asynchronous one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from pgprog.client.async_client import AsyncClient
from pgprog.client.blocking import BlockingRequests
from pgprog.client.freshness import range_of
from pgprog.client.loop_thread import LoopThread
from pgprog.client.opening import not_open
from pgprog.errors import PgprogError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
    from datetime import timedelta

    from typing_extensions import Unpack

    from pgprog.client.bound import Bound
    from pgprog.client.changes import Changed, Reached
    from pgprog.client.freshness import Freshness
    from pgprog.client.requests import Asked
    from pgprog.client.tasks import AsyncTask
    from pgprog.client.watching import Seen
    from pgprog.config import CacheSettings, PoolConfig, Wakeups
    from pgprog.encryption import Encryption
    from pgprog.metrics.exposition import CollectorRegistry
    from pgprog.model import (
        Direction,
        Event,
        Explanation,
        Process,
        Request,
        TaskId,
        TaskRecord,
        TaskResult,
    )
    from pgprog.namespace import Namespace
    from pgprog.store.bound import BlockingConnection
    from pgprog.store.rows import NamespaceStats

    Timeout = float | timedelta | None

S = TypeVar("S")


class Task:
    """A task that is queued for sure; *version* is that of its process after it has ended."""

    def __init__(self, task: AsyncTask, loop: LoopThread) -> None:
        self._task = task
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._task)

    @property
    def task_id(self) -> TaskId:
        """The id of the task."""
        return self._task.task_id

    @property
    def version(self) -> int | None:
        """The version of the process after the task, None before `wait` has seen its end."""
        return self._task.version

    def wait(self, *, timeout: Timeout = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of the task, as `AsyncTask.wait` does."""
        return self._loop.run(self._task.wait(timeout=timeout))


class Client(BlockingRequests[Task]):
    """The same as `AsyncClient`, for programs without an event loop; a context manager.

    Its methods block and may be called by any number of threads at once; what these ask for
    travels in the same batches.
    """

    _loop: LoopThread = not_open()

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
        self._client = AsyncClient(
            dsn,
            direct_dsn=direct_dsn,
            pool=pool,
            cache=cache,
            wakeups=wakeups,
            encryption=encryption,
            reader=reader,
        )

    @classmethod
    def over(cls, client: AsyncClient) -> Self:
        """Return the blocking face of a client, or of an engine, that is not open yet."""
        face = cls.__new__(cls)
        face._client = client  # noqa: SLF001 - our own, made without its constructor
        return face

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        loop = LoopThread()
        try:
            loop.run(self._client.__aenter__())
        except BaseException:
            loop.close()
            raise
        self._loop = loop
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close, as leaving an `async with` block does; once more is harmless."""
        if self._loop.has_ended:
            return
        self._loop.close_after(self._client.__aexit__(*exc_info))

    @property
    def metrics(self) -> CollectorRegistry:
        """A registry of prometheus-client, as `AsyncClient.metrics`."""
        return self._client.metrics

    def submit_many(
        self, requests: Iterable[Request], *, timeout: Timeout = None
    ) -> list[Task | PgprogError]:
        """Queue many requests; return the task or the error of each, in order."""
        outcomes = self._loop.run(self._client.submit_many(requests, timeout=timeout))
        return [
            outcome if isinstance(outcome, PgprogError) else self._task(outcome)
            for outcome in outcomes
        ]

    def wait(self, task_id: int, *, timeout: Timeout = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of a task, as `AsyncClient.wait` does."""
        return self._loop.run(self._client.wait(task_id, timeout=timeout))

    def simple_repair(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        idempotency_key: str | None = None,
    ) -> Task | None:
        """Mend a process in error without repair code, as `AsyncClient.simple_repair` does."""
        task = self._loop.run(
            self._client.simple_repair(namespace, process_id, idempotency_key=idempotency_key)
        )
        return None if task is None else self._task(task)

    def put(
        self,
        process: Process[Any] | Mapping[str, object],
        *,
        idempotency_key: str | None = None,
    ) -> int:
        """Import a process as `get` gives it, as `AsyncClient.put` does."""
        return self._loop.run(self._client.put(process, idempotency_key=idempotency_key))

    def remove(
        self, namespace: str | Namespace[Any], process_id: str, *, version: int | None = None
    ) -> bool:
        """Remove a process at once for every reader, as `AsyncClient.remove` does."""
        return self._loop.run(self._client.remove(namespace, process_id, version=version))

    def cancel(self, task_id: int) -> bool:
        """End a task that has not started; return whether it was there to be cancelled."""
        return self._loop.run(self._client.cancel(task_id))

    @overload
    def get(
        self,
        namespace: Namespace[S],
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
        **freshness: Unpack[Freshness],
    ) -> Process[S] | None: ...

    @overload
    def get(
        self,
        namespace: str,
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
        **freshness: Unpack[Freshness],
    ) -> Process[Any] | None: ...

    def get(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
        **freshness: Unpack[Freshness],
    ) -> Process[Any] | None:
        """Return a process from one consistent snapshot, as `AsyncClient.get` does."""
        range_ = range_of(max_events, after, direction)
        found = None if freshness else self._client.look(namespace, process_id, range_)
        if found is not None:
            return found
        return self._loop.run(
            self._client.get(
                namespace,
                process_id,
                max_events=max_events,
                after=after,
                direction=direction,
                **freshness,
            )
        )

    def history(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        after: int | None = None,
        max_events: int = 100,
        direction: Direction = "forward",
    ) -> list[Event]:
        """Return events, as `AsyncClient.history` does."""
        return self._loop.run(
            self._client.history(
                namespace, process_id, after=after, max_events=max_events, direction=direction
            )
        )

    def events(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> Iterator[Event]:
        """Yield all events, as `AsyncClient.events` does."""
        ask = self._client.events_page
        behind: Event | int | None = after
        while page := self._loop.run(ask(namespace, process_id, behind, direction)):
            yield from page
            behind = page[-1]

    @overload
    def watch(
        self, namespace: Namespace[S], process_id: str, *, after: Seen | None = None
    ) -> Iterator[Process[S]]: ...

    @overload
    def watch(
        self, namespace: str, process_id: str, *, after: Seen | None = None
    ) -> Iterator[Process[Any]]: ...

    def watch(
        self, namespace: str | Namespace[Any], process_id: str, *, after: Seen | None = None
    ) -> Iterator[Process[Any]]:
        """Yield a process whenever it has changed, as `AsyncClient.watch` does."""
        return self._following(self._client.watch(namespace, process_id, after=after))

    def watch_all(
        self,
        namespace: str | Namespace[Any],
        *,
        status: str | None = None,
        position: str | None = None,
    ) -> Iterator[Changed | Reached]:
        """Yield processes whenever they have changed, as `AsyncClient.watch_all` does."""
        watched = self._client.watch_all(namespace, status=status, position=position)
        return self._following(watched)

    def _following(self, watched: AsyncGenerator[S, None]) -> Iterator[S]:
        steps: set[asyncio.Task[Any]] = set()

        async def following() -> S | None:
            if (step := asyncio.current_task()) is not None:
                steps.add(step)
                step.add_done_callback(steps.discard)
            return await anext(watched, None)

        async def end() -> None:
            for step in steps:  # whose caller was interrupted; to cut a read takes time
                if not step.cancelling():
                    step.cancel()
            if steps:
                await asyncio.wait([*steps])
            await watched.aclose()

        try:
            while (found := self._loop.run(following())) is not None:
                yield found
        finally:
            with contextlib.suppress(StoreUnavailable):  # a loop that has ended has ended it, too
                self._loop.run(end())

    def trace(self, namespace: str | Namespace[Any], process_id: str) -> list[TaskRecord]:
        """Return the tasks of a process, as `AsyncClient.trace` does."""
        return self._loop.run(self._client.trace(namespace, process_id))

    def result(self, task_id: int) -> TaskResult:
        """Return where a task is, as `AsyncClient.result` does."""
        return self._loop.run(self._client.result(task_id))

    def explain(self, namespace: str | Namespace[Any], process_id: str) -> Explanation:
        """Return the one reason why a process is not moving, as `AsyncClient.explain` does."""
        return self._loop.run(self._client.explain(namespace, process_id))

    def stats(self) -> list[NamespaceStats]:
        """Return what each namespace holds, as `AsyncClient.stats` does."""
        return self._loop.run(self._client.stats())

    def health(self) -> Mapping[str, Any]:
        """Return whether the engine can do its work, as `AsyncClient.health` does."""
        return self._loop.run(self._client.health())

    def bind(self, connection: BlockingConnection) -> Bound:
        """Return what submits on the caller's own connection, as `AsyncClient.bind` does."""
        return self._client.bind(connection)

    def _ask(self, asked: Asked) -> Any:  # noqa: ANN401 - what the handler answers
        return self._loop.run(self._client.ask(asked))

    def _queue(self, asked: Asked) -> Task:
        return self._task(self._loop.run(self._client.queue(asked)))

    def _task(self, task: AsyncTask) -> Task:
        return Task(task, self._loop)
