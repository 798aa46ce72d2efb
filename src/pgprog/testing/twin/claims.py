"""Who runs what: workers and their leases, claims, and tasks that are let go."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from pgprog.errors import InvalidArgument, LeaseLost
from pgprog.store.rows import Claimed, Claims
from pgprog.testing.twin.ends import break_crashed, cancel_tasks, fire_removal
from pgprog.testing.twin.order import Turn, Way, join_the_waiting, patience_ends, turns
from pgprog.testing.twin.world import Attempt, Place, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from pgprog.testing.twin.world import Process, Task, World

_LONGEST_WAIT = timedelta(days=1)


def live_worker(world: World, worker_id: int | None) -> Worker:
    """Return a worker that may start tasks.

    Raises:
        LeaseLost: Its lease is over, or it is not known.
    """
    worker = None if worker_id is None else world.workers.get(worker_id)
    if worker is None or worker.lease_until <= world.now:
        raise _lease_lost(worker_id)
    return worker


def claim(world: World, worker_id: int, max_tasks: int) -> Claims:
    """Claim what is due, by rank within a namespace, the namespaces taking turns."""
    worker = live_worker(world, worker_id)
    join_all(world, worker)
    claimed: list[Claimed] = []
    while len(claimed) < max_tasks and (possible := runnable(world, worker)):
        claimed += take(world, worker, possible[0])
    now = [world.now] if runnable(world, worker) else []
    open_spaces = [name for name in worker.namespaces if may_start(world, name)]
    later = (t for name in open_spaces for t in _moments(world, name, worker.may_run))
    wait = min([*now, *later], default=world.now + _LONGEST_WAIT) - world.now
    return Claims(claimed, min(wait, _LONGEST_WAIT).total_seconds())


def join_all(world: World, worker: Worker) -> None:
    """Let what has come due in the served namespaces wait for its turn."""
    for namespace in worker.namespaces:
        for process in world.in_space(namespace):
            join_the_waiting(process, now=world.now)


def runnable(world: World, worker: Worker) -> list[Turn]:
    """Return all that a claim may do now, in the order in which it would."""
    by_space = [
        sorted(
            _turns_in(world, namespace, worker.may_run),
            key=lambda turn: (turn.task.rank, turn.task.task_id),
        )
        for namespace in worker.namespaces
        if may_start(world, namespace)
    ]
    in_turn = chain.from_iterable(zip_longest(*by_space))
    return [turn for turn in in_turn if turn is not None]


def take(world: World, worker: Worker, turn: Turn) -> list[Claimed]:
    """Do what a claim does with a task whose turn it is; return it if it was started."""
    process = world.processes[turn.task.namespace, turn.task.process_id]
    match turn.way:
        case Way.START:
            return [start_task(world, worker.worker_id, process, turn.task)]
        case Way.BREAK:
            break_crashed(world, process, turn.task)
        case Way.REMOVE:
            fire_removal(world, process, turn.task)
        case Way.REFUSE:
            cancel_tasks(world, process, [turn.task], cause="process not in error")
    return []


def take_one(world: World, worker_id: int, task: Task) -> Claimed | None:
    """Do what a claim does with one task; see `Twin.take`."""
    worker = live_worker(world, worker_id)
    join_all(world, worker)
    mine = [turn for turn in runnable(world, worker) if turn.task is task]
    if not mine:
        msg = f"it is not the turn of task {task.task_id}"
        raise InvalidArgument(msg)
    return next(iter(take(world, worker, mine[0])), None)


def start_task(world: World, worker_id: int, process: Process, task: Task) -> Claimed:
    """Make a task running under a claim of its own."""
    process.take_out(task)
    process.running = task
    task.place = Place.RUNNING
    task.worker_id = worker_id
    task.claim_id = world.new_number()
    task.attempt += 1
    task.started_at = world.now
    task.begun = False
    return Claimed(
        task_id=task.task_id,
        claim_id=task.claim_id,
        incarnation=process.incarnation,
        namespace=process.namespace,
        process_id=process.process_id,
        type=task.type,
        name=task.name,
        attempt=task.attempt,
        created_at=task.created_at,
        due_at=task.due_at,
        args=task.args,
        context=task.context,
        status=process.status,
        state_version=process.state_version,
        state=process.state,
        metadata=process.metadata,
        last_event_id=len(process.events),
        version=process.version,
        alone=task.was_lost,
    )


def register_worker(
    world: World,
    name: str,
    namespaces: Sequence[str],
    lease: timedelta,
    reads: Mapping[str, int] | None,
) -> int:
    """Begin an incarnation of a worker; return its id."""
    worker_id = world.new_number()
    world.workers[worker_id] = Worker(
        worker_id=worker_id,
        name=name,
        namespaces=tuple(namespaces),
        lease_until=world.now + lease,
        reads=reads,
    )
    return worker_id


def renew_worker(
    world: World, worker_id: int, lease: timedelta, begun: Iterable[int]
) -> list[tuple[int, int]]:
    """Renew a lease; return the (task_id, claim_id) that it holds, by the task."""
    if worker_id not in world.workers:
        raise _lease_lost(worker_id)
    worker = world.workers[worker_id]
    worker.renewals += 1
    worker.lease_until = world.now + lease
    marked = set(begun)
    held = running(world, lambda task: task.worker_id == worker_id)
    for _, task in held:
        task.begun = task.begun or task.task_id in marked
    return sorted((task.task_id, task.claim_id or 0) for _, task in held)


def collect_zombies(world: World, worker_id: int | None, renewals: int | None) -> int:
    """End a worker with this renewal count; let go what no worker holds; return how many tasks."""
    if worker_id is not None:
        worker = world.workers.get(worker_id)
        if worker is None or worker.renewals != renewals:
            return 0
        del world.workers[worker_id]
    orphans = running(world, lambda task: task.worker_id not in world.workers)
    return _let_go_crashed(world, orphans)


def deregister_worker(world: World, worker_id: int) -> int:
    """End a worker that stops cleanly; return how many tasks it hands back."""
    world.workers.pop(worker_id, None)
    return _let_go(running(world, lambda task: task.worker_id == worker_id))


def hand_back(world: World, claims: Iterable[tuple[int, int]]) -> int:
    """Give claims back that were not run, with no attempt burned; return how many."""
    given = set(claims)
    return _let_go(running(world, lambda task: (task.task_id, task.claim_id or 0) in given))


def running(world: World, is_meant: Callable[[Task], bool]) -> list[tuple[Process, Task]]:
    """Return running tasks with their processes."""
    return [
        (process, process.running)
        for process in world.processes.values()
        if process.running is not None and is_meant(process.running)
    ]


def next_due(world: World) -> datetime | None:
    """Return when something is due in a namespace that is not paused: now, later, or never."""
    open_spaces = [name for name, space in world.spaces.items() if space.paused_at is None]
    if any(_turns_in(world, namespace) for namespace in open_spaces):
        return world.now
    return min((t for n in open_spaces for t in _moments(world, n)), default=None)


def _let_go_crashed(world: World, held: Sequence[tuple[Process, Task]]) -> int:
    """Take tasks from a lost worker: it counts as a crash for those that had begun."""
    for process, task in held:
        task.crashes += task.begun
        task.attempts.append(
            Attempt(
                claim_id=task.claim_id or 0,
                attempt=task.attempt,
                worker_id=task.worker_id,
                outcome="lost",
                started_at=task.started_at,
                ended_at=world.now,
            )
        )
        _give_place(process, task)
    return len(held)


def _let_go(held: Sequence[tuple[Process, Task]]) -> int:
    for process, task in held:
        task.attempt -= 1
        _give_place(process, task)
    return len(held)


def _give_place(process: Process, task: Task) -> None:
    """Let a task wait again in its old place, a timer at its old time."""
    process.running = None
    task.place = Place.WAITING
    task.worker_id = task.claim_id = task.started_at = None
    task.begun = False
    process.put_back(task)


def _turns_in(
    world: World, namespace: str, may_run: Callable[[Process], bool] = lambda _: True
) -> list[Turn]:
    settings = world.spaces[namespace].settings
    processes = filter(may_run, world.in_space(namespace))
    return [turn for p in processes for turn in turns(p, settings, now=world.now)[:1]]


def may_start(world: World, namespace: str) -> bool:
    """Return whether a task may start in a namespace: no pause, no limit stands against it."""
    space = world.spaces[namespace]
    limit = space.settings.concurrency
    has_room = limit is None or world.running_in(namespace) < limit
    return space.paused_at is None and has_room


def _moments(
    world: World, namespace: str, may_run: Callable[[Process], bool] = lambda _: True
) -> Iterator[datetime]:
    """Yield when what waits for a time comes due, or the patience of a timer ends."""
    settings = world.spaces[namespace].settings
    for process in filter(may_run, world.in_space(namespace)):
        planned = (t.due_at for t in process.open_tasks() if _waits_for_a_time(t))
        end = patience_ends(process, settings, now=world.now)
        yield from (t for t in (*planned, end) if t is not None and t > world.now)


def _waits_for_a_time(task: Task) -> bool:
    is_timer = task.is_timer and task.place is Place.WAITING
    return is_timer or task.place in (Place.LATER, Place.HELD)


def _lease_lost(worker_id: int | None) -> LeaseLost:
    return LeaseLost(f"the lease of worker {worker_id} is lost")
