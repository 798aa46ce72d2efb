"""The connection by which a worker proves that it lives, for a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from pgprog.errors import StoreUnavailable
from pgprog.store import packing
from pgprog.store.faults import translated
from pgprog.store.packing import bigints
from pgprog.store.pool import conninfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta


class Renewals:
    """A blocking connection, opened when needed; used by one thread only."""

    def __init__(self, dsn: str, *, name: str) -> None:
        self._conninfo = conninfo(dsn, name=f"{name} heartbeat")
        self._connection: psycopg.Connection | None = None

    def renew_worker(
        self, worker_id: int, lease: timedelta, begun: Iterable[int]
    ) -> list[tuple[int, int]]:
        """Renew the lease, mark the tasks *begun*, return the claims held as (task_id, claim_id).

        Raises:
            LeaseLost: This incarnation was ended by a collector.
            StoreUnavailable: The outcome is unknown; repeat it.
        """
        try:
            with translated():
                connection = self._open()
                cursor = connection.execute(
                    "select task_id, claim_id from pgprog_engine.renew_worker(%s, %s, %s)",
                    (worker_id, lease, bigints([*begun])),
                    binary=True,
                )
                return cursor.fetchall()
        except StoreUnavailable:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )
            packing.register(self._connection)
        return self._connection
