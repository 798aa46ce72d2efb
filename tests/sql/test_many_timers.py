"""Timers of later days cost a step of their process nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.sql.blocks import blocks_of_step

if TYPE_CHECKING:
    import psycopg

_SET = """
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select p.incarnation, 'later ' || n, nextval('pgprog_data.task_ids'), p.namespace, p.process_id,
  'timeout', now() + n * interval '1 day' + interval '1 hour', now()
from pgprog_data.processes as p, generate_series(1, 5000) as n
where p.process_id = 'many'
"""


@pytest.mark.parametrize("has_statistics", [False, True], ids=["no statistics", "statistics"])
def test_a_step_reads_as_much_where_its_process_has_thousands_of_later_timers(
    app: psycopg.Connection[Any], worker: Any, *, has_statistics: bool
) -> None:
    for process in ("many", "none"):
        app.execute("select pgprog.init('orders', %s)", (process,))
        worker.complete(*worker.claim())
    app.execute(_SET)
    if has_statistics:
        app.execute("vacuum analyze pgprog_data.timers")

    blocks_of_step(worker.connection, worker.worker_id, "none")  # the plans are made
    # The least of three: autovacuum lets plans be made anew, which reads the catalogue.
    many, none = (
        min(blocks_of_step(worker.connection, worker.worker_id, process) for _ in range(3))
        for process in ("many", "none")
    )

    assert many <= none + 20
