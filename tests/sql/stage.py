"""Sets the scenes in which operations meet, and says what must hold afterwards."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.sql.meetings import OPERATIONS, Meeting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sql.meetings import Connection

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
