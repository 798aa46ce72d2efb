"""What can be done to one process, and the scenes in which two of these meet.

An operation runs on any connection and says in a word what became of it, or its SQLSTATE.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, LiteralString, Protocol

import psycopg

Connection = psycopg.Connection[Any]


@dataclass(kw_only=True)
class Meeting:
    """A process p in a namespace of its own, and a worker that may hold a task of it."""

    namespace: str
    worker: Any
    held: Any = None
    waiting: int | None = None
    asked: list[int] = field(default_factory=list)

    def as_worker(self, connection: Connection) -> Any:
        return replace(self.worker, connection=connection)


class Operation(Protocol):
    """Does one thing; its outcome is a word, the tasks that it made stand in meeting.asked."""

    def __call__(self, meeting: Meeting, connection: Connection) -> str: ...


START = """
select outcome, task_id from pgprog_engine.start(
  %(worker)s, 10, %(types)s, %(namespaces)s, %(names)s, %(nulls)s::text[]::jsonb[],
  %(nulls)s::text[], %(nulls)s::text[], %(nulls)s::text[]::jsonb[], %(zeros)s,
  %(nulls)s::text[]::timestamptz[])
"""


def ask(statement: LiteralString) -> Operation:
    """Call a function of the API with the namespace, or with the task that waits."""

    def run(meeting: Meeting, connection: Connection) -> str:
        values = {"namespace": meeting.namespace, "waiting": meeting.waiting}
        row = connection.execute(statement, values).fetchone()
        assert row is not None
        if isinstance(row[0], bool):
            return "yes" if row[0] else "no"
        if row[0] is not None and statement is not PUT:
            meeting.asked.append(row[0])
        return "done"

    return run


def start_calls(meeting: Meeting, connection: Connection, *names: str) -> list[tuple[str, int]]:
    """Start a call of each of these processes; return its outcome and task."""
    count = len(names)
    values = {
        "worker": meeting.worker.worker_id,
        "types": ["call"] * count,
        "namespaces": [meeting.namespace] * count,
        "names": list(names),
        "nulls": [None] * count,
        "zeros": [0] * count,
    }
    return connection.execute(START, values).fetchall()


def start(meeting: Meeting, connection: Connection) -> str:
    [(outcome, task_id)] = start_calls(meeting, connection, "p")
    meeting.asked += filter(None, [task_id])
    return outcome


def claim(meeting: Meeting, connection: Connection) -> str:
    return "takes" if meeting.as_worker(connection).claim() else "nothing"


def complete(outcome: int = 1, **more: Any) -> Operation:
    def run(meeting: Meeting, connection: Connection) -> str:
        rows = meeting.as_worker(connection).complete(meeting.held, outcome=outcome, **more)
        return " ".join(sorted(row.outcome for row in rows))

    return run


def renew(meeting: Meeting, connection: Connection) -> str:
    begun = [meeting.held] if meeting.held else []
    return f"holds {len(meeting.as_worker(connection).renew(*begun))}"


def free(statement: LiteralString) -> Operation:
    def run(meeting: Meeting, connection: Connection) -> str:
        values = {
            "worker": meeting.worker.worker_id,
            "tasks": [meeting.held.task_id] if meeting.held else [],
            "claims": [meeting.held.claim_id] if meeting.held else [],
        }
        row = connection.execute(statement, values).fetchone()
        assert row is not None
        return f"frees {row[0]}"

    return run


PUT = """
select pgprog.put(jsonb_build_object(
  'namespace', %(namespace)s::text, 'process_id', 'p', 'status', 'running'))
"""
COLLECT = "select pgprog_engine.collect_zombies(%(worker)s, 0)"

OPERATIONS: dict[str, Operation] = {
    "start": start,
    "init": ask("select pgprog.init(%(namespace)s, 'p')"),
    "call": ask("select pgprog.call(%(namespace)s, 'p')"),
    "notify": ask("select pgprog.notify(%(namespace)s, 'p')"),
    "repair": ask("select pgprog.repair(%(namespace)s, 'p')"),
    "simple_repair": ask("select pgprog.simple_repair(%(namespace)s, 'p')"),
    "put": ask(PUT),
    "remove": ask("select pgprog.remove(%(namespace)s, 'p')"),
    "cancel": ask("select pgprog.cancel(%(waiting)s)"),
    "claim": claim,
    "go_on": complete(),
    "retry": complete(3, retry_after=0),
    "break": complete(4, error='{"detail": "no"}'),
    "finish": complete(then=1),
    "end": complete(then=2),
    "chain": complete(chain=True),
    "critical": complete(6, error='{"detail": "no"}'),
    "renew_worker": renew,
    "collect_zombies": free(COLLECT),
    "hand_back": free("select pgprog_engine.hand_back(%(tasks)s, %(claims)s)"),
    "deregister_worker": free("select pgprog_engine.deregister_worker(%(worker)s)"),
    "pause": ask("select pgprog.pause(%(namespace)s)"),
    "resume": ask("select pgprog.resume(%(namespace)s)"),
    "maintain": ask("select pgprog_engine.maintain()"),
    "measure_queues": ask("select pgprog_engine.measure_queues('0 s')"),
}
COMPLETIONS = ["go_on", "retry", "break", "finish", "end", "chain", "critical"]
OF_WORKERS = ["renew_worker", "collect_zombies", "hand_back", "deregister_worker"]
# These wait so shortly for such a lock that they count as passing by.
HURRIED = {
    "start": {"id", "workers", "processes"},
    "critical": {"starts"},
    "maintain": {"id", "processes"},
}

# The scenes in which an operation has something to do, the best first.
SCENES = {
    "start": ["idle", "held", "ready", "pressed"],
    "init": ["absent"],
    "call": ["idle", "ready", "held", "full"],
    "notify": ["idle", "ready", "held", "full"],
    "repair": ["broken", "mending"],
    "simple_repair": ["broken", "mending"],
    "put": ["absent"],
    "remove": ["held", "full", "ready", "idle", "broken", "mending", "finished"],
    "cancel": ["ready", "full", "held", "mending", "finished"],
    "claim": ["ready", "full", "held", "mending", "finished"],
    **{name: ["held", "pressed", "mending"] for name in [*COMPLETIONS, *OF_WORKERS]},
    "pause": ["ready", "held", "full", "idle", "broken", "finished", "absent"],
    "resume": ["ready", "held", "full", "idle", "broken", "finished", "absent"],
    "maintain": ["finished"],
    "measure_queues": ["full", "pressed", "mending"],
}
HAVE_HELD = {"held", "pressed", "mending"}
HAVE_WAITING = {*HAVE_HELD, "ready", "full", "finished"}


def scenes_of(first: str, second: str) -> list[str]:
    """The scenes in which two operations meet."""
    both = [scene for scene in SCENES[first] if scene in SCENES[second]]
    scene = both[0] if both else SCENES[first][0]
    if second in {*COMPLETIONS, "hand_back"} and scene not in HAVE_HELD:
        return []
    if second == "cancel" and scene not in HAVE_WAITING:
        return []
    if (first, scene) == ("cancel", "ready"):
        return ["ready", "retrying"]
    return ["held", "fired"] if scene == "held" else [scene]
