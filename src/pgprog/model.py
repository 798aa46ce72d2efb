"""The values that applications and the engine exchange.

Everything here is frozen and does no I/O.  What a value may hold (sizes, characters, types) is
checked where it is encoded, by `pgprog.codec`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, NewType, Protocol

from typing_extensions import TypeVar

from pgprog.errors import InvalidArgument

TaskId = NewType("TaskId", int)

Direction = Literal["forward", "backward"]

# Generic dataclasses have no slots: in Python 3.11 a frozen one with slots cannot be built through
# its subscript, `Intent[Order](…)`, because `__orig_class__` meets the class from before the slots.
S_co = TypeVar("S_co", covariant=True, default=object)
R_co = TypeVar("R_co", covariant=True, default=None)


class TaskType(StrEnum):
    """What a task asks of its process."""

    INIT = "init"
    CALL = "call"
    NOTIFY = "notify"
    REPAIR = "repair"
    TIMEOUT = "timeout"
    REMOVE = "remove"


class TaskStatus(StrEnum):
    """Where a task is on its way; the last three are ends."""

    WAITING = "waiting"
    BLOCKED = "blocked"
    RUNNING = "running"
    FINISHED = "finished"
    ERROR = "error"
    CANCELLED = "cancelled"


class ProcessStatus(StrEnum):
    """Where a process is in its life."""

    INIT = "init"
    RUNNING = "running"
    ERROR = "error"
    FINISHED = "finished"


class Unchanged(Enum):
    """The type of `UNCHANGED`; an enum, so that a type checker narrows `is UNCHANGED`."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return self.name


UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class Event:
    """One fact of a process's history.

    A handler gives *payload* and *metadata*; the engine assigns the rest in the commit, and they
    are None until then.  *event_id* counts from 1 without gaps within one incarnation.
    *state_version* is the version of the payload: that of its writer or, in what is read through a
    `Namespace`, the one that it was upcast to.
    """

    payload: object
    metadata: Mapping[str, object] | None = None
    _: KW_ONLY
    event_id: int | None = None
    at: datetime | None = None
    task_id: int | None = None
    state_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimer:
    """Set the timer called *name*, in place of the one of that name if there is one.

    Exactly one of *at* and *after* is given; *after* counts from the commit of the step, by the
    database's clock.  A time in the past runs at once.  With *remove* the process is removed when
    the timer is due, and no handler is called.

    Raises:
        InvalidArgument: Both or none of *at* and *after* are given, or *at* has no time zone.
    """

    at: datetime | None = None
    after: timedelta | None = None
    name: str = ""
    remove: bool = False

    def __post_init__(self) -> None:
        if (self.at is None) == (self.after is None):
            given = "neither" if self.at is None else "both"
            msg = f"timer {self.name!r}: give either at or after, not {given}"
            raise InvalidArgument(msg)
        if self.at is not None and self.at.utcoffset() is None:
            msg = f"timer {self.name!r}: at has no time zone: {self.at.isoformat()}"
            raise InvalidArgument(msg, hint="give an aware datetime, such as one with tzinfo=UTC")


@dataclass(frozen=True, slots=True)
class UnsetTimer:
    """Cancel the timer called *name*; nothing happens when there is none."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """Make the process immutable; tasks that wait for it are cancelled."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the process; tasks that wait for it are cancelled."""


@dataclass(frozen=True, kw_only=True)  # no slots: see S_co
class Intent(Generic[S_co, R_co]):
    """What a step asks the engine to commit, all of it or nothing.

    *events* are payloads or `Event`s, appended in their order.  What is left out (`UNCHANGED`)
    stays as it was; *metadata* replaces what was there.  *response* answers the caller.
    """

    events: Sequence[object | Event] = ()
    state: S_co | Unchanged = UNCHANGED
    metadata: Mapping[str, object] | Unchanged | None = UNCHANGED
    response: R_co | None = None
    timers: Sequence[SetTimer | UnsetTimer] = ()
    then: Finish | Remove | None = None


@dataclass(frozen=True, kw_only=True)  # no slots: see S_co
class Process(Generic[S_co]):
    """A process as `pgprog.get` saw it in one snapshot.

    Each read builds its own: changing a value found in here never changes a later read.
    *version* grows with every committed change and is never used again; *history* holds the
    events that were asked for, while *last_event_id* does not depend on the range.
    *state_version* is that of *state*: as stored or, read through a `Namespace`, as upcast.
    *detail*, *corrupted_by* (the task that broke it) and *previous_status* tell of an error.
    *source* says where it comes from; what a cache gives is at most *lag* seconds old.
    """

    namespace: str
    process_id: str
    incarnation: int
    status: ProcessStatus
    previous_status: ProcessStatus | None = None
    status_changed_at: datetime
    detail: str | None = None
    corrupted_by: TaskId | None = None
    state: S_co
    state_version: int
    metadata: Mapping[str, object] | None = None
    created_at: datetime
    last_event_id: int
    version: int
    timers: Mapping[str, datetime] = field(default_factory=dict)
    history: tuple[Event, ...] = ()
    source: Literal["postgresql", "cache"] = field(default="postgresql", compare=False)
    lag: float = field(default=0.0, compare=False)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Decode a state that came from a cache, when it is looked at for the first time."""
            if name == "state" and (unread := vars(self).get("_unread_state")) is not None:
                return vars(self).setdefault("state", unread())  # of two threads the first one's
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)

        def __getstate__(self) -> dict[str, object]:
            """Return what a copy or a pickle needs: the state itself, not the way to decode it."""
            return {**vars(self), "state": self.state, "_unread_state": None}


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask of a process: `init`, `call`, `notify` or `repair`.

    *name* is the operation, *idempotency_key* makes a repeat harmless, *context* travels with the
    task and the timers that it sets.  One step of *priority* is worth 10 s of waiting.  With
    *run_at*, an aware time, the task is due then.
    """

    type: str
    namespace: str
    process_id: str
    args: object = field(default=None, repr=False)  # payloads stay out of logs, however written
    _: KW_ONLY
    name: str | None = None
    idempotency_key: str | None = None
    context: object = field(default=None, repr=False)
    priority: int = 0
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """One task of a process as `pgprog.trace` shows it, with the events that it wrote.

    *error* is an object with the error's type and detail, or with the cause of a cancellation.
    *retry_at* is set while the task waits for its next attempt.
    """

    task_id: TaskId
    type: TaskType
    name: str | None
    status: TaskStatus
    attempt: int
    scheduled_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    worker: str | None
    args: object
    context: object
    idempotency_key: str | None
    response: object
    error: Mapping[str, object] | None
    retry_at: datetime | None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """Where a task is, and its answer once it has ended.

    *error* is as in `TaskRecord`, or {"rejected": payload} of a finished task.  *version* is that
    of the process after the task, None while there is none.
    """

    task_id: TaskId
    status: TaskStatus
    response: object = None
    error: Mapping[str, object] | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The one reason why a process is not moving, as a word, as a sentence, and in *details*.

    *reason* is one of: nothing to do, ready, running, blocked, retry, timer, later, error, crashed,
    paused, no worker, limit, locked.  *details* are ids, and times in ISO 8601.
    """

    reason: str
    sentence: str
    details: Mapping[str, object]

    @property
    def is_runnable(self) -> bool:
        """Whether a claim of a worker that serves the namespace would take a task."""
        return self.details["runnable"] is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The greatest sizes that are taken, in bytes, and their ranges; *events* is a count an intent.

    Ids, keys and the JSON of a step's response, state and events are counted in UTF-8; args,
    context and what `put` imports by PostgreSQL as jsonb, where a number takes 12 bytes and more.
    """

    id_bytes: Annotated[int, "1B to 1KiB"] = 256
    key_bytes: Annotated[int, "1B to 1KiB"] = 256
    args_bytes: Annotated[int, "1B to 64MiB"] = 1 << 20
    response_bytes: Annotated[int, "1B to 64MiB"] = 1 << 20
    context_bytes: Annotated[int, "1B to 64MiB"] = 1 << 20
    state_bytes: Annotated[int, "1B to 64MiB"] = 4 << 20
    event_bytes: Annotated[int, "1B to 16MiB"] = 256 << 10
    events: Annotated[int, "1 to 100000"] = 1000


class StepAccess(Protocol):
    """What a step can ask of the engine while its handler runs.

    There are two: for an async handler *history* returns an awaitable and *transaction* an async
    context manager; for a sync one the same without waiting.  The colour is the handler's, which
    the type of a step does not tell: hence Any.
    """

    def history(self, *, after: int | None, limit: int, direction: Direction) -> Any:  # noqa: ANN401 - by the colour of the handler
        """Return the events asked for, in the order of *direction*."""
        ...

    def transaction(self) -> Any:  # noqa: ANN401 - by the colour of the handler
        """Return a context manager that gives a connection inside the step's commit."""
        ...


@dataclass(frozen=True, kw_only=True)  # no slots: see S_co
class Step(Generic[S_co]):
    """A claimed task with its process, as a handler sees it.

    *state* is None in an init, before there is one.  *name* is the operation's, or the timer's
    for a timeout.  *attempt* counts from 1.  *deadline* is when the handler's time is up.
    """

    namespace: str
    process_id: str
    task_id: TaskId
    type: TaskType
    name: str | None
    args: object = field(repr=False)  # payloads stay out of logs, however written
    context: object = field(repr=False)
    attempt: int
    state: S_co = field(repr=False)
    metadata: Mapping[str, object] | None = field(repr=False)
    status: ProcessStatus
    last_event_id: int
    version: int
    deadline: datetime
    _access: StepAccess = field(repr=False, compare=False)

    def history(
        self, after: int | None = None, *, limit: int = 100, direction: Direction = "forward"
    ) -> Any:  # noqa: ANN401 - by the colour of the handler
        """Return events of this process; awaitable in an async handler, blocking in a sync one.

        *after* is exclusive.  Forward: ids above it, ascending; backward: below it, descending;
        None: from that end of the history.  `ProcessNotFound`: it was removed meanwhile, whoever
        has its id now.
        """
        return self._access.history(after=after, limit=limit, direction=direction)

    def transaction(self) -> Any:  # noqa: ANN401 - by the colour of the handler
        """Return a context manager that gives a psycopg connection inside the step's commit.

        What is done on it commits together with the step, exactly once, or not at all.  An async
        handler writes `async with`, a sync one `with`.
        """
        return self._access.transaction()
