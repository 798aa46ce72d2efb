"""What is left of a run: the tables of pgprog and the application, and the logs of both sides."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg.rows import namedtuple_row
from tests.chaos.journal import read_all

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg
    from tests.chaos.journal import Line

_SQL: dict[str, LiteralString] = {
    "tasks": """
        select task_id, process_id, incarnation, type, name, status, attempt, claim_id, key, events,
          first_event_id, response, error, extract(epoch from created_at)::float8 as created_at,
          extract(epoch from started_at)::float8 as started_at,
          extract(epoch from ended_at)::float8 as ended_at
        from pgprog_data.tasks where namespace = 'chaos' order by task_id""",
    "attempts": """
        select task_id, claim_id, attempt, outcome,
          extract(epoch from started_at)::float8 as started_at,
          extract(epoch from ended_at)::float8 as ended_at
        from pgprog_data.attempts order by task_id, claim_id""",
    "events": """
        select incarnation, event_id, task_id, extract(epoch from at)::float8 as at,
          payload ->> 'run' as run, payload ->> 'by' as by, (payload ->> 'seq')::bigint as seq
        from pgprog_data.events where incarnation in (
          select incarnation from pgprog_data.tasks where namespace = 'chaos')
        order by incarnation, event_id""",
    "processes": """
        select process_id, incarnation, status, last_event_id, state, corrupted_by
        from pgprog_data.processes where namespace = 'chaos' order by incarnation""",
    "keys": "select key, task_id from pgprog_data.keys where namespace = 'chaos'",
    "queue": """
        select task_id, process_id, incarnation, type, status::text as status
        from pgprog_data.queue order by task_id""",
    "timers": """
        select task_id, process_id, incarnation, name, status::text as status
        from pgprog_data.timers order by task_id""",
    "payments": "select task_id, process_id, run from chaos_payments",
    "orders": "select op, task from chaos_orders",
}

TABLES = """
create table if not exists chaos_payments (task_id bigint, process_id text, run text);
create table if not exists chaos_orders (op text, task bigint)
"""


@dataclass(slots=True)
class Run:
    """One run of a handler, by its own log; *ended_at* is None where it never came to its end.

    *last* is the last moment at which it can have run, infinite for one that nobody saw end.
    """

    began: Line
    ended: Line | None = None
    last: float = float("inf")


@dataclass(slots=True)
class Op:
    """One thing that a client asked, and what it heard of it."""

    asked: Line
    acked: Line | None = None
    told: Line | None = None
    other: Line | None = None  # refused, unknown, rolled_back, did

    @property
    def task(self) -> int | None:
        return None if self.acked is None else self.acked["task"]


@dataclass(slots=True)
class Evidence:
    """All of it; rows are named tuples with the columns above, times are seconds of one clock."""

    tasks: dict[int, Any]
    rows: dict[str, list[Any]]
    runs: dict[str, Run]
    ops: dict[str, Op]
    reads: list[Line]
    closed: set[str]
    by_incarnation: dict[int, list[Any]] = field(default_factory=dict)


def load(connection: psycopg.Connection[Any], logs: Path) -> Evidence:
    """Read tables in one snapshot, and logs."""
    rows: dict[str, list[Any]] = {}
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        for name, statement in _SQL.items():
            rows[name] = cursor.execute(statement).fetchall()
    deaths = {line["pid"]: float(line["mono"]) for line in read_all(logs, "deaths.log")}
    evidence = Evidence(
        tasks={row.task_id: row for row in rows["tasks"]},
        rows=rows,
        runs=_runs(read_all(logs, "steps-*.log"), deaths),
        ops={},
        reads=[],
        closed=set(),
    )
    _read_clients(evidence, read_all(logs, "client-*.log"))
    by_incarnation: dict[int, list[Any]] = defaultdict(list)
    for task in rows["tasks"]:
        by_incarnation[task.incarnation].append(task)
    evidence.by_incarnation = by_incarnation
    return evidence


def _runs(lines: list[Line], deaths: dict[int, float]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for line in lines:
        if line["what"] == "began":
            runs[line["run"]] = Run(line, last=deaths.get(line["pid"], float("inf")))
        elif (run := runs.get(line["run"])) is not None:
            run.ended, run.last = line, line["mono"]
    return runs


def _read_clients(evidence: Evidence, lines: list[Line]) -> None:
    ops = evidence.ops
    for line in lines:
        match line["what"]:
            case "asked":
                ops[line["op"]] = Op(line)
            case "acked":
                ops[line["op"]].acked = line
            case "told":
                ops[line["op"]].told = line
            case "read":
                evidence.reads.append(line)
            case "closed":
                evidence.closed.add(line["client"])
            case _:
                ops[line["op"]].other = line
