"""A namespace, workers, and the engine's functions called as a worker calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.rows import namedtuple_row

if TYPE_CHECKING:
    import psycopg

_COMPLETE = """
select * from pgprog_engine.complete(
  %(worker)s, %(task_ids)s::bigint[], %(claim_ids)s::bigint[], %(incarnations)s::bigint[],
  %(outcomes)s::integer[], %(states)s::jsonb[], %(ones)s::integer[], %(nulls)s::jsonb[],
  %(responses)s::jsonb[], %(errors)s::jsonb[], %(retry_after)s::bigint[], %(thens)s::integer[],
  %(chains)s::boolean[], %(event_counts)s::integer[], %(event_of)s::integer[],
  %(event_no)s::integer[], %(event_payloads)s::jsonb[], %(event_nulls)s::jsonb[],
  %(timer_of)s::integer[], %(timer_names)s::text[], %(timer_nulls)s::timestamptz[],
  %(timer_after)s::bigint[], %(timer_remove)s::boolean[])
"""


@dataclass(frozen=True)
class Worker:
    """A worker incarnation on one connection; every step writes one event."""

    connection: psycopg.Connection[Any]
    worker_id: int

    def claim(self, limit: int = 10) -> list[Any]:
        """Return the claimed tasks, without the last row, which has none."""
        rows = self._rows("select * from pgprog_engine.claim(%s, %s)", (self.worker_id, limit))
        return [row for row in rows if row.task_id is not None]

    def complete(
        self, *tasks: Any, chain: bool = False, outcome: int = 1, **more: Any
    ) -> list[Any]:
        count = len(tasks)
        timers: dict[str, int] = more.get("timers", {})
        values = {
            "worker": self.worker_id,
            "task_ids": [task.task_id for task in tasks],
            "claim_ids": [task.claim_id for task in tasks],
            "incarnations": [task.incarnation for task in tasks],
            "outcomes": [outcome] * count,
            "states": [more.get("state")] * count,
            "ones": [1] * count,
            "nulls": [None] * count,
            "responses": [more.get("response")] * count,
            "errors": [more.get("error")] * count,
            "retry_after": [more.get("retry_after")] * count,
            "thens": [more.get("then", 0)] * count,
            "chains": [chain] * count,
            "event_counts": [1] * count,
            "event_of": list(range(1, count + 1)),
            "event_no": [1] * count,
            "event_payloads": ["{}"] * count,
            "event_nulls": [None] * count,
            "timer_of": [1] * len(timers),
            "timer_names": list(timers),
            "timer_nulls": [None] * len(timers),
            "timer_after": list(timers.values()),
            "timer_remove": [False] * len(timers),
        }
        return self._rows(_COMPLETE, values)

    def start(self, *requests: tuple[str, str, str | None], limit: int = 10) -> list[Any]:
        """Start requests of (type, process_id, idempotency key) in the namespace orders."""
        count = len(requests)
        types, process_ids, keys = zip(*requests, strict=True)
        nulls = [None] * count
        return self._rows(
            "select * from pgprog_engine.start(%s, %s, %s, %s, %s, %s::jsonb[], %s::text[],"
            " %s::text[], %s::jsonb[], %s, %s::timestamptz[])",
            (
                self.worker_id, limit, list(types), ["orders"] * count, list(process_ids), nulls,
                nulls, list(keys), nulls, [0] * count, nulls,
            ),
        )  # fmt: skip

    def _rows(self, statement: Any, values: Any) -> list[Any]:
        with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            return cursor.execute(statement, values).fetchall()


@pytest.fixture
def app(session: Any) -> psycopg.Connection[Any]:
    """An application's session, with the namespace orders made."""
    connection: psycopg.Connection[Any] = session()
    connection.execute("select pgprog_engine._create_namespace('orders', '{}')")
    return connection


@pytest.fixture
def make_worker(app: psycopg.Connection[Any], session: Any) -> Any:
    def make(lease: str = "1 hour") -> Worker:
        connection = session()
        row = connection.execute(
            "select pgprog_engine.register_worker('w', array['orders'], array['{}'::jsonb], %s)",
            (lease,),
        ).fetchone()
        return Worker(connection, row[0])

    return make


@pytest.fixture
def worker(make_worker: Any) -> Worker:
    made: Worker = make_worker()
    return made


@pytest.fixture
def process(app: psycopg.Connection[Any], worker: Worker) -> str:
    """A running process with nothing to do."""
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim())
    return "p1"
