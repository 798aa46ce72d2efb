"""Requests in the transaction of a SQLAlchemy session or connection, ORM or Core.

The engine's URL begins with ``postgresql+psycopg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from pgprog.client.bound import AsyncBound, Bound, bound_to

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection


def bind(session: Session | Connection) -> Bound:
    """Return what submits in the transaction of *session*, which begins here if there is none.

    It is for that transaction only: afterwards the session may have another connection.  A refusal
    fails the transaction, as any error of SQL does; inside ``session.begin_nested()`` only that.

    Raises:
        TypeError: The driver is not psycopg 3, or is asynchronous.
    """
    connection = session.connection() if isinstance(session, Session) else session
    if not connection.in_transaction():
        connection.begin()  # as SQLAlchemy does by itself before a statement of its own
    bound = bound_to(connection.connection.driver_connection)  # type: ignore[arg-type]
    if not isinstance(bound, Bound):
        msg = "bind is for blocking sessions; await bind_async for others"
        raise TypeError(msg)
    return bound


async def bind_async(session: AsyncSession | AsyncConnection) -> AsyncBound:
    """Return what submits in the transaction of an asynchronous session, as `bind` does.

    Raises:
        TypeError: The driver is not psycopg 3.
    """
    connection = await session.connection() if isinstance(session, AsyncSession) else session
    if not connection.in_transaction():
        _ = await connection.begin()
    raw = await connection.get_raw_connection()
    bound = bound_to(raw.driver_connection)  # type: ignore[arg-type]
    if not isinstance(bound, AsyncBound):
        msg = f"psycopg 3 is needed, not {connection.dialect.driver}"
        raise TypeError(msg)
    return bound
