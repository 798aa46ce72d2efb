"""The engine's meaning in memory: a twin of the SQL functions, with a time of its own.

It is to be read as the specification of what a sequence of operations does, one concern a module:
`world` what there is, `requests` and idempotency keys, `order` whose turn it is, `claims` and
workers, `completions`, `repairs`, `imports`, `ends`, `reads`, `explaining`, `upkeep`.  What the
database does about two at once is not in it: each operation stands for one that was committed.
`tests/property` holds it against the SQL functions, operation by operation.

Operations have the names, the arguments and the refusals of the SQL functions; values are those of
`pgprog.store.rows` and `pgprog.model`, payloads raw JSON as bytes.  Ids, claims and versions grow
as the database's do, by other steps.

To drive it::

    twin = Twin(now=datetime(2030, 1, 1, tzinfo=UTC))
    twin.create_namespace("orders", NamespaceSettings())
    worker = twin.register_worker("w", ["orders"])
    task_id = twin.init("orders", "o-1", b'{"due": 10}')
    for claimed in twin.claim(worker, max_tasks=10).tasks:
        completion = after_success(claimed, …)                 # pgprog.engine.decide
        [completed] = twin.complete(worker, [completion])      # completed.next_ is claimed already
    twin.result(task_id)
    twin.advance_to(twin.next_due())                           # and claim again

Nothing happens by itself: `advance` moves the time, `next_due` says until when nothing comes due.
Leases last for ever unless `register_worker` is given one; `collect_zombies` kills a worker.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pgprog.model import TaskType
from pgprog.store.rows import Ended, RawRequest
from pgprog.testing.twin import (
    claims,
    completions,
    ends,
    explaining,
    imports,
    reads,
    repairs,
    requests,
    upkeep,
)
from pgprog.testing.twin.order import Way
from pgprog.testing.twin.world import Place, Space, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgprog.config import NamespaceSettings
    from pgprog.model import Direction, Explanation, TaskRecord, TaskResult
    from pgprog.store.rows import Claimed, Claims, Completed, Completion, Submitted

__all__ = ["Place", "Twin", "Way", "World"]

_FOR_EVER = timedelta(days=365_000)
_TASK_RETENTION = timedelta(days=30)
_KEY_TTL = timedelta(days=7)


class Twin:
    """All namespaces of one database, at one moment; *world* may be looked at, not changed."""

    def __init__(self, now: datetime | None = None) -> None:
        self.world = World(now=now or datetime.now(UTC))

    # Time

    @property
    def now(self) -> datetime:
        """The time; it stands still between two advances."""
        return self.world.now

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.advance_to(self.world.now + by)

    def advance_to(self, instant: datetime) -> None:
        """Let time pass until *instant*; a time in the past changes nothing."""
        self.world.now = max(self.world.now, instant)

    def next_due(self) -> datetime | None:
        """Return when a claim has something to do: now, later, or never (None).

        Namespaces that are paused count for nothing, and limits do not count.
        """
        return claims.next_due(self.world)

    # Requests

    def create_namespace(self, namespace: str, settings: NamespaceSettings) -> None:
        """Create a namespace unless it exists."""
        self.world.spaces.setdefault(namespace, Space(name=namespace, settings=settings))

    def init(self, namespace: str, process_id: str, *args: Any, **more: Any) -> int:  # noqa: ANN401 - those of RawRequest
        """Create a process and queue its init task; return the task.

        Raises:
            ProcessExists: The id is taken.
            PgprogError: As `submit`.
        """
        return self.submit(RawRequest(TaskType.INIT, namespace, process_id, *args, **more))

    def call(self, namespace: str, process_id: str, *args: Any, **more: Any) -> int:  # noqa: ANN401 - those of RawRequest
        """Ask a process for an answer; return the task."""
        return self.submit(RawRequest(TaskType.CALL, namespace, process_id, *args, **more))

    def notify(self, namespace: str, process_id: str, *args: Any, **more: Any) -> int:  # noqa: ANN401 - those of RawRequest
        """Tell a process something, without an answer; return the task."""
        return self.submit(RawRequest(TaskType.NOTIFY, namespace, process_id, *args, **more))

    def repair(self, namespace: str, process_id: str, *args: Any, **more: Any) -> int:  # noqa: ANN401 - those of RawRequest
        """Have a process in error mended by its repair handler; return the task."""
        return self.submit(RawRequest(TaskType.REPAIR, namespace, process_id, *args, **more))

    def submit(self, request: RawRequest) -> int:
        """Put one request into the queue; with a known idempotency key return its task.

        Raises:
            NamespaceNotFound: There is no such namespace.
            InvalidArgument: A value is out of its range.
            IdempotencyConflict: The key belongs to another operation, process or args.
            QueueFull: By the last `measure_queues`; repairs are taken all the same.
            ProcessNotFound, ProcessInError, ProcessNotInError, ProcessFinished, ProcessExists:
                The process does not take such a task.
        """
        return requests.submit(self.world, request)

    def submit_many(self, many: Sequence[RawRequest]) -> list[Submitted]:
        """Queue requests, each with its own outcome, in order; the task of a refused one is 0."""
        return requests.start(self.world, many, 0, lambda _: False, _never)

    def start(self, worker_id: int, max_starts: int, many: Sequence[RawRequest]) -> list[Submitted]:
        """Do the same, and start at most *max_starts* whose process stands free.

        Raises:
            LeaseLost: Nothing was done.
        """
        worker = claims.live_worker(self.world, worker_id)

        def begin(task: Any) -> Claimed:  # noqa: ANN401 - a Task
            process = self.world.processes[task.namespace, task.process_id]
            return claims.start_task(self.world, worker_id, process, task)

        return requests.start(self.world, many, max_starts, worker.may_run, begin)

    # Other operations

    def simple_repair(
        self, namespace: str, process_id: str, idempotency_key: str | None = None
    ) -> int | None:
        """Try again what broke a process; return the new task, None after a failed call.

        Raises:
            ProcessNotInError: There is nothing to mend.
            TaskNotFound: What broke it is not known: it was put in error.
            PgprogError: As `submit`.
        """
        return repairs.simple_repair(self.world, namespace, process_id, idempotency_key)

    def put(self, process: Mapping[str, Any], idempotency_key: str | None = None) -> int:
        """Import a process as `get` gives it, with all its events; return its version.

        Times may be texts in ISO 8601.

        Raises:
            ProcessExists: The id is taken.
            InvalidArgument: Something is wrong with it; the message says what.
            PgprogError: As `submit`.
        """
        return imports.put(self.world, process, idempotency_key)

    def remove(self, namespace: str, process_id: str, version: int | None = None) -> bool:
        """Remove a process at once, if it still has that version; return whether it was there."""
        limits = self.world.space(namespace).settings.limits
        requests.check_names(process_id, None, limits)
        process = self.world.processes.get((namespace, process_id))
        if process is None or version not in (None, process.version):
            return False
        ends.remove_process(self.world, process, cause="removed")
        return True

    def cancel(self, task_id: int) -> bool:
        """End a task that has not started, as cancelled; return whether it was there for it.

        Of an init the process is absent again; of a timer it is as UnsetTimer.

        Raises:
            TaskNotFound: There is no such task.
        """
        return ends.cancel(self.world, task_id)

    def pause(self, namespace: str, reason: str | None = None) -> bool:
        """Let no task start in a namespace; return whether it ran before."""
        return upkeep.pause(self.world, namespace, reason)

    def resume(self, namespace: str) -> bool:
        """Let tasks start again; return whether the namespace was paused."""
        return upkeep.resume(self.world, namespace)

    # Reads

    def get(
        self,
        namespace: str,
        process_id: str,
        max_events: int = 0,
        after: int | None = None,
        direction: Direction = "forward",
    ) -> dict[str, Any] | None:
        """Return a process as a dict of plain values, None when there is none.

        The keys are those of pgprog.get; times are datetimes, payloads are decoded.
        """
        return reads.get(self.world, namespace, process_id, max_events, after, direction)

    def history(
        self,
        namespace: str,
        process_id: str,
        after: int | None = None,
        max_events: int = 100,
        direction: Direction = "forward",
    ) -> list[tuple[int, datetime, int, bytes, bytes | None, int]]:
        """Return (event_id, at, task_id, payload, metadata, state_version), in either direction."""
        return reads.history(self.world, namespace, process_id, after, max_events, direction)

    def trace(self, namespace: str, process_id: str) -> list[TaskRecord]:
        """Return the tasks of a process by their ids, repeated attempts as rows of their own."""
        return reads.trace(self.world, namespace, process_id)

    def result(self, task_id: int) -> TaskResult:
        """Return where a task is and, once it has ended, its answer.

        Raises:
            TaskNotFound: There is no such task, or it ended longer ago than task_retention.
        """
        return reads.result(self.world, task_id)

    def results(self, task_ids: Iterable[int]) -> list[Ended]:
        """Return the answers of those of these tasks that have ended."""
        tasks = (self.world.tasks.get(task_id) for task_id in task_ids)
        return [
            Ended(t.task_id, t.end.status, t.end.response, t.end.error, t.end.version)
            for t in tasks
            if t is not None and t.end is not None
        ]

    def explain(self, namespace: str, process_id: str) -> Explanation:
        """Name the one reason why a process is not moving; runnable: a claim would take a task."""
        return explaining.explain(self.world, namespace, process_id)

    # Workers

    def register_worker(
        self,
        name: str,
        namespaces: Sequence[str],
        lease: timedelta = _FOR_EVER,
        state_versions: Mapping[str, int] | None = None,
    ) -> int:
        """Begin an incarnation of a worker that serves these namespaces; return its id.

        *state_versions* are the newest that it reads, 1 where nothing is said; None reads all.
        """
        return claims.register_worker(self.world, name, namespaces, lease, state_versions)

    def renew_worker(
        self, worker_id: int, lease: timedelta = _FOR_EVER, begun: Iterable[int] = ()
    ) -> list[tuple[int, int]]:
        """Renew a lease, mark steps as begun, return the (task_id, claim_id) that it holds.

        Raises:
            LeaseLost: The worker was collected.
        """
        return claims.renew_worker(self.world, worker_id, lease, begun)

    def deregister_worker(self, worker_id: int) -> int:
        """End a worker cleanly, no attempt burned; return how many tasks it handed back."""
        return claims.deregister_worker(self.world, worker_id)

    def collect_zombies(self, worker_id: int | None, renewals: int | None = None) -> int:
        """End a worker that has this renewal count, as killed; return how many tasks were freed."""
        return claims.collect_zombies(self.world, worker_id, renewals)

    def hand_back(self, given: Iterable[tuple[int, int]]) -> int:
        """Give claims, as (task_id, claim_id), back with no attempt burned; return how many."""
        return claims.hand_back(self.world, given)

    def claim(self, worker_id: int, max_tasks: int) -> Claims:
        """Claim up to *max_tasks* due tasks, one of each process; end what can never run.

        Raises:
            LeaseLost: Nothing was claimed.
        """
        return claims.claim(self.world, worker_id, max_tasks)

    def take(self, worker_id: int, task_id: int) -> Claimed | None:
        """Do what a claim does with one task; None when it ends there and is not started.

        Raises:
            InvalidArgument: It is not its turn.
            LeaseLost: Nothing was done.
        """
        return claims.take_one(self.world, worker_id, self.world.tasks[task_id])

    def complete(
        self,
        worker_id: int,
        batch: Sequence[Completion],
        chains: Sequence[bool] | None = None,
    ) -> list[Completed]:
        """End steps, with all that their completions ask for.

        *chains* says where the next task of the same process is wanted, by default everywhere.
        The outcomes are 'done'; 'already', for a repeat of what was done; 'lost', for a claim
        that was taken away: then nothing of the step is done.
        """
        wanted = [True] * len(batch) if chains is None else chains
        return completions.complete(self.world, worker_id, batch, wanted)

    # Upkeep

    def measure_queues(self) -> None:
        """Count what waits, by which requests are refused; drop the lowest where that is set."""
        upkeep.measure_queues(self.world)

    def maintain(
        self, task_retention: timedelta = _TASK_RETENTION, key_ttl: timedelta = _KEY_TTL
    ) -> None:
        """Forget expired keys and ended tasks; remove processes that finished long ago."""
        upkeep.maintain(self.world, task_retention=task_retention, key_ttl=key_ttl)


def _never(task: object) -> Claimed:
    msg = f"nothing is started without a worker: {task}"
    raise AssertionError(msg)
