"""Single requests on a connection of the application, inside its own transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from pgprog.store.faults import translated_in_theirs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import TypeIs

    from pgprog.encryption import Encryption
    from pgprog.store.rows import RawRequest

BlockingConnection: TypeAlias = psycopg.Connection[Any]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any]

_ARGUMENTS: Final = "(%s, %s, %s, %s, %s, %s, %s, %s)"
_STATEMENTS: Mapping[str, LiteralString] = {
    "init": f"select pgprog.init{_ARGUMENTS}",
    "call": f"select pgprog.call{_ARGUMENTS}",
    "notify": f"select pgprog.notify{_ARGUMENTS}",
    # A repair is for now: it has no run_at, and the one given is null.
    "repair": "select pgprog.repair(%s, %s, %s, %s, %s, %s, %s) where %s::timestamptz is null",
}


def is_async(connection: object) -> TypeIs[AsyncConnection]:
    """Return whether a connection is an asynchronous one of psycopg.

    Raises:
        TypeError: It is no connection of psycopg.
    """
    if isinstance(connection, psycopg.AsyncConnection):
        return True
    if isinstance(connection, psycopg.Connection):
        return False
    msg = f"a psycopg connection is needed, not {type(connection).__name__}"
    raise TypeError(msg)


def sealed(request: RawRequest, encryption: Encryption | None) -> RawRequest:
    """Return a request as it lies in the database."""
    if encryption is None:
        return request
    key = request.idempotency_key
    return request._replace(args=encryption.seal_args(request.args, idempotency_key=key))


def submit_on(connection: BlockingConnection, request: RawRequest) -> int:
    """Queue a request in the connection's transaction and return its task.

    Raises:
        PgprogError: It was refused; the transaction has failed, as after any error of SQL.
        psycopg.Error: The transaction cannot go on: a serialization failure, a lock time-out.
    """
    # The connection's own factories are the application's.
    with translated_in_theirs(), psycopg.Cursor(connection, row_factory=scalar_row) as cursor:
        cursor.execute(_STATEMENTS[request.type], _values(request))
        [task_id] = cursor.fetchall()
        return int(task_id)


async def submit_async_on(connection: AsyncConnection, request: RawRequest) -> int:
    """Do the same on an asynchronous connection."""
    with translated_in_theirs():
        async with psycopg.AsyncCursor(connection, row_factory=scalar_row) as cursor:
            await cursor.execute(_STATEMENTS[request.type], _values(request))
            [task_id] = await cursor.fetchall()
            return int(task_id)


def _values(request: RawRequest) -> tuple[object, ...]:
    return (
        request.namespace,
        request.process_id,
        _jsonb(request.args),
        request.name,
        request.idempotency_key,
        _jsonb(request.context),
        request.priority,
        request.run_at,
    )


def _jsonb(raw: bytes | None) -> Jsonb | None:
    # The payload is encoded already; the connection and its adapters are the application's.
    return None if raw is None else Jsonb(raw, dumps=lambda encoded: encoded)
