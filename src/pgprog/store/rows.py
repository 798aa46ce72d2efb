"""What travels between the engine and its SQL functions.

Rows of the hot path are named tuples: they are built from the driver's tuples at a third of the
cost of a dataclass.  Payloads are raw JSON as bytes, and no repr shows them: it
may get into a log.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the types of fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, NamedTuple

from pgprog.store.window import Window  # noqa: TC001

_LATEST: Final = datetime.max.replace(tzinfo=UTC)


class Claimed(NamedTuple):
    """A running task of ours, with its process as it was when the task was claimed.

    *alone* says that it was lost with a worker before; *window* is there where the namespace has
    events preloaded.
    """

    task_id: int
    claim_id: int
    incarnation: int
    namespace: str
    process_id: str
    type: str
    name: str | None
    attempt: int
    created_at: datetime
    due_at: datetime
    args: bytes | None
    context: bytes | None
    status: str
    state_version: int
    state: bytes | None
    metadata: bytes | None
    last_event_id: int
    version: int
    alone: bool = False
    window: Window | None = None

    def __repr__(self) -> str:
        return f"<task {self.task_id}>"


class Served(NamedTuple):
    """What a worker says of a namespace that it serves.

    *settings*, raw JSON, are for a namespace that is missing; *state_version* is the newest version
    of states that it reads.
    """

    settings: bytes
    state_version: int = 1


class RawRequest(NamedTuple):
    """A task to be made; its values have been checked."""

    type: str
    namespace: str
    process_id: str
    args: bytes | None = None
    name: str | None = None
    idempotency_key: str | None = None
    context: bytes | None = None
    priority: int = 0
    run_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<{self.type} of {self.process_id}>"


class Submitted(NamedTuple):
    """What became of a request.

    *outcome* is 'started', 'queued', 'known', or the SQLSTATE of a refusal with its *message*.
    *claimed* is there when it was started.
    """

    outcome: str
    message: str | None
    task_id: int
    claimed: Claimed | None


class Outcome(IntEnum):
    """How a step ends, in the numbers of pgprog_engine.complete."""

    FINISHED = 1
    REJECTED = 2
    RETRY = 3
    BROKEN = 4
    FAILED = 5
    CRITICAL = 6


class Then(IntEnum):
    """What becomes of the process after a finished step, in the numbers of complete."""

    GO_ON = 0
    FINISH = 1
    REMOVE = 2


class NewEvent(NamedTuple):
    """An event to be appended."""

    payload: bytes
    metadata: bytes | None

    def __repr__(self) -> str:
        return "<event>"


class TimerChange(NamedTuple):
    """A timer to be set, or unset when it has neither time."""

    name: str
    at: datetime | None
    after: timedelta | None
    remove: bool


class Completion(NamedTuple):
    """The end of a step; None leaves what was there, and metadata of JSON's null clears it."""

    claimed: Claimed
    outcome: Outcome
    state: bytes | None = None
    state_version: int = 1
    metadata: bytes | None = None
    response: bytes | None = None
    error: bytes | None = None
    retry_after: timedelta | None = None
    then: Then = Then.GO_ON
    events: Sequence[NewEvent] = ()
    timers: Sequence[TimerChange] = ()

    def __repr__(self) -> str:
        return f"<completion of task {self.claimed.task_id}>"


class Completed(NamedTuple):
    """What became of a completion: 'done', 'already', 'busy' or 'lost'.

    *next_* is the next task of the same process, claimed already, its process brought up to date;
    *told_at* is when it was started.
    """

    outcome: str
    version: int | None
    next_: Claimed | None
    told_at: datetime | None = None


class Ended(NamedTuple):
    """The end of a task as pgprog.results tells it."""

    task_id: int
    status: str
    response: bytes | None
    error: bytes | None
    version: int | None

    def __repr__(self) -> str:
        return f"<end of task {self.task_id}>"


class NamespaceStats(NamedTuple):
    """What a namespace holds, as pgprog.stats counts it.

    *waiting* includes *later* and *retrying*; *timers* are those pending.  *oldest_due_age* is None
    when nothing is due; *concurrency* and *max_queue* are None without that limit.
    """

    namespace: str
    waiting: int
    blocked: int
    running: int
    timers: int
    oldest_due_age: timedelta | None
    errors: int
    later: int
    retrying: int
    suspended: int
    finished: int
    workers: int
    concurrency: int | None
    max_queue: int | None
    is_paused: bool


class Position(NamedTuple):
    """A position in the order of claims: a lower rank, or an earlier task, is before it."""

    rank: datetime
    task_id: int


class Claims(NamedTuple):
    """Claimed tasks, and how many seconds later to ask again; 0 means that more are due.

    *settings_version* is the sum of those of all served namespaces.  Where the claim began at a
    position it has looked at all up to *seen*, None where it cannot say.  It was answered *told_at*
    by the database's clock, and took PostgreSQL so many *seconds*: no network, and no loop of ours
    that was busy.
    """

    tasks: list[Claimed]
    wait_seconds: float
    settings_version: int = 0
    seen: Position | None = None
    seconds: float = 0.0
    told_at: datetime = _LATEST


class Stored(NamedTuple):
    """The settings that the database has for a namespace, raw JSON, with their version."""

    settings: bytes
    version: int


class TakenBack(NamedTuple):
    """A change of settings, the version *judged*, that was taken back; *reason* has the figures."""

    namespace: str
    judged: int
    restored: int
    version: int
    reason: str
