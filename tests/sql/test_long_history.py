"""A history of a million events costs a step, and a read of the last ones, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.sql.blocks import blocks_of, blocks_of_step

if TYPE_CHECKING:
    import psycopg

# Slow: writes a million events.
pytestmark = pytest.mark.slow

LONG, SHORT = 1_000_000, 100
_WRITE = """
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select p.incarnation, n, p.incarnation, now(), '{"a": 1}'
from pgprog_data.processes as p, generate_series(p.last_event_id + 1, %(count)s) as n
where p.process_id = %(process)s
"""
_COUNT = "update pgprog_data.processes set last_event_id = %(count)s where process_id = %(process)s"
_READ = "select pgprog.get('orders', %s, max_events => 100, direction => 'backward')"


@pytest.fixture
def written(app: psycopg.Connection[Any], worker: Any) -> Any:
    """A worker, and the processes long and short."""
    for process, count in (("long", LONG), ("short", SHORT)):
        app.execute("select pgprog.init('orders', %s)", (process,))
        worker.complete(*worker.claim())
        values = {"process": process, "count": count}
        app.execute(_WRITE, values)
        app.execute(_COUNT, values)
    app.execute("vacuum analyze pgprog_data.events")
    return worker


def test_a_step_and_a_read_touch_as_much_of_a_long_history_as_of_a_short_one(written: Any) -> None:
    connection, worker_id = written.connection, written.worker_id

    def step(process: str) -> int:
        return blocks_of_step(connection, worker_id, process)

    def read(process: str) -> int:
        return blocks_of(connection, _READ, (process,))

    for _ in range(3):  # plans and pages that are met for the first time
        for process in ("long", "short"):
            step(process), read(process)
    steps = {process: min(step(process) for _ in range(5)) for process in ("long", "short")}
    reads = {process: min(read(process) for _ in range(5)) for process in ("long", "short")}

    row = connection.execute("select last_event_id from pgprog.processes where process_id='long'")
    assert row.fetchone()[0] == LONG + 8
    # A deeper tree: two pages more for each of its descents.
    assert abs(steps["long"] - steps["short"]) <= 5, steps
    assert abs(reads["long"] - reads["short"]) <= 5, reads
