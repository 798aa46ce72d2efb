"""What clients read: processes, histories, tasks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pgprog.client import reading
from pgprog.client.freshness import (
    ANYTHING,
    NO_EVENTS,
    check_range,
    is_within,
    range_of,
    wanted,
)
from pgprog.client.memory import TooSoon
from pgprog.client.opening import not_open
from pgprog.engine.events import events_of
from pgprog.errors import InvalidArgument, ProcessNotFound, StaleRead, TaskNotFound
from pgprog.model import Event
from pgprog.namespace import Namespace
from pgprog.texts import MOST_ID_BYTES, NAME_BYTES, check_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from typing_extensions import Unpack

    from pgprog.client.freshness import Freshness, Range, Wanted
    from pgprog.client.memory import Memory
    from pgprog.model import Direction, Explanation, Process, TaskRecord, TaskResult
    from pgprog.store.client_store import ClientStore
    from pgprog.store.rows import NamespaceStats

S = TypeVar("S")
T = TypeVar("T")

_PAGE = 1000
_HITS_A_TURN = 256  # about a millisecond
# Between reads of what is not visible yet: it is, nearly always, in the time of a round trip.
_PAUSES = (0.0, 0.001, 0.002, 0.005, 0.01)
_BIGINT = (1 << 63) - 1


class AsyncReads:
    """The reading half of a client."""

    _store: ClientStore = not_open()
    _cached: Memory | None = None

    @overload
    async def get(
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
    async def get(
        self,
        namespace: str,
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
        **freshness: Unpack[Freshness],
    ) -> Process[Any] | None: ...

    async def get(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
        **freshness: Unpack[Freshness],
    ) -> Process[Any] | None:
        """Return a process from one consistent snapshot, None when there is none.

        By a `Namespace` its state is typed, by a name it is plain JSON.  *after* is exclusive.
        Where the client has a cache for the namespace, it may come from there: see `Freshness`.

        Raises:
            StaleRead: Nothing as new as *at_least* was there within *timeout*.
        """
        range_ = range_of(max_events, after, direction)
        if self._cached is not None and not freshness:
            found = self._cached.look(namespace, process_id, range_)
            if found is not None:
                if self._cached.hits % _HITS_A_TURN == 0:
                    await asyncio.sleep(0)  # a loop of hits would hold up everything else
                return found
        return await self._get(namespace, process_id, range_, wanted(freshness))

    def look(
        self, namespace: str | Namespace[Any], process_id: str, range_: Range
    ) -> Process[Any] | None:
        """Return what `get` would, if that takes no wait; from any thread."""
        if self._cached is None:
            return None
        return self._cached.look(namespace, process_id, range_)

    async def _get(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        range_: Range,
        wanted: Wanted,
    ) -> Process[Any] | None:
        key = checked_names(namespace, process_id)
        typed = _typed(namespace)
        cached = self._cached if wanted.may_be_cached else None
        if cached is not None:
            found = cached.look(key[0] if typed is None else typed, key[1], range_, wanted)
            if found is not None:
                return found
            is_answered, found = await cached.read(key, typed, range_, wanted)
            if is_answered:
                return found
        if self._cached is not None:
            self._cached.pass_by(key[0])
        raw = await self._read(key, range_, wanted)
        return None if raw is None else reading.process_of(raw, namespace=typed)

    async def _read(self, key: tuple[str, str], range_: Range, wanted: Wanted) -> bytes | None:
        """Read PostgreSQL, again and again while it is older than is wanted.

        A process that is not there was removed since, but for the moment in which its commit may
        be known and is not visible.

        Raises:
            StaleRead: It is older for too long.
        """
        until = time.monotonic() + wanted.seconds
        pauses = chain(_PAUSES, repeat(_PAUSES[-1]))
        told = () if self._cached is None else self._cached.told(key)
        while True:
            pause, version = next(pauses), None
            with contextlib.suppress(TooSoon):
                raw = await self._read_once(key, range_, told)
                if raw is None:
                    if not wanted.at_least or pause == _PAUSES[-1]:
                        return None
                else:
                    version = reading.raw_process(raw).version if wanted.at_least else 0
                    if version >= wanted.at_least:
                        return raw
            if time.monotonic() + pause > until:
                shown = "older than what was read" if version is None else f"of version {version}"
                msg = f"process {key[1]} in namespace {key[0]} is {shown},"
                msg += f" {wanted.at_least} was asked for"
                raise StaleRead(msg)
            await asyncio.sleep(pause)

    async def _read_once(
        self, key: tuple[str, str], range_: Range, told: tuple[int, ...]
    ) -> bytes | None:
        if self._cached is None or not self._cached.serves(key[0]):
            return await self._store.get(*key, **range_._asdict())
        return await self._cached.read_past(key, range_, told)

    async def _beside(self, key: tuple[str, str], read: Callable[[], Awaitable[T]]) -> T:
        """Return what *read* finds of a process: nothing older than was shown from memory.

        Nor is anything older than that shown from memory later.

        Raises:
            StaleRead: PostgreSQL shows something older for too long.
        """
        if self._cached is None:
            return await read()
        if self._cached.told(key):
            await self._read(key, NO_EVENTS, ANYTHING)
        found = await read()
        self._cached.note(key)
        return found

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
        check_range(max_events, after)
        key = checked_names(namespace, process_id)
        read = partial(
            self._store.history, *key, after=after, max_events=max_events, direction=direction
        )
        rows = await self._beside(key, read)
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
        behind: Event | int | None = after
        while page := await self.events_page(namespace, process_id, behind, direction):
            for event in page:
                yield event
            behind = page[-1]

    async def events_page(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        behind: Event | int | None,
        direction: Direction,
    ) -> list[Event]:
        """Return the next of `events`, for clients of another colour.

        *behind* is the last event so far, which the page is read with: where that is another, or
        none, it is of another incarnation.

        Raises:
            ProcessNotFound: As for `events`.
        """
        if not isinstance(behind, Event):
            return await self.history(
                namespace, process_id, after=behind, max_events=_PAGE, direction=direction
            )
        after = (behind.event_id or 0) + (-1 if direction == "forward" else 1)
        first, *page = await self.history(
            namespace, process_id, after=after, max_events=_PAGE + 1, direction=direction
        ) or (None,)
        if first is None or (first.at, first.task_id) != (behind.at, behind.task_id):
            name, _ = checked_names(namespace, process_id)
            msg = f"process {process_id} in namespace {name} was removed while its events were read"
            raise ProcessNotFound(msg)
        return page

    async def trace(self, namespace: str | Namespace[Any], process_id: str) -> list[TaskRecord]:
        """Return the tasks of a process with their attempts and events, by their ids.

        Raises:
            ProcessNotFound: There is no such process.
        """
        key = checked_names(namespace, process_id)
        rows = await self._beside(key, partial(self._store.trace, *key))
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
        key = checked_names(namespace, process_id)
        row = await self._beside(key, partial(self._store.explain, *key))
        return reading.explanation_of(*row)

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
    if not is_within(task_id, -_BIGINT, _BIGINT):
        msg = f"no task {task_id}"
        raise TaskNotFound(msg)
    return task_id


def checked_version(version: int | None) -> int | None:
    """Return *version*, if a process can have it, or None.

    Raises:
        InvalidArgument: It can be none.
    """
    if version is not None and not is_within(version, 0, _BIGINT):
        msg = f"version is {version!r}, that of a process is needed"
        raise InvalidArgument(msg)
    return version


def checked_names(namespace: str | Namespace[Any], process_id: str) -> tuple[str, str]:
    """Return what names a process, checked, as plain texts, whatever kind of text they are.

    Raises:
        InvalidArgument: It cannot be a name.
    """
    name = namespace.name if isinstance(namespace, Namespace) else namespace
    check_text(name, field="namespace", limit=NAME_BYTES)
    check_text(process_id, field="process_id", limit=MOST_ID_BYTES)
    return str.__str__(name), str.__str__(process_id)


def _typed(namespace: str | Namespace[Any]) -> Namespace[Any] | None:
    return namespace if isinstance(namespace, Namespace) else None
