"""A whole life of processes in one test: an engine in memory, whose clock the test moves."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from pgprog.client.answers import response_of
from pgprog.client.blocking import BlockingRequests
from pgprog.client.freshness import check_range, wanted
from pgprog.client.operations import as_get_gives_it
from pgprog.client.reading import process_of
from pgprog.client.reads import checked_names, checked_version
from pgprog.client.requests import PLAIN, listed, raw_request, seconds_of
from pgprog.client.tasks import check_not_current
from pgprog.codec import Codec, encode
from pgprog.engine.events import events_of
from pgprog.errors import CallTimeout, InvalidArgument, PgprogError, StaleRead, StepFailed
from pgprog.model import Process, TaskId
from pgprog.namespace import Namespace
from pgprog.testing.driver import Driver
from pgprog.testing.twin import Twin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from typing_extensions import Unpack

    from pgprog.client.freshness import Freshness
    from pgprog.client.requests import Asked
    from pgprog.codec import Numbers
    from pgprog.model import (
        Direction,
        Event,
        Explanation,
        Request,
        TaskRecord,
        TaskResult,
    )
    from pgprog.store.rows import Ended
    from pgprog.testing.access import Connect

    Timeout = float | timedelta | None

S = TypeVar("S")

_ANSWER_SECONDS = 30.0
_ALL_EVENTS = (1 << 31) - 1
_OBJECT = Codec(dict[str, Any], "decimal")


def run(
    *namespaces: Namespace[Any],
    now: datetime | None = None,
    connect: Connect | None = None,
    crash: bool = False,
) -> Run:
    """Return an engine in memory that serves *namespaces*, a context manager.

    It has the methods of `Client`, and `Run.advance`.  What is asked for runs at once; timers,
    retries and what is asked for later wait until the test lets time pass.  It obeys what the
    SQL functions do, and has no database: `Step.transaction` needs *connect*, as in `run_step`.

    *now* is the time at the start, by default that of the machine.  Handlers that read a clock of
    their own see the machine's.  With *crash* each step is killed and run again at each of its
    boundaries: wherever its handler reads history, at both ends of its transactions, and when all
    is done but the commit.  Nothing that a handler does outside may be harmed by that.  A killed
    step burns no attempt here.

    There is no step time-out, and one step runs at a time.

    Raises:
        InvalidArgument: *now* has no time zone.
    """
    if now is not None and now.utcoffset() is None:
        msg = f"now has no time zone: {now.isoformat()}"
        raise InvalidArgument(msg, hint="give an aware datetime, such as one with tzinfo=UTC")
    return Run(namespaces, now=now or datetime.now(UTC), connect=connect, crash=crash)


class RunTask:
    """A task of a `Run`; *version* is that of its process after it has ended."""

    def __init__(self, run: Run, task_id: TaskId, *, process: tuple[str, str]) -> None:
        self.task_id = task_id
        self.version: int | None = None
        self._run = run
        self._process = process

    def __repr__(self) -> str:
        return f"<task {self.task_id}>"

    def wait(self, *, timeout: Timeout = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of the task, letting at most *timeout* (30 s) pass for it.

        Raises:
            CallTimeout: It has not ended by then; the task goes on.
            PgprogError: What it ended with, as for `Client.call`.
        """
        check_not_current(*self._process)
        ended = self._run.end_of(self.task_id, seconds_of(timeout, default=_ANSWER_SECONDS))
        self.version = ended.version
        return PLAIN.decode(self._run.response_of(ended))


class Run(BlockingRequests[RunTask]):
    """What `run` returns."""

    def __init__(
        self,
        namespaces: tuple[Namespace[Any], ...],
        *,
        now: datetime,
        connect: Connect | None,
        crash: bool,
    ) -> None:
        self._namespaces = {namespace.name: namespace for namespace in namespaces}
        self._twin = Twin(now)
        self._driver = Driver(self._twin, namespaces, connect=connect, crash=crash)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._driver.close()

    # ---- Time ----

    @property
    def now(self) -> datetime:
        """The time; it moves only when the test waits for something, or advances it."""
        return self._twin.now

    @property
    def kills(self) -> int:
        """How many times a step was killed, in crash mode."""
        return self._driver.kills

    def advance(self, by: timedelta | None = None, **parts: float) -> None:
        """Let time pass: ``advance(days=30)``; what comes due on the way runs when it is due."""
        self._driver.advance_to(self.now + (by or timedelta()) + timedelta(**parts))

    # ---- What a Client has ----

    def wait(self, task_id: int, *, timeout: Timeout = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of a task, as `RunTask.wait` does."""
        self._twin.result(task_id)  # it may not exist
        ended = self.end_of(task_id, seconds_of(timeout, default=_ANSWER_SECONDS))
        return PLAIN.decode(self.response_of(ended))

    def submit_many(
        self, requests: Iterable[Request], *, timeout: Timeout = None
    ) -> list[RunTask | PgprogError]:
        """Queue many requests; return the task or the error of each, in order.

        Nothing is waited for here, however short the *timeout*.
        """
        seconds_of(timeout, default=_ANSWER_SECONDS)
        made: list[RunTask | PgprogError] = []
        for request in listed(requests):
            try:
                made.append(self._submit(request))
            except PgprogError as e:
                made.append(e)
        return made

    def simple_repair(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        idempotency_key: str | None = None,
    ) -> RunTask | None:
        """Mend a process in error without repair code, as `Client.simple_repair` does."""
        names = checked_names(namespace, process_id)
        task_id = self._twin.simple_repair(*names, idempotency_key)
        self._driver.settle()
        return None if task_id is None else RunTask(self, TaskId(task_id), process=names)

    def put(
        self,
        process: Process[Any] | Mapping[str, object],
        *,
        idempotency_key: str | None = None,
    ) -> int:
        """Import a process as `get` gives it, as `Client.put` does."""
        plain = as_get_gives_it(process) if isinstance(process, Process) else process
        known = self._namespaces.get(str(plain.get("namespace")))
        numbers: Numbers = "float" if known is None else known.settings.numbers
        raw = encode(plain, field="process", limit=sys.maxsize, numbers=numbers)
        version = self._twin.put(_OBJECT.decode(raw), idempotency_key)
        self._driver.settle()
        return version

    def remove(
        self, namespace: str | Namespace[Any], process_id: str, *, version: int | None = None
    ) -> bool:
        """Remove a process, as `Client.remove` does."""
        return self._twin.remove(*checked_names(namespace, process_id), checked_version(version))

    def cancel(self, task_id: int) -> bool:
        """End a task that has not started; return whether it was there to be cancelled."""
        return self._twin.cancel(task_id)

    def pause(self, namespace: str | Namespace[Any], *, reason: str | None = None) -> bool:
        """Let no task start in a namespace; return whether it ran before."""
        return self._twin.pause(_name(namespace), reason)

    def resume(self, namespace: str | Namespace[Any]) -> bool:
        """Let tasks start again; return whether the namespace was paused."""
        was_paused = self._twin.resume(_name(namespace))
        self._driver.settle()
        return was_paused

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
        """Return a process, None when there is none, as `Client.get` does.

        Every read is as fresh as can be.

        Raises:
            StaleRead: There is nothing as new as *at_least*.
        """
        at_least = wanted(freshness).at_least
        check_range(max_events, after)
        names = checked_names(namespace, process_id)
        found = self._twin.get(*names, max_events, after, direction)
        if found is None:
            return None
        if found["version"] < at_least:
            msg = f"process {process_id} is of version {found['version']}, not {at_least}"
            raise StaleRead(msg)
        raw = encode(found, field="process", limit=sys.maxsize, numbers="decimal")
        return process_of(raw, namespace=namespace if isinstance(namespace, Namespace) else None)

    def history(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        after: int | None = None,
        max_events: int = 100,
        direction: Direction = "forward",
    ) -> list[Event]:
        """Return events, as `Client.history` does."""
        names = checked_names(namespace, process_id)
        check_range(max_events, after)
        rows = self._twin.history(*names, after, max_events, direction)
        typed = namespace if isinstance(namespace, Namespace) else None
        return [*events_of(rows, namespace=typed)]

    def events(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        *,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> Iterator[Event]:
        """Yield all events, as `Client.events` does."""
        yield from self.history(
            namespace, process_id, after=after, max_events=_ALL_EVENTS, direction=direction
        )

    def trace(self, namespace: str | Namespace[Any], process_id: str) -> list[TaskRecord]:
        """Return the tasks of a process, as `Client.trace` does."""
        return self._twin.trace(*checked_names(namespace, process_id))

    def result(self, task_id: int) -> TaskResult:
        """Return where a task is, as `Client.result` does."""
        return self._twin.result(task_id)

    def explain(self, namespace: str | Namespace[Any], process_id: str) -> Explanation:
        """Return the one reason why a process is not moving, as `Client.explain` does."""
        return self._twin.explain(*checked_names(namespace, process_id))

    # ---- Inside ----

    def end_of(self, task_id: int, seconds: float) -> Ended:
        """Return the end of a task as it is, for tasks."""
        ended = self._driver.wait(task_id, seconds=seconds)
        if ended is None:
            raise CallTimeout(task_id)
        return ended

    def response_of(self, ended: Ended, *, numbers: Numbers = "float") -> bytes | None:
        """Return the raw response of a task; what its handler raised is the cause of a failure."""
        try:
            return response_of(ended, numbers=numbers)
        except StepFailed as e:
            raise e from self._driver.errors.get(ended.task_id)

    def _ask(self, asked: Asked) -> Any:  # noqa: ANN401 - what the handler answers
        check_not_current(asked.request.namespace, asked.request.process_id)
        known = self._namespaces.get(asked.request.namespace)
        patience = known.settings.step_timeout.total_seconds() if known else _ANSWER_SECONDS
        seconds = seconds_of(asked.timeout, default=patience)
        task = self._submit(asked.request)
        ended = self.end_of(task.task_id, seconds)
        return asked.response.decode(self.response_of(ended, numbers=asked.response.numbers))

    def _queue(self, asked: Asked) -> RunTask:
        return self._submit(asked.request)

    def _submit(self, request: Request) -> RunTask:
        known = self._namespaces.get(request.namespace)
        task_id = self._twin.submit(raw_request(request, namespace=known))
        self._driver.settle()
        return RunTask(self, TaskId(task_id), process=(request.namespace, request.process_id))


def _name(namespace: str | Namespace[Any]) -> str:
    return namespace.name if isinstance(namespace, Namespace) else namespace
