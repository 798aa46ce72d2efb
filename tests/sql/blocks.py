"""How much of the database a statement reads, and a step."""

from __future__ import annotations

from typing import Any

_CALL = """
with called as (select pgprog.call('orders', %s) as task_id)
select task_id from called
"""
_CLAIM = "select * from pgprog_engine.claim(%s, 1)"
_END = """
select c.* from (
  select array[q.task_id] as t, array[q.claim_id] as c, array[q.incarnation] as i,
    array[null::jsonb] as n
  from pgprog_data.queue as q where q.worker_id = %(worker)s) as h
cross join lateral pgprog_engine.complete(
  %(worker)s, h.t, h.c, h.i, array[1], h.n, array[1], h.n, h.n, h.n, array[null::bigint], array[0],
  array[false], array[1], array[1], array[1], array['{}'::jsonb], h.n, array[]::integer[],
  array[]::text[], array[]::timestamptz[], array[]::bigint[], array[]::boolean[]) as c
"""


def blocks_of(connection: Any, statement: str, values: Any = ()) -> int:
    """Run a statement; return the blocks of shared buffers that it read."""
    explain = f"explain (analyze, buffers, timing off, format json) {statement}"
    [[[found]]] = connection.execute(explain, values).fetchall()
    plan = found["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def blocks_of_step(connection: Any, worker_id: int, process: str) -> int:
    """Call a process, claim that and end it; return the blocks that the three read."""
    return (
        blocks_of(connection, _CALL, (process,))
        + blocks_of(connection, _CLAIM, (worker_id,))
        + blocks_of(connection, _END, {"worker": worker_id})
    )
