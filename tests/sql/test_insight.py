"""What operators see: the one reason why a process does not move, counts, and health."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

CALL = "select pgprog.call('orders', 'p1')"
NOTIFY = "select pgprog.notify('orders', 'p1')"
LATER = "select pgprog.call('orders', 'p1', run_at => now() + interval '1 hour')"
INIT_LATER = "select pgprog.init('orders', 'p2', run_at => now() + interval '1 hour')"
REPAIR = "select pgprog.repair('orders', 'p1')"
SIMPLE_REPAIR = "select pgprog.simple_repair('orders', 'p1')"
PAUSE = "select pgprog.pause('orders', 'stock-taking')"
RESUME = "select pgprog.resume('orders')"
BROKEN = '{"detail": "out of stock"}'
CRASH = "update pgprog_data.queue set crashes = 3 where status <> 'r'"
DUE = "update pgprog_data.queue set due_at = now() - interval '1 s' where status in ('f', 'h')"
DUE_TIMERS = "update pgprog_data.timers set due_at = now() - interval '1 s'"
HOUR = 3_600_000_000


def explain(connection: Any, process_id: str = "p1") -> Any:
    [row] = connection.execute(
        "select * from pgprog.explain('orders', %s)", (process_id,)
    ).fetchall()
    return row


def health(connection: Any) -> dict[str, Any]:
    [found] = connection.execute("select pgprog.health()").fetchone()
    return {each["name"]: each["reason"] for each in found["components"]} | {
        "status": found["status"]
    }


class Actor:
    """Does what a scenario says, word by word, to the process p1."""

    def __init__(self, app: Any, worker: Any) -> None:
        self.app = app
        self.worker = worker

    def sql(self, statement: str) -> None:
        self.app.execute(statement)

    def step(self, **more: Any) -> None:
        self.worker.complete(*self.worker.claim(), **more)

    def claim(self) -> None:
        self.worker.claim()


SCENARIOS: dict[str, tuple[str, list[Any]]] = {
    "nothing": ("nothing to do", []),
    "finished": ("nothing to do", [CALL, {"then": 1}]),
    "call": ("ready", [CALL]),
    "running": ("running", [CALL, "claim"]),
    "behind a running one": ("running", [CALL, "claim", CALL]),
    "retry": ("retry", [NOTIFY, {"outcome": 3, "retry_after": HOUR}]),
    "behind a retry": ("retry", [NOTIFY, {"outcome": 3, "retry_after": HOUR}, CALL]),
    "due retry": ("ready", [NOTIFY, {"outcome": 3, "retry_after": HOUR}, DUE]),
    "later": ("later", [LATER]),
    "due later": ("ready", [LATER, DUE]),
    "timer": ("timer", [CALL, {"timers": {"t": HOUR}}]),
    "due timer": ("ready", [CALL, {"timers": {"t": HOUR}}, DUE_TIMERS]),
    "timer in retry": (
        "retry",
        [CALL, {"timers": {"t": 0}}, {"outcome": 3, "retry_after": HOUR}],
    ),
    "error": ("error", [CALL, {"outcome": 4, "error": BROKEN}]),
    "repair": ("ready", [CALL, {"outcome": 4, "error": BROKEN}, REPAIR]),
    "repaired": ("nothing to do", [CALL, {"outcome": 4, "error": BROKEN}, SIMPLE_REPAIR]),
    "paused": ("paused", [CALL, PAUSE]),
    "resumed": ("ready", [CALL, PAUSE, RESUME]),
    "no worker": (
        "no worker",
        [CALL, "update pgprog_data.workers set namespaces = '{}'"],
    ),
    "newer than its workers": (
        "no worker",
        [CALL, "update pgprog_data.processes set state_version = 2"],
    ),
    "limit": (
        "limit",
        [
            "update pgprog_data.namespaces set concurrency = 1",
            "select pgprog.init('orders', 'p2')",
            "claim",
            CALL,
        ],
    ),
    "crashed": ("crashed", [CALL, CRASH]),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_explain_names_the_one_reason_and_is_runnable_exactly_when_a_claim_takes_a_task(
    app: Any, worker: Any, process: str, scenario: str
) -> None:
    reason, steps = SCENARIOS[scenario]
    actor = Actor(app, worker)
    for each in steps:
        if each == "claim":
            actor.claim()
        elif isinstance(each, dict):
            actor.step(**each)
        else:
            actor.sql(each)

    found = explain(app)
    assert found[0] == reason
    assert found[1]
    claimed = [task for task in worker.claim() if task.process_id == process]
    assert found[2]["runnable"] is bool(claimed)


def test_explain_says_that_a_call_waits_behind_an_init_for_later(app: Any, worker: Any) -> None:
    [init] = app.execute(INIT_LATER).fetchone()
    assert explain(app, "p2")[0] == "later"
    app.execute("select pgprog.call('orders', 'p2')")

    reason, sentence, details = explain(app, "p2")
    assert (reason, details["blocked_by"], details["runnable"]) == ("blocked", init, False)
    assert f"is blocked by init {init}" in sentence


def test_explain_names_the_init_for_later_and_not_a_call_that_is_due_before_it(
    app: Any, worker: Any
) -> None:
    [init] = app.execute(INIT_LATER).fetchone()
    app.execute("select pgprog.call('orders', 'p2', run_at => now() + interval '1 minute')")
    assert explain(app, "p2")[2]["task_id"] == init

    app.execute("select pgprog.call('orders', 'p2')")

    assert explain(app, "p2")[2]["blocked_by"] == init


def test_explain_does_not_wait_for_a_repair_that_the_next_claim_refuses(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(
        "insert into pgprog_data.queue (task_id, namespace, process_id, incarnation, type, status,"
        " due_at, rank, created_at)"
        " select 1000000, namespace, process_id, incarnation, 'repair', 'f',"
        " now() - interval '1 s', now(), now() from pgprog_data.processes"
    )

    assert explain(app)[0] == "nothing to do"


def test_explain_says_who_runs_the_task(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL)
    [task] = worker.claim()

    _, sentence, details = explain(app)
    assert f"call {task.task_id} runs on worker w since" in sentence
    assert (details["task_id"], details["worker"]) == (task.task_id, "w")


def test_explain_says_what_broke_a_process(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL)
    [task] = worker.claim()
    worker.complete(task, outcome=4, error=BROKEN)

    _, sentence, details = explain(app)
    assert sentence.endswith(f"by task {task.task_id}: out of stock")
    assert (details["task_id"], details["detail"]) == (task.task_id, "out of stock")


def test_explain_names_the_session_that_holds_a_process_and_a_claim_passes_it_by(
    app: Any, worker: Any, process: str, session: Any
) -> None:
    app.execute(CALL)
    holder = session()
    with holder.transaction(force_rollback=True):
        holder.execute("select pgprog.remove('orders', 'p1')")
        reason, sentence, details = explain(app)
        assert worker.claim() == []

    assert (reason, details["pid"]) == ("locked", holder.info.backend_pid)
    assert f"session {holder.info.backend_pid} holds the process" in sentence
    assert explain(app)[0] == "ready"


@pytest.mark.parametrize("statement", [PAUSE, RESUME])
def test_explain_names_the_session_that_pauses_or_resumes_and_has_not_committed(
    app: Any, worker: Any, process: str, session: Any, statement: LiteralString
) -> None:
    app.execute(CALL)
    operator = session()
    with operator.transaction(force_rollback=True):
        operator.execute(statement)
        reason, sentence, details = explain(app)
        assert explain(operator)[0] != "locked"
        assert worker.claim() == []

    assert (reason, details["pid"]) == ("locked", operator.info.backend_pid)
    assert details["runnable"] is False
    assert f"session {operator.info.backend_pid} pauses or resumes namespace orders" in sentence
    assert explain(app)[0] == "ready"


def test_explain_names_a_pause_that_waits_and_keeps_others_from_starting(
    app: Any, worker: Any, process: str, session: Any, wait_for_lock: Any, set_clock: Any
) -> None:
    app.execute(CALL)
    starter, operator = session(), session()
    with ThreadPoolExecutor(1) as threads:
        with starter.transaction(force_rollback=True):
            starter.execute("select pgprog_engine._open_namespaces(array['orders'])")
            pausing = threads.submit(operator.execute, PAUSE)
            wait_for_lock(operator)
            set_clock(datetime.now(UTC) + timedelta(minutes=1))
            reason, _, details = explain(app)
            assert worker.claim() == []
        pausing.result()

    assert (reason, details["pid"]) == ("locked", operator.info.backend_pid)


def test_explain_names_the_session_that_keeps_a_step_from_ending(
    app: Any, worker: Any, process: str, session: Any
) -> None:
    app.execute(CALL)
    worker.claim()
    assert "holds the process" not in explain(app)[1]
    holder = session()
    with holder.transaction(force_rollback=True):
        holder.execute("select pgprog.remove('orders', 'p1')")

        assert f"session {holder.info.backend_pid} holds the process" in explain(app)[1]


def test_explain_hints_at_an_open_transaction_that_wrote_to_the_queue(
    app: Any, process: str, session: Any
) -> None:
    asker = session()
    with asker.transaction():
        asker.execute("select pgprog.call('orders', 'p1')")
        reason, sentence, details = explain(app)

    assert (reason, details["pid"]) == ("nothing to do", asker.info.backend_pid)
    assert f"session {asker.info.backend_pid} wrote to the queue" in sentence
    assert explain(app)[0] == "ready"


def test_explain_counts_what_waits_behind_a_step(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL)
    worker.claim()
    assert "behind" not in explain(app)[2]
    app.execute(CALL)

    assert explain(app)[1].endswith("; 1 task waits behind it")


def test_explain_says_which_attempt_of_a_timer_comes_by_the_policy_of_timeouts(
    app: Any, worker: Any, process: str
) -> None:
    settings = {"retry": {"max_attempts": 4}, "retry_by_type": {"timeout": {"max_attempts": 7}}}
    app.execute("update pgprog_data.namespaces set settings = %s", (Jsonb(settings),))
    app.execute(CALL)
    worker.complete(*worker.claim(), timers={"t": 0})
    worker.complete(*worker.claim(), outcome=3, retry_after=HOUR)

    assert "timer 't' has its attempt 2 of 7 at " in explain(app)[1]


def test_explain_says_which_version_no_live_worker_reads(
    app: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL)
    app.execute("update pgprog_data.processes set state_version = 2")
    reason, sentence, details = explain(app)
    assert reason == "no worker"
    assert sentence.startswith("no live worker serves namespace orders at version 2")
    assert (details["state_version"], details["runnable"]) == (2, False)

    make_worker(version=2)
    assert explain(app)[0] == "ready"


def test_explain_needs_a_process(app: Any) -> None:
    with pytest.raises(psycopg.Error) as caught:
        explain(app)

    assert caught.value.sqlstate == "UP001"


def test_stats_count_what_a_namespace_holds(app: Any, worker: Any, make_processes: Any) -> None:
    make_processes(5)
    ask = "select pgprog.{}('orders', '{}')"
    for number in range(4):
        app.execute(ask.format("notify", f"q{number}"))
    one, two, three, _ = worker.claim()
    worker.complete(one, outcome=4, error=BROKEN)
    worker.complete(two, outcome=3, retry_after=HOUR)
    worker.complete(three, timers={"t": HOUR}, then=0)
    app.execute(ask.format("call", "q3"))
    worker.claim()
    app.execute(ask.format("call", "q4"))
    app.execute("select pgprog.call('orders', 'q4', run_at => now() + interval '1 hour')")
    app.execute("update pgprog_data.queue set due_at = now() - interval '1 min' where status = 'w'")

    [row] = app.execute(
        "select namespace, waiting, blocked, running, timers, errors, later, retrying, suspended,"
        " finished, workers, is_paused, oldest_due_age > interval '59 s' from pgprog.stats()"
    ).fetchall()
    assert row == ("orders", 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, False, True)


def test_health_is_passing_when_work_is_done(app: Any, worker: Any, process: str) -> None:
    app.execute(CALL)
    found = health(app)

    assert found == {
        "status": "passing", "database": None, "partitions": None, "workers": None, "queue": None,
        "zombies": None,
    }  # fmt: skip


def test_health_is_critical_when_nobody_serves_a_namespace_with_due_work(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL)
    app.execute("update pgprog_data.workers set lease_until = now() - interval '1 s'")
    found = health(app)
    assert (found["status"], found["workers"]) == (
        "critical",
        "no live worker serves namespace orders",
    )
    app.execute(PAUSE)

    assert health(app)["status"] == "passing"


def test_health_is_critical_when_nobody_reads_the_states_of_due_work(
    app: Any, worker: Any, make_worker: Any, process: str
) -> None:
    app.execute(CALL)
    app.execute("update pgprog_data.processes set state_version = 2")
    worker.claim()
    assert health(app)["workers"] == "no live worker serves namespace orders at version 2"

    make_worker(version=3)
    assert health(app)["status"] == "passing"


def test_health_is_critical_when_tasks_wait_too_long_or_run_without_a_worker(
    app: Any, worker: Any, make_processes: Any
) -> None:
    make_processes(2)
    app.execute("select pgprog.call('orders', 'q0')")
    worker.claim()
    app.execute("select pgprog.call('orders', 'q1')")
    app.execute("update pgprog_data.queue set due_at = now() - interval '6 min',"
                " started_at = now() - interval '6 min'")  # fmt: skip
    app.execute("update pgprog_data.workers set worker_id = worker_id + 1")
    found = health(app)

    assert found["status"] == "critical"
    assert found["queue"].startswith("namespace orders has work due since")
    assert found["zombies"] == "1 tasks run without a live worker"


def test_health_is_critical_without_partitions_ahead(app: Any, worker: Any, set_clock: Any) -> None:
    set_clock("2099-01-01 00:00Z")

    assert "tasks has no partition for" in health(app)["partitions"]


PAST_TIMER = """
select pgprog.put(jsonb_build_object(
  'namespace', 'orders', 'process_id', 'p9', 'status', 'running',
  'timers', jsonb_build_object('t', now() - interval '1 day')))
"""
PAST: dict[str, LiteralString] = {
    "call": "select pgprog.call('orders', 'p1', run_at => now() - interval '1 day')",
    "batch": """
select pgprog.submit_many(
  array['call', 'call'], array['orders', 'orders'], array['p1', 'p1'], array[null, null]::jsonb[],
  array[null, null]::text[], array[null, null]::text[], array[null, null]::jsonb[], array[0, 0],
  array[now() - interval '1 day', now() - interval '1 day'])
""",
    "timer": PAST_TIMER,
    "timer for a newer worker": PAST_TIMER.replace("'status',", "'state_version', 2, 'status',"),
}


@pytest.mark.parametrize("ask", PAST.values(), ids=PAST)
def test_what_is_asked_for_at_a_time_in_the_past_is_due_since_it_came(
    app: Any, worker: Any, make_worker: Any, process: str, ask: LiteralString
) -> None:
    make_worker(version=2)
    app.execute(ask)
    if "state_version" in ask:
        assert worker.claim() == []  # sets it aside

    assert health(app)["status"] == "passing"
    [[gauged]] = app.execute("select oldest_due_age from pgprog_engine.gauges()").fetchall()
    [[counted]] = app.execute(
        "select extract(epoch from oldest_due_age) from pgprog.stats()"
    ).fetchall()
    [[found]] = app.execute(
        "select extract(epoch from now() - coalesce(due_since, aside_since))"
        " from pgprog.inspect_namespaces()"
    ).fetchall()
    assert all(0 < age < 60 for age in (gauged, counted, found))
