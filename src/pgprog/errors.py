"""Every expected failure, one class each, and the SQLSTATEs that carry them.

Two roots, so that catching one never swallows the other::

    PgprogError                what callers catch
    ├── ProcessNotFound        UP001
    ├── LeaseLost              UP002
    ├── ProcessNotInError      UP003
    ├── ProcessInError         UP004
    ├── ProcessExists          UP005
    ├── ProcessFinished        UP006
    ├── NamespaceNotFound      UP007
    ├── IdempotencyConflict    UP008
    ├── QueueFull              UP009
    ├── InvalidArgument        UP010
    ├── TaskNotFound           UP011
    ├── SchemaMismatch         UP012
    ├── StaleRead              UP013
    ├── SettingsMoved          UP014
    ├── NotPermitted           UP015
    ├── Rejected               a handler said no; nothing changed
    ├── StepFailed             a task ended in error
    ├── TaskCancelled          a task was cancelled before it ran
    ├── CallTimeout            nobody answered in time; also a TimeoutError
    ├── ConfigError            the configuration or the code around handlers is wrong
    ├── Overloaded             no connection in time; nothing was done
    ├── StoreUnavailable       the outcome is unknown; repeat with a key
    └── ReplicationLost        the replication stream ended
        └── ReplicationRefused  nobody can follow this server until something is changed

    StepError                  what handlers raise
    ├── Reject
    ├── TransientError
    ├── PermanentError
    └── CriticalError

An error survives pickling with its attributes, so that it can come out of a child process.
"""

# ruff: noqa: N818 - the names are the specification's: they say what happened, without a suffix

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import timedelta


class PgprogError(Exception):
    """An expected failure that a caller of pgprog may catch.

    *hint* says what to do about it, where there is something to do.  *sqlstate* is the code by
    which the SQL functions raise the same failure, None for those that do not come from SQL.
    """

    sqlstate: ClassVar[str | None] = None
    hint: str | None

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _as_parts(self)


class ProcessNotFound(PgprogError):
    """There is no process of this id in the namespace."""

    sqlstate = "UP001"


class LeaseLost(PgprogError):
    """The claim was taken away: nothing of the step was committed."""

    sqlstate = "UP002"


class ProcessNotInError(PgprogError):
    """Only a process in error can be repaired, and this one is not."""

    sqlstate = "UP003"


class ProcessInError(PgprogError):
    """The process is in error and takes no tasks until it is repaired."""

    sqlstate = "UP004"


class ProcessExists(PgprogError):
    """The id is taken by a living process."""

    sqlstate = "UP005"


class ProcessFinished(PgprogError):
    """The process is finished: it can be read but never changed."""

    sqlstate = "UP006"


class NamespaceNotFound(PgprogError):
    """The database knows no namespace of this name."""

    sqlstate = "UP007"


class IdempotencyConflict(PgprogError):
    """The idempotency key was used before for another operation, process or args."""

    sqlstate = "UP008"


class QueueFull(PgprogError):
    """The namespace holds as many open tasks as its *max_queue* allows."""

    sqlstate = "UP009"


class InvalidArgument(PgprogError):
    """A value cannot be taken; the message names the field and what is wrong with it."""

    sqlstate = "UP010"


class TaskNotFound(PgprogError):
    """There is no task of this id, or it was purged."""

    sqlstate = "UP011"


class SchemaMismatch(PgprogError):
    """The database's schema is not the one that this version of pgprog needs."""

    sqlstate = "UP012"


class StaleRead(PgprogError):
    """No source was as fresh as asked within the time allowed."""

    sqlstate = "UP013"


class SettingsMoved(PgprogError):
    """The settings of the namespace are at another version than the change was made from."""

    sqlstate = "UP014"


class NotPermitted(PgprogError):
    """The namespace, or its repairs, are for other roles than the one that the session acts as."""

    sqlstate = "UP015"


class Rejected(PgprogError):
    """The handler rejected the task: it is finished, and the process is untouched.

    *payload* is what the handler gave to `Reject`.  It is not in the message, because messages
    are logged and payloads are not.
    """

    def __init__(self, payload: object = None) -> None:
        super().__init__("the task was rejected by its handler")
        self.payload = payload


class StepFailed(PgprogError):
    """The task ended in error at *attempt*; *error_type* and *detail* say why."""

    def __init__(self, task_id: int, error_type: str, detail: str, attempt: int) -> None:
        super().__init__(f"task {task_id} failed at attempt {attempt}: {error_type}: {detail}")
        self.task_id = task_id
        self.error_type = error_type
        self.detail = detail
        self.attempt = attempt


class TaskCancelled(PgprogError):
    """The task was cancelled before it ran; *cause* says why."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the task was cancelled: {cause}")
        self.cause = cause


class CallTimeout(PgprogError, TimeoutError):
    """The answer did not come in time; the task *task_id* goes on."""

    def __init__(self, task_id: int) -> None:
        super().__init__(
            f"task {task_id} has not ended in time",
            hint="the task goes on: wait for it again, or ask for its result later",
        )
        self.task_id = task_id


class ConfigError(PgprogError):
    """The configuration, or the way handlers are declared, is wrong."""


class Overloaded(PgprogError):
    """No connection was free in time: nothing was done."""


class StoreUnavailable(PgprogError):
    """The database went away: what was asked may or may not have happened.

    Every SQL function is safe to repeat; a request is, when it has an idempotency key.
    """


class ReplicationLost(PgprogError):
    """The replication stream ended; it is opened again by itself."""


class ReplicationRefused(ReplicationLost):
    """There is no replication stream until a person changes what *hint* says; *reason* names it.

    It is tried again by itself all the same.  Reads go to PostgreSQL meanwhile.
    """

    def __init__(self, reason: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class StepError(Exception):
    """What a handler raises to say how its step ends."""

    def __reduce__(self) -> tuple[object, ...]:
        return _as_parts(self)


class Reject(StepError):
    """End the task with an answer of *no*; the process stays as it was.

    *payload*, plain JSON or a typed value, reaches the caller in `Rejected`.  For `timeout` and
    `notify`, where nobody waits for an answer, it counts as a permanent error.
    """

    def __init__(self, payload: object = None) -> None:
        super().__init__("rejected")
        self.payload = payload


class TransientError(StepError):
    """Ask for another attempt by the retry policy.

    *retry_after*, when given, takes the place of the policy's delay; it does not add attempts.
    """

    def __init__(self, message: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(StepError):
    """End the task in error at once; *code* is what a retry policy may call non-retryable."""

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class CriticalError(StepError):
    """End the task in error at once and pause its namespace, with the message as the reason."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


_BY_SQLSTATE: dict[str | None, type[PgprogError]] = {
    error.sqlstate: error
    for error in (
        ProcessNotFound,
        LeaseLost,
        ProcessNotInError,
        ProcessInError,
        ProcessExists,
        ProcessFinished,
        NamespaceNotFound,
        IdempotencyConflict,
        QueueFull,
        InvalidArgument,
        TaskNotFound,
        SchemaMismatch,
        StaleRead,
        SettingsMoved,
        NotPermitted,
    )
}


def for_sqlstate(sqlstate: str | None) -> type[PgprogError] | None:
    """Return the error for a SQLSTATE, or None if it is not one we expect.

    A failure without a SQLSTATE never reached the server's error handler: the connection is gone.
    So it is for class 08 and for 57P, a server that is stopped; a cancelled statement, 57014, is
    neither, for its connection lives.
    """
    if sqlstate is None or sqlstate.startswith(("08", "57P")):
        return StoreUnavailable
    return _BY_SQLSTATE.get(sqlstate)


def _as_parts(error: Exception) -> tuple[object, ...]:
    """Return what pickle needs to build *error* again without calling its constructor.

    The default calls the constructor with `args`, the message, where some of ours take other
    things.  `args` travels with the attributes because OSError's `__new__` ignores it.
    """
    return _blank, (type(error),), {**error.__dict__, "args": error.args}


def _blank(error: type[Exception]) -> Exception:
    """Return an *error* that has no attributes yet."""
    return error.__new__(error)
