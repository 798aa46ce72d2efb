"""What can be done to one process, the scenes in which two of these meet, and what must hold then.

An operation runs on any connection and says in a word what became of it, or its SQLSTATE.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, LiteralString, Protocol

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


# ---- Operations ----

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


# ---- Scenes ----


# Each row is what must not be in a namespace, whatever has met in it.
BREACHES = """
select 'all its tasks are blocked' as breach, q.incarnation from pgprog_data.queue as q
where q.namespace = %(namespace)s and q.status <> 'f' and not exists (
  select 1 from pgprog_data.timers as t
  where t.incarnation = q.incarnation and t.status = 'w' and t.due_at <= clock_timestamp())
group by q.incarnation having bool_and(q.status = 'b')
union all
select 'two tasks run', incarnation from pgprog_data.queue
where namespace = %(namespace)s and status = 'r' group by incarnation having count(*) > 1
union all
select 'the events are not 1 to n', p.incarnation from pgprog_data.processes as p
where p.namespace = %(namespace)s and p.last_event_id is distinct from (
  select case when count(*) = coalesce(max(e.event_id), 0) then count(*) end
  from pgprog_data.events as e where e.incarnation = p.incarnation)
union all
select 'the list of ended processes is wrong', coalesce(p.incarnation, e.incarnation)
from (select * from pgprog_data.processes where namespace = %(namespace)s) as p
full join (select * from pgprog_data.ended_processes where namespace = %(namespace)s) as e
  on e.incarnation = p.incarnation
where (p.status in ('error', 'finished')) is distinct from (e.incarnation is not null)
union all
select 'a task ended twice', task_id from pgprog_data.tasks
where namespace = %(namespace)s group by task_id having count(*) > 1
"""
RUNNABLE = """
select (x.details ->> 'runnable')::boolean from pgprog_data.processes as p
cross join lateral pgprog.explain(p.namespace, p.process_id) as x
where p.namespace = %(namespace)s
"""
COLLECT_ALL = """
select pgprog_engine.collect_zombies(worker_id, renewals) from pgprog_data.workers
where namespaces = array[%(namespace)s]
  and worker_id < (select max(worker_id) from pgprog_data.workers)
union all select pgprog_engine.collect_zombies(null, null)
"""
LEFT = """
select 'a task is left', task_id, status::text from pgprog_data.queue where namespace = %s
union all
select 'a timer is left', task_id, status::text from pgprog_data.timers where namespace = %s
union all
select 'a task has no end', a.task_id, pgprog.result(a.task_id) ->> 'status'
from unnest(%s::bigint[]) as a(task_id)
where pgprog.result(a.task_id) ->> 'status' not in ('finished', 'error', 'cancelled')
"""


class Stage:
    """Sets scenes, each in a namespace of its own, and looks at what is left of them."""

    def __init__(self, connect: Callable[[], Connection], make_worker: Callable[[], Any]) -> None:
        self.app, self.first, self.second = connect(), connect(), connect()
        for connection in (self.app, self.first, self.second):
            connection.execute("set statement_timeout = '10s'")
        self.kind_of_worker = type(make_worker())
        self.count = 0
        self.app.execute("select pgprog_engine.maintain()")

    def register(self, namespace: str) -> Any:
        row = self.app.execute(
            "select pgprog_engine.register_worker('w', array[%s], array['{}'::jsonb], '1 hour')",
            (namespace,),
        ).fetchone()
        assert row is not None
        return self.kind_of_worker(self.app, row[0])

    def look_after(self, meeting: Meeting) -> list[Any]:
        """Return what is wrong now, and after all that is left to do was done."""
        names = {"namespace": meeting.namespace}
        heir = self.register(meeting.namespace)
        self.app.execute("select pgprog.resume(%(namespace)s)", names)
        wrong = self.app.execute(BREACHES, names).fetchall()
        [runnable] = self.app.execute(RUNNABLE, names).fetchone() or [False]
        taken = heir.claim()
        if runnable != bool(taken):
            wrong.append(("a claim takes what is due", runnable, taken))
        while taken:
            heir.complete(*taken)
            taken = heir.claim()
        self.app.execute(COLLECT_ALL, names)
        while taken := heir.claim():
            heir.complete(*taken)
        wrong += self.app.execute(BREACHES, names).fetchall()
        return wrong + self.app.execute(LEFT, (*[meeting.namespace] * 2, meeting.asked)).fetchall()

    @contextmanager
    def set(self, scene: str) -> Iterator[Meeting]:
        self.count += 1
        namespace = f"n{self.count}"
        meeting = Meeting(namespace=namespace, worker=self.register(namespace))
        getattr(self, f"_set_{scene}")(meeting)
        yield meeting
        self.app.execute("delete from pgprog_data.namespaces where namespace = %s", (namespace,))
        self.app.execute(
            "delete from pgprog_data.workers where namespaces = array[%s]", (namespace,)
        )

    def add_neighbours(self, meeting: Meeting) -> tuple[Any, str, str]:
        """Add processes: return the running task of one, one with a due call, one that is free."""
        for name in ("running", "due", "free"):
            self.app.execute("select pgprog.init(%s, %s)", (meeting.namespace, name))
        meeting.worker.complete(*meeting.worker.claim())
        self.app.execute("select pgprog.call(%s, 'running')", (meeting.namespace,))
        [running] = meeting.worker.claim()
        self.app.execute("select pgprog.call(%s, 'due')", (meeting.namespace,))
        return running, "due", "free"

    def _ask(self, meeting: Meeting, name: str) -> int:
        OPERATIONS[name](meeting, self.app)
        return meeting.asked[-1]

    def _set_absent(self, meeting: Meeting) -> None:
        pass

    def _set_idle(self, meeting: Meeting) -> None:
        self._ask(meeting, "init")
        meeting.worker.complete(*meeting.worker.claim())

    def _set_ready(self, meeting: Meeting) -> None:
        self._set_idle(meeting)
        meeting.waiting = self._ask(meeting, "call")

    def _set_held(self, meeting: Meeting) -> None:
        self._set_ready(meeting)
        [meeting.held] = meeting.worker.claim()
        meeting.waiting = self._ask(meeting, "call")

    def _set_retrying(self, meeting: Meeting) -> None:
        """A call that waits an hour for its retry, and one that is blocked behind it."""
        self._set_ready(meeting)
        meeting.worker.complete(*meeting.worker.claim(), outcome=3, retry_after=3_600_000_000)
        self._ask(meeting, "call")
        meeting.worker.claim()

    def _set_fired(self, meeting: Meeting) -> None:
        """The same, but what runs is a timer."""
        self._set_ready(meeting)
        meeting.worker.complete(*meeting.worker.claim(), timers={"t": 0})
        [meeting.held] = meeting.worker.claim()
        meeting.waiting = self._ask(meeting, "call")

    def _set_full(self, meeting: Meeting) -> None:
        """One call more than the namespace takes."""
        self._set_ready(meeting)
        meeting.waiting = self._ask(meeting, "call")
        self._limit(meeting)

    def _set_pressed(self, meeting: Meeting) -> None:
        """The same behind a running one."""
        self._set_held(meeting)
        meeting.waiting = self._ask(meeting, "call")
        self._limit(meeting)

    def _limit(self, meeting: Meeting) -> None:
        self.app.execute(
            "update pgprog_data.namespaces set max_queue = 1, on_full = 'drop_lowest'"
            " where namespace = %s",
            (meeting.namespace,),
        )

    def _set_broken(self, meeting: Meeting) -> None:
        self._set_idle(meeting)
        self._ask(meeting, "notify")
        meeting.worker.complete(*meeting.worker.claim(), outcome=4, error='{"detail": "no"}')

    def _set_mending(self, meeting: Meeting) -> None:
        self._set_broken(meeting)
        self._ask(meeting, "repair")
        [meeting.held] = meeting.worker.claim()
        meeting.waiting = self._ask(meeting, "repair")

    def _set_finished(self, meeting: Meeting) -> None:
        """A process whose retention is over, and a call that was committed just after its end."""
        self._set_ready(meeting)
        tasks = meeting.worker.claim()
        self.second.execute("begin")
        OPERATIONS["call"](meeting, self.second)
        meeting.waiting = meeting.asked[-1]
        meeting.worker.complete(*tasks, then=1)
        self.second.execute("commit")
        self.app.execute(
            "update pgprog_data.namespaces set retention = '0 s' where namespace = %s",
            (meeting.namespace,),
        )
