"""Work that does not move is found, with why, and moves once its command was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from pgprog import Engine, Intent, Namespace, PermanentError, Step
from pgprog.cli import main
from pgprog.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # starts workers: 1 s each


@pytest.fixture
def order(patient: Any) -> str:
    """An order that waits to be begun."""
    patient.sql.execute("select pgprog.init('orders', 'o-1')")
    return "o-1"


def claim(patient: Any, worker: int) -> None:
    patient.sql.execute("select pgprog_engine.claim(%s, 1)", (worker,))


def test_a_namespace_that_no_live_worker_serves_is_named(patient: Any, order: str) -> None:
    patient.register(lease="-1 hour")  # a dead one serves nobody

    found = patient.is_mended("workers", "no live worker serves the namespace")

    assert found["subject"] == "namespace orders"
    assert found["mend"] == "pgprog worker"


def test_a_version_that_no_live_worker_reads_is_named(patient: Any, order: str) -> None:
    claim(patient, patient.register())
    patient.sql.execute(
        "update pgprog_data.queue set needs_version = 2, status = 'w', worker_id = null,"
        " claim_id = null"
    )

    patient.is_mended("workers", "no live worker reads states of version 2")


def test_a_namespace_that_is_paused_for_long_is_named_and_resumed(patient: Any) -> None:
    patient.sql.execute("select pgprog.pause('orders', 'the bank is down')")

    found = patient.is_mended("paused", "the bank is down")

    assert found["mend"] == "pgprog namespace resume orders"


def test_a_name_that_begins_with_a_dash_is_mended_by_its_command(patient: Any) -> None:
    patient.sql.execute("select pgprog_engine._create_namespace('--all', '{}')")
    patient.sql.execute("select pgprog.pause('--all')")

    found = patient.is_mended("paused", "no reason given")

    assert found["mend"] == "pgprog namespace resume -- --all"


def test_a_process_that_begins_with_a_dash_is_removed_by_its_command(patient: Any) -> None:
    patient.sql.execute("select pgprog.init('orders', '-1')")
    patient.sql.execute("delete from pgprog_data.queue")

    patient.is_mended("beginnings", "no task that could begin it")


def test_settings_that_were_taken_back_are_named_with_the_figures(patient: Any) -> None:
    for settings in ('{"rollback_above": 0.2}', '{"rollback_above": 0.2, "max_crashes": 1}'):
        patient.sql.execute("select pgprog.set_settings('orders', %s)", (settings,))
    patient.sql.execute(
        "insert into pgprog_data.attempts ("
        "  namespace, task_id, claim_id, attempt, outcome, started_at, ended_at)"
        " select 'orders', n, n, 1, 'retry', clock_timestamp(), clock_timestamp()"
        " from generate_series(1, 20) as n"
    )
    patient.sql.execute("select from pgprog_engine.judge_settings()")

    found = patient.finding("taken_back", "taken back at .*: 20 of 20 tasks failed under version")

    assert found["mend"] == "pgprog namespace history orders"


def test_a_queue_at_its_limit_is_named_and_the_limit_raised(patient: Any, order: str) -> None:
    patient.sql.execute("""select pgprog.set_settings('orders', '{"max_queue": 1}', 1)""")
    patient.sql.execute("select pgprog_engine.measure_queues()")

    found = patient.is_mended("full_queues", "1 tasks wait and max_queue is 1: .* refused")

    assert found["mend"] == "pgprog namespace set orders max_queue=2"


def test_a_queue_that_was_full_when_somebody_measured_it_last_refuses_nobody(
    patient: Any, order: str
) -> None:
    patient.register()
    patient.sql.execute("""select pgprog.set_settings('orders', '{"max_queue": 1}', 1)""")
    patient.sql.execute("select pgprog_engine.measure_queues()")
    patient.sql.execute("update pgprog_data.measurements set measured_at = now() - interval '1 h'")

    assert patient.examine("--only", "full_queues")["findings"] == []


def test_work_that_live_workers_leave_lying_is_named(patient: Any, order: str) -> None:
    patient.register()

    found = patient.is_mended("late_tasks", "1 live workers run 0 tasks")

    assert found["evidence"]["process_id"] == order


def test_work_behind_the_limit_of_its_namespace_is_named(patient: Any, order: str) -> None:
    patient.sql.execute("""select pgprog.set_settings('orders', '{"concurrency": 1}', 1)""")
    patient.sql.execute("select pgprog.init('orders', 'o-2')")
    claim(patient, worker := patient.register())

    found = patient.finding("late_tasks", "1 of at most 1 tasks run")

    assert found["severity"] == "warning"
    with patient.doing(found["mend"]):
        claim(patient, worker)
        assert patient.examine("--only", "late_tasks")["findings"] == []


def test_tasks_of_a_dead_worker_are_named_while_nobody_collects(patient: Any, order: str) -> None:
    worker = patient.register()
    claim(patient, worker)
    patient.sql.execute("update pgprog_data.workers set lease_until = now() - interval '1 h'")

    found = patient.is_mended("zombies", "1 tasks of orders .* no collector")

    assert found["evidence"]["worker_id"] == worker


def test_a_task_that_is_blocked_by_nothing_is_let_go(patient: Any, order: str) -> None:
    patient.sql.execute("update pgprog_data.queue set status = 'b'")

    patient.is_mended("queue", "it is blocked behind no task of process o-1")


def test_a_call_that_waits_behind_an_init_for_later_is_no_finding(patient: Any) -> None:
    worker = patient.register()
    patient.sql.execute("select pgprog.init('orders', 'o-1', run_at => now() + interval '1 h')")
    patient.sql.execute("select pgprog.call('orders', 'o-1')")
    claim(patient, worker)

    assert patient.sql.execute("select from pgprog.tasks where status = 'blocked'").rowcount == 1
    assert patient.examine("--only", "queue,beginnings")["findings"] == []


def test_a_task_without_its_process_is_cancelled(patient: Any, order: str) -> None:
    patient.sql.execute("delete from pgprog_data.processes")

    patient.is_mended("queue", "process o-1 in namespace orders is gone")


@pytest.fixture
def timer(patient: Any, order: str) -> int:
    """The task of a timer of the order, which is running."""
    patient.sql.execute("delete from pgprog_data.queue")
    patient.sql.execute("update pgprog_data.processes set status = 'running'")
    row = patient.sql.execute(
        "insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type,"
        " due_at, created_at) select incarnation, 'expiry', nextval('pgprog_data.task_ids'),"
        " namespace, process_id, 'timeout', now() + interval '1 d', now()"
        " from pgprog_data.processes returning task_id"
    ).fetchone()
    return int(row[0])


def test_a_timer_that_nothing_holds_back_is_let_go(patient: Any, timer: int) -> None:
    patient.sql.execute("update pgprog_data.timers set status = 'b'")

    found = patient.is_mended("timers", "it is held back, but no task")

    assert found["evidence"]["task_id"] == timer


def test_a_timer_without_its_process_is_cancelled(patient: Any, timer: int) -> None:
    patient.sql.execute("delete from pgprog_data.processes")

    patient.is_mended("timers", "its process is gone")


def test_a_process_that_nothing_begins_is_removed(patient: Any, order: str) -> None:
    patient.sql.execute("delete from pgprog_data.queue")

    found = patient.is_mended("beginnings", "no task that could begin it")

    assert found["mend"] == "pgprog process remove --yes orders o-1"


class Till:
    """Takes no notes while it is locked."""

    is_locked = True


@pytest.fixture
def broken_orders(patient: Any) -> Iterator[Till]:
    """Ten orders that a note broke, served by an engine."""
    orders: Namespace[Any] = Namespace("orders")
    till = Till()

    @orders.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state={})

    @orders.notify
    async def note(step: Step[Any]) -> None:
        if till.is_locked:
            raise PermanentError("the till is locked")

    with Engine(patient.dsn, [orders]) as engine:
        for number in range(10):
            engine.init("orders", f"o-{number}")
            task = engine.submit("notify", "orders", f"o-{number}", name="note")
            with pytest.raises(StepFailed):
                task.wait(timeout=10)
        yield till


def test_a_namespace_whose_tasks_fail_is_named_with_the_error_and_repaired(
    patient: Any, broken_orders: Till
) -> None:
    broken_orders.is_locked = False  # the fault itself is mended by people

    found = patient.is_mended("failures", "10 of its latest 20 tasks failed, most by Perm.*locked")

    assert "--error-type PermanentError" in found["mend"]


def test_a_namespace_whose_few_tasks_fail_is_named_beside_one_that_ends_many(
    patient: Any, broken_orders: Till
) -> None:
    patient.sql.execute(
        "update pgprog_data.tasks"
        " set ended_at = greatest(ended_at - interval '2 min', date_trunc('week', ended_at, 'UTC'))"
    )
    patient.sql.execute(
        "insert into pgprog_data.tasks ("
        "  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at,"
        "  ended_at)"
        " select nextval('pgprog_data.task_ids'), 'busy', 'p', 1, 'call', 'finished', 1, now(),"
        "  now(), now() from generate_series(1, 2000)"
    )

    found = patient.finding("failures", "10 of its latest 20 tasks failed, most by Perm.*locked")

    assert found["subject"] == "namespace orders"


def test_many_findings_of_one_check_hide_no_other(patient: Any) -> None:
    patient.sql.execute(
        "select pgprog_engine._create_namespace(name, '{}'), pgprog.init(name, 'p')"
        " from (select 'n' || number from generate_series(1, 40) as number) as n(name)"
    )
    patient.sql.execute("select pgprog.pause('orders', 'stock-taking')")

    words = ["doctor", "--only", "workers,paused", "--long", "0s"]
    answer = CliRunner().invoke(main, words)

    assert answer.exit_code == 6
    assert answer.stdout.count("mend: pgprog worker") == 5
    assert "… and 35 more of workers; --json has them all" in answer.stdout
    assert "mend: pgprog namespace resume orders" in answer.stdout
    assert "2 checks: 40 critical, 1 warnings" in answer.stdout
    assert len(patient.examine("--only", "workers")["findings"]) == 40
