"""What a supervisor tells the database of workers whose programs have ended."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg

from pgprog.errors import StoreUnavailable
from pgprog.store import wakeups
from pgprog.store.faults import NOT_SENT, translated
from pgprog.store.pool import connect_blocking

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Deaths:
    """The functions of a supervisor, on a connection that may go through a transaction pooler."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def end_worker(self, worker_id: int) -> int:
        """Free the tasks of a worker whose program has ended; return how many.

        Raises:
            LockTimeout: A statement that the program had sent goes on; nothing was done.
            StoreUnavailable: The outcome is unknown; repeat it.
        """
        with translated():
            row = self._connection.execute(
                "select pgprog_engine.end_worker(%s)", (worker_id,)
            ).fetchone()
        return int(row[0]) if row else 0

    def announce_due(self, namespaces: Sequence[str]) -> None:
        """Let the workers of these namespaces look for due tasks now, if that can be sent."""
        for namespace in namespaces:
            with suppress(*NOT_SENT):
                self._connection.execute("select pg_notify(%s, %s)", (wakeups.DUE, namespace))


@contextmanager
def open_deaths(dsn: str, *, name: str) -> Iterator[Deaths]:
    """Connect for as long as the block lasts.

    Raises:
        StoreUnavailable: The database cannot be reached, or fails in a way that nobody foresaw.
    """
    try:
        with connect_blocking(dsn, name=name) as connection:
            yield Deaths(connection)
    except psycopg.Error as e:  # of XX000, as where a migration replaces what is called
        raise StoreUnavailable(str(e), hint="repeat it") from e
