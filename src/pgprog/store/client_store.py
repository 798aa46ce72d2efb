"""The SQL functions of clients, and the views that they list; a method has its function's name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString, ParamSpec, TypeVar

from psycopg.rows import dict_row

from pgprog.encryption import sealed_process
from pgprog.errors import StoreUnavailable
from pgprog.metrics import Metrics
from pgprog.store.beats import SERVER
from pgprog.store.changes import Changes
from pgprog.store.columns import columns_of
from pgprog.store.faults import NOT_SENT, translated_failures, translated_for_callers
from pgprog.store.lane import Lane
from pgprog.store.measuring import measure_requests, timed
from pgprog.store.packing import bigints, texts
from pgprog.store.pool import make_pool, pool_samples
from pgprog.store.rows import Ended, NamespaceStats, RawRequest, Submitted
from pgprog.store.starting import SUBMIT_MANY, outcomes, packed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from pgprog.encryption import Encryption
    from pgprog.model import Direction
    from pgprog.store.engine_store import RequestLane


P = ParamSpec("P")
T = TypeVar("T")


class ClientStore(Changes):
    """A pool for reads and operations, a lane for each kind of batch and one for the answers."""

    def __init__(
        self,
        dsn: str,
        *,
        size: int,
        checkout_timeout: timedelta,
        name: str,
        metrics: Metrics | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        def lane(what: str) -> Lane:
            return Lane(dsn, name=f"{name} {what}", encryption=encryption)

        self._encryption = encryption
        self._pool = make_pool(
            dsn, size=size, checkout_timeout=checkout_timeout, name=name, encryption=encryption
        )
        self._metrics = metrics or Metrics()
        self._hide = self._metrics.show(partial(pool_samples, "api", self._pool, size=size))
        self._submits: dict[RequestLane, Lane] = {
            "batches": lane("submit"),
            "many": lane("submit many"),
            "alone": lane("submit alone"),
        }
        self._results = lane("results")

    async def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: The database cannot be reached.
            SchemaMismatch: It has no schema of pgprog.
        """
        # By a lane first: a pool would try until its time is up, and not say what was wrong.
        with translated_for_callers():
            await self._results.fetch("select pgprog.schema_version()")
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections after what is in flight has ended."""
        lanes = (*self._submits.values(), self._results)
        try:
            await asyncio.gather(*(lane.close() for lane in lanes))
        finally:  # also for who is cancelled meanwhile
            self._hide()
            await self._pool.close()

    async def submit_many(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        """Queue requests in one statement, each with its own outcome, in order.

        Raises:
            LockTimeout: Nothing was done; a stranger's open transaction holds a key or an id.
            StoreUnavailable: The outcome of all is unknown.
            PgprogError: The role may not ask, or the database failed; nothing was done.
        """
        began_at = time.monotonic()
        with translated_failures():
            rows = await self._submits[lane].fetch(
                SUBMIT_MANY, packed(columns_of(requests, self._encryption))
            )
        submitted, seconds = outcomes(rows), time.monotonic() - began_at
        measure_requests(self._metrics, requests, submitted, seconds=seconds)
        return submitted

    async def results(self, task_ids: Sequence[int]) -> list[Ended]:
        """Return the ends of those that have ended."""
        with translated_for_callers():
            rows = await self._results.fetch(
                "select * from pgprog.results(%s)", (bigints(task_ids),)
            )
        return [Ended._make(row) for row in rows]

    async def result(self, task_id: int) -> bytes:
        """Return the result of a task as raw JSON.

        Raises:
            TaskNotFound: There is no such task.
        """
        return bytes(await self._value("select pgprog.result(%s)", (task_id,)))

    async def cancel(self, task_id: int) -> bool:
        """End a task that has not started; return whether it was there to be cancelled."""
        [[was_there]] = await self._fetch("select pgprog.cancel(%s)", (task_id,))
        return bool(was_there)

    async def simple_repair(
        self, namespace: str, process_id: str, idempotency_key: str | None
    ) -> int | None:
        """Mend a process without repair code; return the task that tries again what failed.

        None where there is nothing to try again: a call had failed.
        """
        [[task_id]] = await self._fetch(
            "select pgprog.simple_repair(%s, %s, %s)", (namespace, process_id, idempotency_key)
        )
        return None if task_id is None else int(task_id)

    async def put(self, process: bytes, idempotency_key: str | None) -> int:
        """Import a process, in the JSON of pgprog.get; return its version."""
        if self._encryption is not None:
            process = sealed_process(self._encryption, process, idempotency_key=idempotency_key)
        [[version]] = await self._fetch(
            "select pgprog.put(%s::text::jsonb, %s)", (process.decode(), idempotency_key)
        )
        return int(version)

    async def remove(self, namespace: str, process_id: str, version: int | None) -> bool:
        """Remove a process; return whether it was there, in this version if one is given."""
        with timed(self._metrics.process_removing[namespace,]):
            [[was_there]] = await self._fetch(
                "select pgprog.remove(%s, %s, %s)", (namespace, process_id, version)
            )
        return bool(was_there)

    async def pause(self, namespace: str, reason: str | None) -> bool:
        """Let no task start in a namespace; return whether it ran before."""
        [[was_running]] = await self._fetch("select pgprog.pause(%s, %s)", (namespace, reason))
        return bool(was_running)

    async def resume(self, namespace: str) -> bool:
        """Let tasks start again; return whether the namespace was paused."""
        [[was_paused]] = await self._fetch("select pgprog.resume(%s)", (namespace,))
        return bool(was_paused)

    async def get(
        self,
        namespace: str,
        process_id: str,
        *,
        max_events: int,
        after: int | None,
        direction: Direction,
    ) -> bytes | None:
        """Return a process as raw JSON, None when there is none."""
        found = await self._value(
            "select pgprog.get(%s, %s, %s, %s, %s)",
            (namespace, process_id, max_events, after, direction),
        )
        return None if found is None else bytes(found)

    async def get_fenced(
        self,
        namespace: str,
        process_id: str,
        *,
        max_events: int,
        after: int | None = None,
        direction: Direction = "backward",
    ) -> tuple[str, str, bytes | None]:
        """Return a snapshot, which server it is of, and a process in it as `get` does."""
        [[snapshot, server, found]] = await self._read(
            f"select pg_current_snapshot()::text, {SERVER}, pgprog.get(%s, %s, %s, %s, %s)",
            (namespace, process_id, max_events, after, direction),
        )
        return snapshot, server, None if found is None else bytes(found)

    async def history(
        self,
        namespace: str,
        process_id: str,
        *,
        after: int | None,
        max_events: int,
        direction: Direction,
    ) -> list[Any]:
        """Return (event_id, at, task_id, payload, metadata, state_version) of events."""
        return await self._read(
            "select * from pgprog.history(%s, %s, %s, %s, %s)",
            (namespace, process_id, after, max_events, direction),
        )

    async def trace(self, namespace: str, process_id: str) -> list[dict[str, Any]]:
        """Return the columns of pgprog.trace for each task and attempt."""
        return await self._rows("select * from pgprog.trace(%s, %s)", (namespace, process_id))

    async def explain(self, namespace: str, process_id: str) -> tuple[str, str, bytes]:
        """Return why a process is not moving: reason, sentence, and details as raw JSON.

        Raises:
            ProcessNotFound: There is no such process.
        """
        [[reason, sentence, details]] = await self._read(
            "select reason, sentence, details from pgprog.explain(%s, %s)", (namespace, process_id)
        )
        return reason, sentence, bytes(details)

    async def stats(self) -> list[NamespaceStats]:
        """Return what each namespace holds, by their names."""
        rows = await self._read(
            "select namespace, waiting, blocked, running, timers, oldest_due_age, errors, later,"
            " retrying, suspended, finished, workers, concurrency, max_queue, is_paused"
            " from pgprog.stats()"
        )
        return [NamespaceStats._make(row) for row in rows]

    async def health(self) -> bytes:
        """Return whether the engine can do its work, by component, as raw JSON."""
        return bytes(await self._value("select pgprog.health()"))

    async def processes(
        self, *, namespace: str | None, status: str | None, after: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return rows of the view pgprog.processes by namespace and id, from behind *after*."""
        return await self._rows(
            "select * from pgprog.processes"
            " where (%(namespace)s::text is null or namespace = %(namespace)s)"
            "   and (%(status)s::text is null or status = %(status)s)"
            "   and (%(after)s::text is null or process_id > %(after)s)"
            " order by namespace, process_id limit %(limit)s",
            {"namespace": namespace, "status": status, "after": after, "limit": limit},
        )

    async def tasks(
        self,
        *,
        namespace: str | None,
        process_id: str | None,
        status: str | None,
        type_: str | None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Return rows of the view pgprog.tasks, the newest first."""
        return await self._rows(
            "select * from pgprog.tasks"
            " where (%(namespace)s::text is null or namespace = %(namespace)s)"
            "   and (%(process_id)s::text is null or process_id = %(process_id)s)"
            "   and (%(status)s::text is null or status = %(status)s)"
            "   and (%(type)s::text is null or type = %(type)s)"
            " order by task_id desc limit %(limit)s",
            {
                "namespace": namespace,
                "process_id": process_id,
                "status": status,
                "type": type_,
                "limit": limit,
            },
        )

    async def task(self, task_id: int) -> dict[str, Any] | None:
        """Return the row of one task in the view pgprog.tasks, None when there is none."""
        rows = await self._rows("select * from pgprog.tasks where task_id = %s", (task_id,))
        return rows[0] if rows else None

    async def namespaces(self, *, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return rows of the view pgprog.namespaces."""
        return await self._rows(
            "select * from pgprog.namespaces"
            " where %(namespace)s::text is null or namespace = %(namespace)s order by namespace",
            {"namespace": namespace},
        )

    async def now(self) -> datetime:
        """Return the database's time, by which ages are told."""
        now: datetime = await self._value("select pg_catalog.now()")
        return now

    async def schema_version(self) -> int:
        """Return the number of the last migration that was applied."""
        return int(await self._value("select pgprog.schema_version()"))

    async def announce(self, channel: str, payloads: Sequence[str]) -> None:
        """Notify who listens, in a transaction behind what it is about; what cannot be is lost."""
        with contextlib.suppress(*NOT_SENT):
            await self._submits["batches"].fetch(
                "select pg_notify(%s, payload) from unnest(%s::text[]) as x(payload)",
                (channel, texts(sorted({*payloads}))),
            )

    async def _value(self, statement: LiteralString, values: Sequence[object] = ()) -> Any:  # noqa: ANN401 - the one column of a row
        [[value]] = await self._read(statement, values)
        return value

    async def _fetch(self, statement: LiteralString, values: Sequence[object] = ()) -> list[Any]:
        with translated_for_callers():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement, values, binary=True)
                return await cursor.fetchall()

    async def _rows(
        self, statement: LiteralString, values: Sequence[object] | dict[str, object]
    ) -> list[dict[str, Any]]:
        return await self._again(self._fetch_rows, statement, values)

    async def _read(self, statement: LiteralString, values: Sequence[object] = ()) -> list[Any]:
        return await self._again(self._fetch, statement, values)

    async def _again(
        self, fetch: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Read, and once more where a restart of the server has broken the pooled connections."""
        try:
            return await fetch(*args, **kwargs)
        except StoreUnavailable:
            await self._pool.drain()  # check() would wait for each, where nothing answers
            return await fetch(*args, **kwargs)

    async def _fetch_rows(
        self, statement: LiteralString, values: Sequence[object] | dict[str, object]
    ) -> list[dict[str, Any]]:
        with translated_for_callers():
            async with (
                self._pool.connection() as connection,
                connection.cursor(binary=True, row_factory=dict_row) as cursor,
            ):
                await cursor.execute(statement, values)
                return await cursor.fetchall()
