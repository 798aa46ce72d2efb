"""What clients do to processes and tasks without a handler."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, overload

from pgprog.client.answers import response_of
from pgprog.client.bound import AsyncBound, Bound, bound_to
from pgprog.client.filtered import AsyncFiltered
from pgprog.client.opening import not_open
from pgprog.client.reads import checked_names, checked_task_id, checked_version
from pgprog.client.requests import PLAIN
from pgprog.client.tasks import AsyncTask
from pgprog.codec import encode
from pgprog.model import Process, TaskId
from pgprog.texts import MOST_ID_BYTES, check_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from pgprog.client.answers import Answers
    from pgprog.client.figures import Figures
    from pgprog.client.submitter import Submitter
    from pgprog.codec import Numbers
    from pgprog.encryption import Encryption
    from pgprog.metrics.exposition import CollectorRegistry
    from pgprog.namespace import Namespace
    from pgprog.store.bound import AsyncConnection, BlockingConnection
    from pgprog.store.rows import Ended
    from pgprog.store.wakeups import Hints

# What one value of PostgreSQL may have; the database checks the parts by the namespace's limits.
_MOST_BYTES = (1 << 28) - 1


class AsyncOperations(AsyncFiltered):
    """The operations that are neither asked of a handler nor reads."""

    _submitter: Submitter = not_open()
    _answers: Answers = not_open()
    _due: Hints[str]
    _encryption: Encryption | None
    _figures: Figures

    @property
    def metrics(self) -> CollectorRegistry:
        """A registry of prometheus-client with the metrics of this client and its engine.

        Give it to `generate_latest` or `start_http_server`; any thread may read it.  Gauges of the
        database are some seconds old at most, and left out while it does not answer.

        Raises:
            ConfigError: prometheus-client is not installed.
        """
        return self._figures.registry

    async def simple_repair(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        idempotency_key: str | None = None,
    ) -> AsyncTask | None:
        """Mend a process in error without repair code; return the task that tries again.

        The process goes back to the status it had and its timers come back.  What failed is tried
        again as a new task; None after a failed call, whose caller decides for himself.

        Raises:
            ProcessNotInError: There is nothing to mend.
            TaskNotFound: What broke the process was not kept: the process was imported in error.
        """
        _check_key(idempotency_key)
        names = checked_names(namespace, process_id)
        task_id = await self._store.simple_repair(*names, idempotency_key)
        self._note(names)
        self._due.add(names[0])
        return None if task_id is None else AsyncTask(self, TaskId(task_id), process=names)

    async def put(
        self,
        process: Process[Any] | Mapping[str, object],
        *,
        idempotency_key: str | None = None,
    ) -> int:
        """Import a process as `get` gives it, with its whole history; return its version.

        No handler runs and nothing is announced.  What *process* says of incarnation and version
        is ignored.

        Raises:
            ProcessExists: The id is taken.
            InvalidArgument: A part is missing, or cannot be stored; the message names it.
        """
        _check_key(idempotency_key)
        plain = as_get_gives_it(process) if isinstance(process, Process) else process
        known = self.namespace_of(str(plain.get("namespace")))
        numbers: Numbers = "float" if known is None else known.settings.numbers
        raw = encode(plain, field="process", limit=_MOST_BYTES, numbers=numbers)
        version = await self._store.put(raw, idempotency_key)
        self._note((str(plain["namespace"]), str(plain["process_id"])), version)
        self._due.add(str(plain["namespace"]))  # its timers may be due
        return version

    async def remove(
        self, namespace: str | Namespace[Any], process_id: str, *, version: int | None = None
    ) -> bool:
        """Remove a process at once for every reader; return whether it was there to be removed.

        Its open tasks, the running one too, end as cancelled.  With *version*, only if it has not
        changed since: a repeat never meets the next process of that id.

        Raises:
            InvalidArgument: *version* can be none.
        """
        names = checked_names(namespace, process_id)
        was_there = await self._store.remove(*names, checked_version(version))
        self._note(names)
        return was_there

    async def cancel(self, task_id: int) -> bool:
        """End a task that has not started; return whether it was there to be cancelled.

        Raises:
            TaskNotFound: There is no such task.
        """
        was_there = await self._store.cancel(checked_task_id(task_id))
        if self._cached is not None:
            self._cached.note_any()
        return was_there

    async def wait(self, task_id: int, *, timeout: float | timedelta | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of a task, waiting for its end.

        Raises:
            TaskNotFound: There is no such task.
            PgprogError: What the task ended with, as `call`.
        """
        return PLAIN.decode(response_of(await self.wait_ended(task_id, timeout=timeout)))

    async def wait_ended(self, task_id: int, *, timeout: float | timedelta | None = None) -> Ended:
        """Return the end of a task as it is, for `wait`."""
        await self._store.result(checked_task_id(task_id))  # it may not exist at all
        return await self.end_of(task_id, timeout=timeout)

    @overload
    def bind(self, connection: BlockingConnection) -> Bound: ...

    @overload
    def bind(self, connection: AsyncConnection) -> AsyncBound: ...

    def bind(self, connection: BlockingConnection | AsyncConnection) -> Bound | AsyncBound:
        """Return what submits on the caller's own psycopg connection, inside its transaction.

        It submits and never waits: the task runs once that transaction has committed, and is
        gone when it is rolled back.  SQLAlchemy gives its connection as
        ``session.connection().connection.driver_connection``, Django as ``connection.connection``.
        """
        return bound_to(connection, namespace_of=self.namespace_of, encryption=self._encryption)

    def namespace_of(self, name: str) -> Namespace[Any] | None:
        """Return a namespace whose handlers this program has; a mere client has none."""
        del name
        return None

    async def end_of(
        self,
        task_id: int,
        *,
        process: tuple[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Ended:
        """Return the end of a task that exists, for tasks that wait."""
        raise NotImplementedError

    def _note(self, process: tuple[str, str], version: int | None = None) -> None:
        """Let later reads of a process show what was done to it."""
        if self._cached is not None:
            self._cached.note(process, version)


def _check_key(key: str | None) -> None:
    if key is not None:
        check_text(key, field="idempotency_key", limit=MOST_ID_BYTES)


def as_get_gives_it(process: Process[Any]) -> dict[str, object]:
    """Return a process as the JSON of pgprog.get has it, its values not yet encoded."""
    plain = {field.name: getattr(process, field.name) for field in fields(process) if field.compare}
    plain["history"] = [
        {field.name: getattr(event, field.name) for field in fields(event)}
        for event in process.history
    ]
    return plain
