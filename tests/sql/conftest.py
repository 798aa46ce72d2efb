"""A namespace, workers, and the engine's functions called as a worker calls them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import pytest
from psycopg import sql
from psycopg.rows import namedtuple_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

ROLES = Path(__file__).parents[2] / "sql" / "roles.sql"
# A statement that writes the table waits here for the gate to open; the number is free.
_GATE = """
create or replace function public.stand_at_the_gate() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(4711);
  return null;
end
$$;
create or replace trigger gate {when} on {table} for each {rows}
  execute function public.stand_at_the_gate();
"""

_COMPLETE = """
select * from pgprog_engine.complete(
  %(worker)s, %(task_ids)s::bigint[], %(claim_ids)s::bigint[], %(incarnations)s::bigint[],
  %(outcomes)s::integer[], %(states)s::jsonb[], %(state_versions)s::integer[], %(nulls)s::jsonb[],
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
        self, *tasks: Any, chain: bool = False, outcome: int | list[int] = 1, **more: Any
    ) -> list[Any]:
        count = len(tasks)
        timers: list[tuple[str, int | None]] = more.get("timer_list", [])
        timers = timers or list(more.get("timers", {}).items())
        values = {
            "worker": self.worker_id,
            "task_ids": [task.task_id for task in tasks],
            "claim_ids": [task.claim_id for task in tasks],
            "incarnations": [task.incarnation for task in tasks],
            "outcomes": outcome if isinstance(outcome, list) else [outcome] * count,
            "states": [more.get("state")] * count,
            "state_versions": [more.get("state_version", 1)] * count,
            "nulls": [None] * count,
            "responses": [more.get("response")] * count,
            "errors": [more.get("error")] * count,
            "retry_after": [more.get("retry_after")] * count,
            "thens": [more.get("then", 0)] * count,
            "chains": [chain] * count,
            "event_counts": [1] * count,
            "event_of": list(range(1, count + 1)),
            "event_no": more.get("event_no", [1] * count),
            "event_payloads": ["{}"] * count,
            "event_nulls": [None] * count,
            "timer_of": [1] * len(timers),
            "timer_names": [name for name, _ in timers],
            "timer_nulls": [None] * len(timers),
            "timer_after": [after for _, after in timers],
            "timer_remove": [more.get("remove", False)] * len(timers),
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

    def renew(self, *begun: Any) -> list[Any]:
        """Renew the lease, with these steps begun, and return the claims that are held."""
        return self._rows(
            "select * from pgprog_engine.renew_worker(%s, '1 hour', %s)",
            (self.worker_id, [task.task_id for task in begun]),
        )

    def collect(self, zombie: Worker, *, renewals: int = 0) -> int:
        """Collect a worker that was seen at this count of renewals; return how many it held."""
        [row] = self._rows(
            "select pgprog_engine.collect_zombies(%s, %s) as freed", (zombie.worker_id, renewals)
        )
        return int(row.freed)

    def end(self, dead: Worker) -> int:
        """End a worker whose program has ended; return how many tasks it held."""
        [row] = self._rows("select pgprog_engine.end_worker(%s) as freed", (dead.worker_id,))
        return int(row.freed)

    def _rows(self, statement: Any, values: Any) -> list[Any]:
        with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            return cursor.execute(statement, values).fetchall()


@pytest.fixture
def with_roles(admin: Any) -> Callable[[psycopg.Connection[Any]], None]:
    """Run roles.sql in a database, one at a time: roles are of the whole server."""

    def run(connection: psycopg.Connection[Any]) -> None:
        admin.execute("select pg_advisory_lock(4712)")
        try:
            connection.execute(ROLES.read_bytes())
        finally:
            admin.execute("select pg_advisory_unlock(4712)")

    return run


@pytest.fixture
def app(session: Any) -> psycopg.Connection[Any]:
    """An application's session, with the namespace orders made."""
    connection: psycopg.Connection[Any] = session()
    connection.execute("select pgprog_engine._create_namespace('orders', '{}')")
    return connection


@pytest.fixture
def make_worker(app: psycopg.Connection[Any], session: Any) -> Any:
    def make(lease: str = "1 hour", *, version: int = 1) -> Worker:
        connection = session()
        connection.execute("set statement_timeout = '10s'")  # a wait in vain fails its test
        row = connection.execute(
            "select pgprog_engine.register_worker("
            "  'w', array['orders'], array['{}'::jsonb], %s, array[%s])",
            (lease, version),
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


@pytest.fixture
def make_processes(app: psycopg.Connection[Any], worker: Worker) -> Callable[[int], list[str]]:
    """Make running processes with nothing to do: q0, q1 and so on."""

    def make(count: int) -> list[str]:
        names = [f"q{number}" for number in range(count)]
        for name in names:
            app.execute("select pgprog.init('orders', %s)", (name,))
        worker.complete(*worker.claim(count))
        return names

    return make


@pytest.fixture
def wait_for_lock(session: Any) -> Callable[[psycopg.Connection[Any]], None]:
    """Return once a session waits for a lock; the time-out of the test ends a wait in vain."""
    watcher = session()

    def wait(connection: psycopg.Connection[Any]) -> None:
        waiting = "select cardinality(pg_blocking_pids(%s)) > 0"
        while not watcher.execute(waiting, (connection.info.backend_pid,)).fetchone()[0]:
            pass

    return wait


@pytest.fixture
def gate(session: Any) -> Iterator[Any]:
    """A gate at a table: while it is closed, a statement that writes the table waits.

    With rows, as `row when (new.status = 'x')`, only one that has written such rows, at its end.
    """
    keeper = session()

    @contextmanager
    def closed(table: str, rows: LiteralString = "statement") -> Iterator[None]:
        keeper.execute("select pg_advisory_lock(4711)")
        keeper.execute(
            sql.SQL(_GATE).format(
                table=sql.Identifier("pgprog_data", table),
                when=sql.SQL("before insert" if rows == "statement" else "after insert"),
                rows=sql.SQL(rows),
            )
        )
        try:
            yield
        finally:
            keeper.execute("select pg_advisory_unlock(4711)")

    yield closed
    keeper.execute("drop function if exists public.stand_at_the_gate() cascade")


@pytest.fixture
def result_of(app: psycopg.Connection[Any]) -> Callable[[int], dict[str, Any]]:
    """What pgprog.result says of a task."""

    def result(task_id: int) -> dict[str, Any]:
        row = app.execute("select pgprog.result(%s)", (task_id,)).fetchone()
        assert row is not None
        found: dict[str, Any] = row[0]
        return found

    return result
