"""One step with a handler of the application, without an engine and without a database."""

from __future__ import annotations

import contextvars
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pgprog.client.loop_thread import LoopThread
from pgprog.codec import Misfit, encode
from pgprog.engine import decide
from pgprog.engine.steps import step_of
from pgprog.model import Event, Intent, ProcessStatus, Step, TaskType
from pgprog.store.rows import Claimed
from pgprog.testing.access import AsyncAccess, SyncAccess
from pgprog.tracing import enter_step

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pgprog.model import Direction
    from pgprog.namespace import Handler, Namespace
    from pgprog.store.rows import Completion
    from pgprog.testing.access import Connect, Reading

S = TypeVar("S")

_STATUS_OF = {TaskType.INIT: ProcessStatus.INIT, TaskType.REPAIR: ProcessStatus.ERROR}


def run_step(  # noqa: PLR0913 - each is a part of the step
    namespace: Namespace[S],
    type: TaskType | str,  # noqa: A002 - the word of the specification
    *,
    name: str | None = None,
    args: object = None,
    state: object = None,
    state_version: int | None = None,
    metadata: object = None,
    context: object = None,
    process_id: str = "process-1",
    attempt: int = 1,
    history: Sequence[object | Event] = (),
    connect: Connect | None = None,
) -> Intent[S, Any]:
    """Run the handler of a task on a process as given, and return its intent.

    The handler gets what the engine would give it: *args* and *state* go through JSON and back,
    so that nothing is shared with the test.  With *state_version*, *state* is the plain JSON that
    was stored at that version, and is upcast.  *history* is what `Step.history` reads: payloads,
    or `Event`s, numbered from 1.  *connect* returns what `Step.transaction` opens, such as
    ``lambda: psycopg.connect(dsn)``, and of an async handler a coroutine that does; it commits
    when the step succeeds.

    Async handlers run in a loop of their own in another thread, so that tests of both colours may
    call this.  There is no step time-out.

    Raises:
        Misfit: No handler takes the task, or its args do not fit the handler.
        InvalidArgument: The intent could not be stored; the message names the field.
        Exception: What the handler raised.
    """
    now = datetime.now(UTC)
    events = _numbered(history, at=now)
    is_default_timer = name is None and type == TaskType.TIMEOUT
    claimed = _claim(TaskType(type), namespace=namespace, now=now)._replace(
        name="" if is_default_timer else name,
        process_id=process_id,
        attempt=attempt,
        args=_raw(args, field="args", namespace=namespace),
        context=_raw(context, field="context", namespace=namespace),
        metadata=_raw(metadata, field="metadata", namespace=namespace),
        last_event_id=len(events),
    )
    if state_version is not None:
        raw_state = _raw(state, field="state", namespace=namespace)
        claimed = claimed._replace(state=raw_state, state_version=state_version)
    elif state is not None:
        claimed = claimed._replace(state=namespace.encode_state(state))  # type: ignore[arg-type] # checked there
    with closing(Stage(connect=connect)) as stage:
        read = partial(_page, events)
        played = stage.play(claimed, namespace=namespace, read=read, now=now)
        played.commit()
    return played.intent


class Stage:
    """Where handlers of tests run: sync ones in the test's thread, async ones in one loop.

    *reached* is called at each boundary inside a handler.
    """

    def __init__(
        self, *, connect: Connect | None, reached: Callable[[], None] = lambda: None
    ) -> None:
        self._connect = connect
        self._reached = reached
        self._loop: LoopThread | None = None

    def close(self) -> None:
        """End the loop of the async handlers."""
        if self._loop is not None:
            self._loop.close()

    def play(
        self, claimed: Claimed, *, namespace: Namespace[Any], read: Reading, now: datetime
    ) -> Played:
        """Run the handler of a claimed task; what it did on its connection waits for the commit.

        Raises:
            Misfit: No handler takes the task, or its args do not fit.
            InvalidArgument: The intent could not be stored.
            BaseException: What the handler raised; what it did on its connection is undone.
        """
        handler = namespace.resolve(claimed.type, claimed.name)
        if handler is None:
            what = f"{claimed.type} {claimed.name or ''}".rstrip()
            msg = f"namespace {namespace.name} has no handler for {what}"
            raise Misfit(msg)
        colour = AsyncAccess if handler.is_async else SyncAccess
        access = colour(read, connect=self._connect, reached=self._reached)
        deadline = now + namespace.settings.step_timeout
        step = step_of(claimed, namespace=namespace, access=access, deadline=deadline)
        try:
            returned = contextvars.copy_context().run(self._call, handler, step, claimed)
            completion = decide.after_success(
                claimed, returned, namespace=namespace, handler=handler
            )
        except BaseException as e:
            self._settle(access, e)
            raise
        intent = Intent() if returned is None else returned
        return Played(intent, completion, lambda error: self._settle(access, error))

    def _call(self, handler: Handler[..., Any], step: Step[Any], claimed: Claimed) -> Any:  # noqa: ANN401 - checked later
        enter_step(claimed, claimed.context)
        returned: Any = handler.run(step, claimed.args)
        return self._wait(returned) if handler.is_async else returned

    def _settle(self, access: AsyncAccess | SyncAccess, error: BaseException | None) -> None:
        if isinstance(access, AsyncAccess):
            self._wait(access.settle(error))
        else:
            access.settle(error)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - of a handler
        if self._loop is None:
            self._loop = LoopThread()
        return self._loop.run(work)


@dataclass(frozen=True, slots=True)
class Played:
    """A step whose handler succeeded, before its commit."""

    intent: Intent[Any, Any]
    completion: Completion
    _settle: Callable[[BaseException | None], None]

    def commit(self) -> None:
        """Commit what the handler did on its connection."""
        self._settle(None)

    def undo(self, error: BaseException) -> None:
        """Undo it, because of *error*."""
        self._settle(error)


def _numbered(given: Sequence[object | Event], *, at: datetime) -> list[Event]:
    events = [event if isinstance(event, Event) else Event(event) for event in given]
    return [
        replace(event, event_id=number, at=event.at or at, task_id=event.task_id or 1)
        for number, event in enumerate(events, 1)
    ]


def _claim(type_: TaskType, *, namespace: Namespace[Any], now: datetime) -> Claimed:
    """Return the claim of a task without args, on a process without state."""
    return Claimed(
        task_id=1,
        claim_id=1,
        incarnation=1,
        namespace=namespace.name,
        process_id="",
        type=type_,
        name=None,
        attempt=1,
        created_at=now,
        due_at=now,
        args=None,
        context=None,
        status=_STATUS_OF.get(type_, ProcessStatus.RUNNING),
        state_version=namespace.state_version,
        state=None,
        metadata=None,
        last_event_id=0,
        version=1,
    )


def _raw(value: object, *, field: str, namespace: Namespace[Any]) -> bytes | None:
    if value is None:
        return None
    limits, numbers = namespace.settings.limits, namespace.settings.numbers
    limit = limits.event_bytes if field == "metadata" else getattr(limits, f"{field}_bytes")
    return encode(value, field=field, limit=limit, numbers=numbers)


def _page(
    events: Sequence[Event], *, after: int | None, limit: int, direction: Direction
) -> tuple[Event, ...]:
    """Return the events that `pgprog.history` would: *events* are all, numbered from 1."""
    if direction == "forward":
        return tuple(events[after or 0 :][:limit])
    older = events if after is None else events[: max(0, after - 1)]
    return tuple(reversed(older))[:limit]
