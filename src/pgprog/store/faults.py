"""What a failed round trip means for those whose work was in it, by SQLSTATE only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg_pool import PoolTimeout

from pgprog.errors import (
    InvalidArgument,
    Overloaded,
    PgprogError,
    SchemaMismatch,
    StoreUnavailable,
    for_sqlstate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Classes 22, 23 and 54, and P0001 of a trigger: what the application sent cannot be stored.
_DATA = ("22", "23", "54")
# No such schema, table or function: those of pgprog are missing.
_SCHEMA = ("3F000", "42P01", "42883")
# Serialisation, deadlock, lock time-out, cancelled statement, lack of resources, a disk that fails:
# repeat.
_ROLLED_BACK = ("40001", "40P01", "55P03", "57014", "53", "58")
_READ_ONLY = "25006"
_NAME_A_PRIMARY = (
    "nothing was done: the server is a standby, or was made read-only; let the DSN lead to the"
    " primary, as target_session_attrs=read-write does among several hosts"
)
# A constraint of our own tables, such as a missing partition, is no fault of what was sent.
_OUR_TABLES = "pgprog_data"


class Unreachable(StoreUnavailable):
    """No connection to a server that writes could be made: nothing was done."""


class Denied(PgprogError):  # noqa: N818 - it says what happened, as those of errors.py do
    """The role of the connection has not the right: nothing was done, whatever it was about."""


class RolledBack(Exception):  # noqa: N818 - what happened; it never leaves the engine
    """The whole round trip was rolled back and may be repeated as it is."""


class LockTimeout(RolledBack):
    """A stranger's open transaction held what was needed; nothing was done."""


class Unforeseen(RolledBack):
    """The database failed in a way that nobody expects; nothing was done."""


class DataFault(Exception):  # noqa: N818 - what happened; it never leaves the engine
    """Something in the round trip cannot be stored; nothing of it was."""


# Whatever keeps a hint from being sent: it is lost, and who waits for one polls.  The queue of
# notifications may be full (54000), since some session listens and stays in a transaction.
NOT_SENT = (PgprogError, RolledBack, DataFault, psycopg.Error)
# What a loop of a worker outlives: it says so, and goes round again.
OUTLIVED = (StoreUnavailable, RolledBack, DataFault)
# The role has no right, or the server does not know what our SQL names: repeating mends nothing.
_OUR_SQL = "42"
# PostgreSQL has ended the session: its transaction idled, or went on, for longer than it allows.
_OVERSTAYED = ("25P03", "25P04")


@contextmanager
def translated() -> Iterator[None]:
    """Turn PostgreSQL's errors into pgprog's; what is none of these passes through."""
    try:
        yield
    except PoolTimeout as e:
        msg = "no connection was free in time"
        raise Overloaded(msg, hint="raise pool sizes, or send less at once") from e
    except psycopg.Error as e:
        message = e.diag.message_primary or str(e)
        if (expected := _expected(e)) is not None:
            raise expected from e
        state = e.sqlstate or ""
        if state == _READ_ONLY:
            raise Unreachable(message, hint=_NAME_A_PRIMARY) from e
        if state == "55P03":
            raise LockTimeout(message) from e
        if state.startswith(_ROLLED_BACK) or e.diag.schema_name == _OUR_TABLES:
            raise RolledBack(message) from e
        if state.startswith(_DATA) or state == "P0001":
            raise DataFault(message) from e
        raise


@contextmanager
def translated_in_loops() -> Iterator[None]:
    """Turn PostgreSQL's errors into pgprog's, for those who repeat what failed, be it unforeseen.

    A block that cannot be read, or a function that is replaced by a migration, is no reason to end
    what serves others.  What the role may not do passes through.
    """
    try:
        with translated():
            yield
    except psycopg.Error as e:
        if e.sqlstate is None or e.sqlstate.startswith(_OUR_SQL):
            raise
        raise Unforeseen(_told(e)) from e


@contextmanager
def translated_in_theirs() -> Iterator[None]:
    """Turn what pgprog refuses into its errors; the rest of a transaction is its owner's."""
    try:
        yield
    except psycopg.Error as e:
        if (expected := _expected(e)) is not None:
            raise expected from e
        raise


@contextmanager
def translated_denials() -> Iterator[None]:
    """Turn what the role of a connection may not do into an error that says what to do."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as e:
        hint = "use another role, or have a DBA grant what sql/roles.sql says: `pgprog db roles`"
        raise Denied(e.diag.message_primary or str(e), hint=hint) from e


@contextmanager
def translated_failures() -> Iterator[None]:
    """Turn what `translated` lets pass, denials and what nobody expects, into errors that say so.

    Nothing was done.  Such an error is one caller's, or those of one batch: others go on.
    """
    try:
        with translated_denials():
            yield
    except psycopg.Error as e:
        msg = f"the database failed: {_told(e)}"
        raise PgprogError(msg, hint=e.diag.message_hint or "its own log says more") from e
    except Unforeseen as e:
        msg = f"the database failed: {e}"
        raise PgprogError(msg, hint="its own log says more") from e


@contextmanager
def translated_for_people() -> Iterator[None]:
    """Turn PostgreSQL's errors into what the command line says; no traceback is left."""
    try:
        with translated_failures(), translated():
            yield
    except RolledBack as e:
        msg = f"the database gave it up: {e}"
        raise PgprogError(msg, hint="nothing was done; repeat it") from e
    except DataFault as e:
        raise InvalidArgument(str(e)) from e


@contextmanager
def translated_for_callers() -> Iterator[None]:
    """Turn PostgreSQL's errors into those that callers of a client may catch."""
    try:
        with translated_failures(), translated():
            yield
    except RolledBack as e:
        raise StoreUnavailable(str(e), hint="nothing was done; repeat it") from e
    except DataFault as e:
        raise InvalidArgument(str(e)) from e


@contextmanager
def idling_rolls_back() -> Iterator[None]:
    """Tell a worker that stood still, within a limit that it has set itself, what that means."""
    try:
        yield
    except psycopg.errors.IdleInTransactionSessionTimeout as e:
        msg = "the worker stood still before the commit of a step"
        raise RolledBack(msg) from e


def is_overstayed(error: BaseException) -> bool:
    """Return whether a transaction was ended for its length, by what was raised of that.

    Its owner may have raised an error of his own from it, or a group with it.
    """
    left: list[BaseException | None] = [error]
    seen = set[int]()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:  # what was raised from each other may be a circle
            continue
        seen.add(id(each))
        if isinstance(each, psycopg.Error) and each.sqlstate in _OVERSTAYED:
            return True
        left += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
    return False


def _told(error: psycopg.Error) -> str:
    return f"{error.diag.message_primary or error} ({error.sqlstate})"


def _expected(error: psycopg.Error) -> PgprogError | None:
    message = error.diag.message_primary or str(error)
    known = for_sqlstate(error.sqlstate)
    if known is not None:
        return known(message, hint=error.diag.message_hint)
    if error.sqlstate in _SCHEMA:
        return SchemaMismatch(message, hint="run `pgprog db migrate`")
    return None
