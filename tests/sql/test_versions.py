"""A rolling deploy: workers that read version 1 of a state beside those that write version 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CALL = "select pgprog.call('orders', %s)"
HOUR = 3_600_000_000
DAY = 24 * HOUR

# Processes of version 2, a call of each at the head of the order, and one old process behind them.
QUEUE_OF_NEWER = """
with newer as (
  insert into pgprog_data.processes (
    namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at,
    state_version)
  select 'orders', 'n' || n, 1000000 + n, 'running', now(), 1, now(), now(), 2
  from generate_series(1, %s) as n
  returning process_id, incarnation)
insert into pgprog_data.queue (
  task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
select incarnation + 1000000, 'orders', process_id, incarnation, 'call', 'w', now(),
  now() - interval '1 hour', now()
from newer
"""


@pytest.fixture
def newer(make_worker: Any) -> Any:
    """A worker that reads and writes version 2."""
    return make_worker(version=2)


@pytest.fixture
def upgrade(app: Any, newer: Any) -> Callable[..., None]:
    """Let the newer worker write the states of processes, with a timer each if asked for."""

    def run(*process_ids: str, **more: Any) -> None:
        for process_id in process_ids:
            app.execute(CALL, (process_id,))
            newer.complete(*newer.claim(), state="{}", state_version=2, **more)

    return run


def ids(tasks: list[Any]) -> list[str]:
    return sorted(task.process_id for task in tasks)


def last_row(worker: Any, limit: int = 10) -> tuple[int, int]:
    """Claim, and return how many tasks came and in how many microseconds to ask again."""
    *tasks, (wait_us,) = worker.connection.execute(
        "select wait_us from pgprog_engine.claim(%s, %s)", (worker.worker_id, limit)
    ).fetchall()
    return len(tasks), wait_us


def set_aside(app: Any) -> int:
    [count] = app.execute(
        "select count(*) from pgprog_data.queue where needs_version is not null"
    ).fetchone()
    return int(count)


def test_an_old_worker_goes_on_with_old_processes_and_leaves_newer_ones_to_new_workers(
    app: Any, worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(4)
    upgrade("q1", "q3")
    for number in range(4):
        app.execute(CALL, (f"q{number}",))

    assert ids(worker.claim()) == ["q0", "q2"]
    assert set_aside(app) == 2
    assert ids(newer.claim()) == ["q1", "q3"]


def test_a_new_worker_takes_old_processes_too(
    app: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(2)
    upgrade("q1")
    for name in ("q0", "q1"):
        app.execute(CALL, (name,))

    assert ids(newer.claim()) == ["q0", "q1"]


def test_an_old_worker_leaves_timers_of_newer_processes_and_does_not_ask_for_ever(
    worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0", timers={"t": 0})

    assert last_row(worker) == (0, DAY)
    assert last_row(worker) == (0, DAY)
    assert [task.type for task in newer.claim()] == ["timeout"]


def test_an_old_worker_does_not_start_requests_to_newer_processes_itself(
    worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(2)
    upgrade("q1")

    started = worker.start(("call", "q0", None), ("call", "q1", None))
    assert [row.outcome for row in started] == ["started", "queued"]
    assert ids(newer.claim()) == ["q1"]


def test_a_new_worker_starts_requests_to_newer_processes_itself(
    newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")

    assert [row.outcome for row in newer.start(("call", "q0", None))] == ["started"]


def test_an_old_worker_finds_its_own_work_behind_thousands_that_it_leaves(
    app: Any, worker: Any, make_processes: Any
) -> None:
    make_processes(1)
    app.execute(QUEUE_OF_NEWER, (7000,))
    app.execute(CALL, ("q0",))

    # With room for one: a thousand a window, three windows a claim.
    assert [last_row(worker, 1) for _ in range(2)] == [(0, 0), (0, 0)]
    assert set_aside(app) == 6000
    assert ids(worker.claim(1)) == ["q0"]


def test_an_old_worker_that_has_left_all_sleeps(app: Any, worker: Any) -> None:
    app.execute(QUEUE_OF_NEWER, (50,))

    assert last_row(worker, 100) == (0, DAY)
    assert last_row(worker, 10) == (0, DAY)


def test_what_was_left_keeps_its_place_in_the_order_of_new_workers(
    app: Any, worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(4)
    upgrade("q1", "q3")
    for number in (1, 0, 3, 2):
        app.execute(CALL, (f"q{number}",))
    worker.complete(*worker.claim(), outcome=3, retry_after=0)
    assert set_aside(app) == 2

    assert [newer.claim(1)[0].process_id for _ in range(4)] == ["q1", "q0", "q3", "q2"]


def test_a_worker_between_two_versions_takes_what_it_reads_of_what_was_left(
    app: Any, worker: Any, newer: Any, make_worker: Any, make_processes: Any, upgrade: Any
) -> None:
    newest = make_worker(version=3)
    make_processes(2)
    upgrade("q0")
    app.execute(CALL, ("q1",))
    newest.complete(*newest.claim(), state="{}", state_version=3)
    for name in ("q0", "q1"):
        app.execute(CALL, (name,))
    assert worker.claim() == []

    assert ids(newer.claim()) == ["q0"]
    assert last_row(newer) == (0, DAY)
    assert ids(newest.claim()) == ["q1"]


def test_a_task_left_by_one_worker_is_left_by_the_next_when_its_process_grew_newer_still(
    app: Any, worker: Any, newer: Any, make_worker: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")
    app.execute(CALL, ("q0",))
    assert worker.claim() == []
    app.execute("update pgprog_data.processes set state_version = 3")

    assert newer.claim() == []
    assert ids(make_worker(version=3).claim()) == ["q0"]


def test_what_was_left_and_is_tried_again_is_claimed_as_soon_as_it_is_due(
    app: Any, worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")
    app.execute(CALL, ("q0",))
    assert worker.claim() == []
    newer.complete(*newer.claim(), outcome=3, retry_after=0)

    assert ids(newer.claim()) == ["q0"]


def test_calls_of_a_newer_process_that_were_left_run_in_their_order(
    app: Any, worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")
    calls = [app.execute(CALL, ("q0",)).fetchone()[0] for _ in range(3)]
    assert worker.claim() == []

    done = []
    while tasks := newer.claim():
        rows = newer.complete(*tasks, chain=True)
        done += [tasks[0].task_id, *(row.task_id for row in rows if row.outcome == "next")]
        nexts = [row for row in rows if row.outcome == "next"]
        for row in nexts:
            held = tasks[0]._replace(task_id=row.task_id, claim_id=row.claim_id)
            newer.complete(held)
    assert done == calls


def test_an_old_worker_begins_new_processes_during_a_deploy(
    app: Any, worker: Any, newer: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")
    app.execute("select pgprog.init('orders', 'fresh')")

    assert ids(worker.claim()) == ["fresh"]


def test_a_stranger_s_lock_holds_up_no_worker_that_sets_tasks_aside(
    app: Any, session: Any, worker: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(2)
    upgrade("q1")
    stranger = session()
    [task_id] = app.execute(CALL, ("q1",)).fetchone()
    app.execute(CALL, ("q0",))
    with stranger.transaction():
        stranger.execute("select from pgprog_data.queue where task_id = %s for update", (task_id,))
        assert ids(worker.claim()) == ["q0"]
        assert set_aside(app) == 0


def test_a_process_without_a_state_has_the_version_of_its_last_step(
    app: Any, worker: Any, newer: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    newer.complete(*newer.claim(), state_version=2)
    app.execute(CALL, (process,))

    assert worker.claim() == []
    assert ids(newer.claim()) == [process]


def test_a_step_that_leaves_the_state_leaves_its_version(
    app: Any, worker: Any, newer: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), state="{}")
    app.execute(CALL, (process,))
    newer.complete(*newer.claim(), state_version=2)
    app.execute(CALL, (process,))

    assert ids(worker.claim()) == [process]


def test_a_worker_that_says_nothing_reads_version_1(
    app: Any, session: Any, worker: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")
    app.execute(CALL, ("q0",))
    connection = session()
    [silent] = connection.execute(
        "select pgprog_engine.register_worker('w', '{orders}', array['{}'::jsonb], '1 hour')"
    ).fetchone()

    rows = connection.execute("select * from pgprog_engine.claim(%s, 10)", (silent,)).fetchall()
    assert len(rows) == 1


def test_two_old_workers_do_not_wait_for_what_the_other_sets_aside(
    app: Any, worker: Any, newer: Any, make_worker: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(3)
    upgrade("q0", "q1")
    app.execute(CALL, ("q1",))
    newer.claim()
    for name in ("q0", "q1", "q2"):
        app.execute(CALL, (name,))
    second = make_worker()
    with worker.connection.transaction():
        assert ids(worker.claim(1)) == ["q2"]
        assert second.claim() == []
    assert set_aside(app) == 2


def test_what_an_old_worker_has_left_locks_no_process_again(
    app: Any, session: Any, worker: Any, make_processes: Any, upgrade: Any
) -> None:
    make_processes(1)
    upgrade("q0")
    app.execute(CALL, ("q0",))
    assert worker.claim() == []
    with worker.connection.transaction():
        assert worker.claim() == []
        session().execute(
            "select from pgprog_data.processes where process_id = 'q0' for update nowait"
        )


def test_a_new_worker_finds_every_version_that_was_left(
    app: Any, worker: Any, make_worker: Any, make_processes: Any
) -> None:
    make_processes(3)
    for number in range(3):
        app.execute(
            "update pgprog_data.processes set state_version = %s where process_id = %s",
            (number + 2, f"q{number}"),
        )
        app.execute(CALL, (f"q{number}",))
    assert worker.claim() == []

    assert ids(make_worker(version=4).claim(1)) == ["q0"]
    assert ids(make_worker(version=4).claim()) == ["q1", "q2"]
