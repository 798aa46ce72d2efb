"""The embedded engine: a client and a worker in one program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from pgprog import logs
from pgprog.client.async_client import AsyncClient
from pgprog.client.sync_client import Client
from pgprog.config import WorkerConfig, from_code
from pgprog.engine import Worker
from pgprog.engine.settling import end
from pgprog.errors import ConfigError
from pgprog.model import TaskStatus
from pgprog.replication.inserts import DUE
from pgprog.store.columns import queued_in
from pgprog.store.rows import Ended, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from pgprog.config import Config, PoolConfig
    from pgprog.encryption import Encryption
    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import RequestLane
    from pgprog.store.rows import Claimed, Completion, RawRequest, Submitted

log = logs.get(__name__)

# What only `pgprog worker` obeys, and what does for an engine.
_OF_DAEMONS: Final = {
    "http": "show `engine.metrics` by the program's own server",
    "processes": "start as many programs, each with its engine",
    "memory_limit": "give it to what runs the program, as systemd has MemoryMax=",
}


class Engine(AsyncClient):
    """Serves *namespaces* and asks their processes; `async with`, or `with` in sync programs.

    A request for a process of which nothing waits is executed where it arrives, without a queue
    hop.  Answers of tasks that run here are released as soon as they are committed.  In a `with`
    block the engine's loop runs in a thread of its own, and the methods block.

    It keeps house, too, as workers of all roles do: what ended longer than *task_retention* ago
    (30 d), keys older than *key_ttl* (7 d) and what operators did longer than *audit_retention*
    ago (365 d) goes.  Of all who keep house in a database the shortest counts: give an engine what
    the file of the workers says.

    Raises:
        ConfigError: A value is out of its range; the message lists all of them.  Or *worker* has
            *http*, *processes* or *memory_limit*, which only `pgprog worker` obeys: the hint says
            what to do in their place.
    """

    def __init__(  # noqa: PLR0913 - each is a setting
        self,
        dsn: str,
        namespaces: Sequence[Namespace[Any]],
        *,
        direct_dsn: str | None = None,
        worker: WorkerConfig | None = None,
        pool: PoolConfig | None = None,
        encryption: Encryption | None = None,
        reader: str | None = None,
        task_retention: timedelta | str | None = None,
        key_ttl: timedelta | str | None = None,
        audit_retention: timedelta | str | None = None,
    ) -> None:
        cache = {namespace.name: namespace.settings.cache for namespace in namespaces}
        worker = worker or WorkerConfig()
        _check(worker)
        super().__init__(
            dsn,
            direct_dsn=direct_dsn,
            pool=pool,
            cache=cache,
            wakeups=worker.wakeups,
            encryption=encryption,
            reader=reader,
        )
        self._namespaces = {namespace.name: namespace for namespace in namespaces}
        self._is_serving = False
        self._blocking: Client | None = None
        config = from_code(
            dsn=dsn,
            direct_dsn=direct_dsn,
            worker=worker,
            pool=pool,
            task_retention=task_retention,
            key_ttl=key_ttl,
            audit_retention=audit_retention,
        )
        self._worker = self._worker_by(config, namespaces, encryption)

    async def __aenter__(self) -> Self:
        """Connect, and begin to serve.

        Raises:
            SchemaMismatch: The database needs `pgprog db migrate`.
            StoreUnavailable: It cannot be reached.
        """
        await super().__aenter__()
        try:
            await self._closing.enter_async_context(self._worker)
        except BaseException:
            await self._closing.aclose()
            raise
        self._is_serving = True
        watching = asyncio.create_task(self._watch())
        self._closing.push_async_callback(self._cease, watching)
        return self

    def __enter__(self) -> Client:
        """Serve from a thread of its own; return the blocking client of this engine."""
        blocking = Client.over(self).__enter__()
        self._blocking = blocking
        return blocking

    def __exit__(self, *exc_info: object) -> None:
        """Stop serving, as leaving an `async with` block does."""
        if self._blocking is not None:
            self._blocking.__exit__(*exc_info)

    def namespace_of(self, name: str) -> Namespace[Any] | None:
        """Return the namespace of this name, None if it is not served here.

        While it is served it is under the settings of the database, as its steps are.
        """
        return self._worker.served.get(name) or self._namespaces.get(name)

    def _worker_by(
        self,
        config: Config,
        namespaces: Sequence[Namespace[Any]],
        encryption: Encryption | None,
    ) -> Worker:
        worker = Worker(
            config,
            namespaces,
            tell=self._tell,
            metrics=self._figures.metrics,
            encryption=encryption,
        )
        worker.feed = self._feed
        if config.worker.wakeups == "stream":
            self._feed.expect(DUE)
        return worker

    async def _send(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        if not self._is_serving:
            return await super()._send(requests, lane=lane)
        submitted = await self._worker.send(requests, lane=lane)
        queued = queued_in(requests, submitted)
        self._due.add_all([each for each in queued if each not in self._namespaces])
        return submitted

    def _tell(self, claimed: Claimed, completion: Completion, version: int | None) -> bool:
        if not self._answers.is_awaited(claimed.task_id):
            return False
        failed = completion.outcome in (Outcome.BROKEN, Outcome.FAILED, Outcome.CRITICAL)
        status = TaskStatus.ERROR if failed else TaskStatus.FINISHED
        self._answers.tell(
            Ended(claimed.task_id, status, completion.response, completion.error, version)
        )
        return True

    async def _watch(self) -> None:
        """Say it when the worker fails: from then on requests are only queued."""
        try:
            await self._worker.wait_failed()
        except Exception as e:  # noqa: BLE001 - whatever it was, it is a bug and must be seen
            self._is_serving = False
            log.error("worker_failed", error=e)  # noqa: TRY400 - our log carries it

    async def _cease(self, watching: asyncio.Task[None]) -> None:
        self._is_serving = False
        await end(watching)


def _check(worker: WorkerConfig) -> None:
    default = WorkerConfig()
    for name, instead in _OF_DAEMONS.items():
        if getattr(worker, name) != getattr(default, name):
            msg = f"worker.{name}: only `pgprog worker` obeys it, an engine does not"
            raise ConfigError(msg, hint=instead)
