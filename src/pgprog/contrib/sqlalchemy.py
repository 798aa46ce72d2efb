"""Requests in the transaction of a SQLAlchemy session or connection, ORM or Core.

The engine's URL begins with ``postgresql+psycopg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from pgprog.client.bound import AsyncBound, Bound, bound_to

if TYPE_CHECKING:
    from pgprog.encryption import Encryption

_C = TypeVar("_C")


def bind(
    session: Session | scoped_session[Any] | Connection, *, encryption: Encryption | None = None
) -> Bound:
    """Return what submits in the transaction of *session*, which begins here if there is none.

    It is for that transaction only: afterwards the session may have another connection.  A refusal
    fails the transaction, as any error of SQL does; inside ``session.begin_nested()`` only that.
    With *encryption* args are sealed, as those of a client that has it.

    Raises:
        TypeError: The driver is not psycopg 3, or is asynchronous.
    """
    found = session.connection() if isinstance(session, Session | scoped_session) else session
    connection = _checked(found, Connection)
    if not connection.in_transaction():
        connection.begin()  # as SQLAlchemy does by itself before a statement of its own
    raw: Any = connection.connection.driver_connection
    bound = bound_to(raw, encryption=encryption)
    if not isinstance(bound, Bound):
        msg = "bind is for blocking sessions; await bind_async for others"
        raise TypeError(msg)
    return bound


async def bind_async(
    session: AsyncSession | async_scoped_session[Any] | AsyncConnection,
    *,
    encryption: Encryption | None = None,
) -> AsyncBound:
    """Return what submits in the transaction of an asynchronous session, as `bind` does.

    Raises:
        TypeError: The driver is not psycopg 3.
    """
    is_session = isinstance(session, AsyncSession | async_scoped_session)
    found = await session.connection() if is_session else session
    connection = _checked(found, AsyncConnection)
    if not connection.in_transaction():
        _ = await connection.begin()
    raw = await connection.get_raw_connection()
    driver_connection: Any = raw.driver_connection
    bound = bound_to(driver_connection, encryption=encryption)
    if not isinstance(bound, AsyncBound):
        msg = f"psycopg 3 is needed, not {connection.dialect.driver}"
        raise TypeError(msg)
    return bound


def _checked(found: object, class_: type[_C]) -> _C:
    if not isinstance(found, class_):
        given = type(found).__name__
        msg = f"needed is a {class_.__name__} of SQLAlchemy or a session that has one, not {given}"
        raise TypeError(msg)
    return found
