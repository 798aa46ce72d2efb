"""What clients read: processes, histories, tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from pgprog.client import reading
from pgprog.codec import check_text
from pgprog.engine.events import events_of
from pgprog.errors import InvalidArgument, TaskNotFound
from pgprog.model import Limits
from pgprog.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pgprog.model import Direction, Event, Explanation, Process, TaskRecord, TaskResult
    from pgprog.store.client_store import ClientStore
    from pgprog.store.rows import NamespaceStats

S = TypeVar("S")

_PAGE = 1000
_LIMITS = Limits()
_INTEGER = (1 << 31) - 1
_BIGINT = (1 << 63) - 1


class AsyncReads:
    """The reading half of a client."""

    _store: ClientStore

    @overload
    async def get(
        self,
        namespace: Namespace[S],
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> Process[S] | None: ...

    @overload
    async def get(
        self,
        namespace: str,
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> Process[Any] | None: ...

    async def get(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> Process[Any] | None:
        """Return a process from one consistent snapshot, None when there is none.

        By a `Namespace` its state is typed, by a name it is plain JSON.  *after* is exclusive.
        """
        _check_range(max_events, after)
        raw = await self._store.get(
            *checked_names(namespace, process_id),
            max_events=max_events,
            after=after,
            direction=direction,
        )
        return None if raw is None else reading.process_of(raw, namespace=_typed(namespace))

    async def history(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        after: int | None = None,
        max_events: int = 100,
        direction: Direction = "forward",
    ) -> list[Event]:
        """Return events: forward those above *after*, ascending; backward below it, descending.

        By a `Namespace` their payloads are upcast.

        Raises:
            ProcessNotFound: There is no such process.
        """
        _check_range(max_events, after)
        rows = await self._store.history(
            *checked_names(namespace, process_id),
            after=after,
            max_events=max_events,
            direction=direction,
        )
        return [*events_of(rows, namespace=_typed(namespace))]

    async def events(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> AsyncIterator[Event]:
        """Yield all events, read in pages of 1 000.

        Raises:
            ProcessNotFound: There is no such process, or it was removed on the way.
        """
        while page := await self.history(
            namespace, process_id, after=after, max_events=_PAGE, direction=direction
        ):
            for event in page:
                yield event
            after = page[-1].event_id

    async def trace(self, namespace: str | Namespace[Any], process_id: str) -> list[TaskRecord]:
        """Return the tasks of a process with their attempts and events, by their ids.

        Raises:
            ProcessNotFound: There is no such process.
        """
        rows = await self._store.trace(*checked_names(namespace, process_id))
        return [reading.record_of(row) for row in rows]

    async def result(self, task_id: int) -> TaskResult:
        """Return where a task is and, once it has ended, its answer.

        Raises:
            TaskNotFound: There is no such task, or it ended longer ago than *task_retention*.
        """
        raw = await self._store.result(checked_task_id(task_id))
        return reading.result_of(task_id, raw)

    async def explain(self, namespace: str | Namespace[Any], process_id: str) -> Explanation:
        """Return the one reason why a process is not moving.

        Raises:
            ProcessNotFound: There is no such process.
        """
        return reading.explanation_of(
            *await self._store.explain(*checked_names(namespace, process_id))
        )

    async def stats(self) -> list[NamespaceStats]:
        """Return what each namespace holds, by their names; it reads the whole queue."""
        return await self._store.stats()

    async def health(self) -> Mapping[str, Any]:
        """Return whether the engine can do its work: `status`, and `components` with reasons.

        A status is `passing` or `critical`.
        """
        return reading.health_of(await self._store.health())


def checked_task_id(task_id: int) -> int:
    """Return *task_id*, if it can be one.

    Raises:
        TaskNotFound: It is none that the database could hold.
    """
    if not _is_within(task_id, -_BIGINT, _BIGINT):
        msg = f"no task {task_id}"
        raise TaskNotFound(msg)
    return task_id


def checked_names(namespace: str | Namespace[Any], process_id: str) -> tuple[str, str]:
    """Return what names a process, checked.

    Raises:
        InvalidArgument: It cannot be a name.
    """
    name = namespace.name if isinstance(namespace, Namespace) else namespace
    check_text(name, field="namespace", limit=_LIMITS.id_bytes)
    check_text(process_id, field="process_id", limit=_LIMITS.id_bytes)
    return name, process_id


def _check_range(max_events: object, after: object) -> None:
    """Check what the database would take for another function, by the types of its arguments.

    Raises:
        InvalidArgument: A number is none, or greater than the database's.
    """
    if not _is_within(max_events, 0, _INTEGER):
        msg = f"max_events is {max_events!r}, 0 to {_INTEGER} are allowed"
        raise InvalidArgument(msg)
    if after is not None and not _is_within(after, -_BIGINT, _BIGINT):
        msg = f"after is {after!r}, the id of an event is needed"
        raise InvalidArgument(msg)


def _is_within(value: object, least: int, greatest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= greatest


def _typed(namespace: str | Namespace[Any]) -> Namespace[Any] | None:
    return namespace if isinstance(namespace, Namespace) else None
