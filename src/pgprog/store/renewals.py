"""The connection by which a worker proves that it lives, for a thread of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import psycopg

from pgprog import logs
from pgprog.errors import StoreUnavailable
from pgprog.store import packing
from pgprog.store.faults import Unforeseen, translated_in_loops
from pgprog.store.packing import bigints
from pgprog.store.pool import conninfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta


log = logs.get(__name__)

# What is asked of the log level comes with each renewal, in the same round trip.
_RENEW: Final = """
select task_id, claim_id, null as log_level from pgprog_engine.renew_worker(%s, %s, %s)
union all
select null, null, pgprog_engine.tell_log_level(%s, %s)
"""


class Renewals:
    """A blocking connection, opened when needed; used by one thread only.

    With its renewals come orders of `pgprog worker log-level`, which it obeys.
    """

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
            with translated_in_loops():
                connection = self._open()
                level = logging.getLevelName(logs.configured()[1]).lower()
                cursor = connection.execute(
                    _RENEW,
                    (worker_id, lease, bigints([*begun]), worker_id, level),
                    binary=True,
                )
                *claims, [_, _, asked] = cursor.fetchall()
        except (StoreUnavailable, Unforeseen):
            self.close()
            raise
        if asked is not None and asked != level:
            logs.set_level(asked)
            log.info("log_level_changed", worker_id=worker_id, before=level, after=asked)
        return [(task_id, claim_id) for task_id, claim_id, _ in claims]

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
