"""Follow a database in a test: what comes next, or the next of a kind."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgprog.replication import messages as m
from pgprog.replication.feed import follow
from pgprog.replication.published import Published

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

# A table of all that matters, apart from pgprog's own.
TABLE = """
create table notes (id bigint primary key, name text, state bytea, at timestamptz);
alter table notes alter column state set storage external;
create publication notes for table notes;
"""

# Of this database: other tests run on the server beside this one.
SLOTS = "from pg_replication_slots where database = current_database()"
END_STREAMS = f"select pg_terminate_backend(active_pid) {SLOTS} and active"

Event = TypeVar("Event")


class Reading:
    """One feed, read on demand."""

    def __init__(self, events: AsyncIterator[m.FeedEvent]) -> None:
        self.events = events
        self.passed: list[m.FeedEvent] = []

    async def next(self, kind: type[Event]) -> Event:
        """Return the next event of *kind*; those before it are in `passed`."""
        async for event in self.events:
            if isinstance(event, kind):
                return event
            self.passed.append(event)
        raise AssertionError

    async def changes(self) -> tuple[m.Change, ...]:
        """Return the changes of the next transaction."""
        return (await self.next(m.Transaction)).changes

    async def rows(self) -> list[Any]:
        """Return the new rows of the next transaction."""
        changes = await self.changes()
        return [c.new for c in changes if isinstance(c, m.Insert | m.Update)]

    async def progress_to(self, lsn: int) -> None:
        """Read until everything up to *lsn* is known to have been told."""
        while (await self.next(m.Progress)).lsn < lsn:
            pass


@asynccontextmanager
async def reading(
    dsn: str,
    *,
    publications: Sequence[str] = ("notes",),
    columns: Mapping[str, Sequence[str]] | None = None,
    whole: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> AsyncIterator[Reading]:
    """Follow *dsn* from now on."""
    published = Published(publications, columns or {}, whole or {})
    feed = follow(dsn, published, **options)
    async with aclosing(feed):
        yield Reading(feed)


def write(dsn: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def ask(dsn: str, query: str) -> list[Any]:
    """Return the rows of a query."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()
