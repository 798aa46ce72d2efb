"""Processes that do not move, each for another reason: one command names it, with ids and times."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import until

from pgprog import Engine, Finish, Intent, Namespace, SetTimer, Step
from pgprog.config import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

QUICK = WorkerConfig(poll_every=timedelta(milliseconds=50), stop_timeout=timedelta(seconds=1))
S_1 = ("stock", "s-1")


class Stock:
    """A served namespace: a gate holds the call `slow`; what fails is tried again in an hour."""

    def __init__(self, terminal: Any, sql: psycopg.Connection[Any]) -> None:
        self.terminal = terminal
        self.sql = sql
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.namespace = Namespace(
            "stock",
            concurrency=1,
            retry={"initial_interval": "1h", "max_attempts": 4},
            retry_by_type={"timeout": {"max_attempts": 7}},
        )
        self.namespace.processor(self.step)
        self.serving = ExitStack()
        self.client: Any = None

    def step(self, step: Step[Any], args: Any = None) -> Intent[Any]:
        asked = args or step.name
        if asked == "slow":
            self.begun.set()
            self.gate.wait(20)
        elif asked in ("fail", "leaky"):
            message = "no paper"
            raise ValueError(message)
        elif asked == "finish":
            return Intent(then=Finish())
        elif isinstance(asked, dict):
            after = timedelta(minutes=asked["minutes"])
            return Intent(timers=[SetTimer(after=after, name=asked["timer"])])
        return Intent()

    def one(self, statement: Any, values: tuple[Any, ...] = ()) -> Any:
        row = self.sql.execute(statement, values).fetchone()
        assert row is not None
        return row[0]

    def ask(self, type_: str, args: Any = None, process_id: str = "s-1", **more: Any) -> int:
        task_id: int = self.client.submit(type_, "stock", process_id, args, **more).task_id
        return task_id

    def hold(self, process_id: str = "s-1") -> int:
        """Begin a step that does not end, and return its task."""
        task_id = self.ask("call", "slow", process_id)
        assert self.begun.wait(20)
        return task_id

    def wait_for(self, reason: str) -> None:
        """Return when the process stands still for this reason; the time-out ends a vain wait."""
        until(lambda: self.client.explain(*S_1).reason == reason)

    def explained(self) -> tuple[str, str, dict[str, Any]]:
        """Return reason, sentence and details, the same in text and in JSON."""
        printed = self.terminal.json("process", "explain", *S_1)
        shown = self.terminal.type("process", "explain", *S_1)
        assert shown.exit_code == 0
        assert f"reason    {printed['reason']}\nsentence  {printed['sentence']}\n" in shown.stdout
        return printed["reason"], printed["sentence"], printed["details"]


@pytest.fixture
def sql(session: Any) -> psycopg.Connection[Any]:
    connection: psycopg.Connection[Any] = session()
    return connection


@pytest.fixture
def stock(db: str, terminal: Any, sql: psycopg.Connection[Any]) -> Iterator[Stock]:
    made = Stock(terminal, sql)
    with made.serving:
        made.client = made.serving.enter_context(Engine(db, [made.namespace], worker=QUICK))
        made.client.init(*S_1)
        yield made
        made.gate.set()


@pytest.fixture
def closed(db: str, stock: Stock) -> Stock:
    """The same, paused, so that nothing that is asked for begins."""
    stock.sql.execute("select pgprog.pause('stock', 'stock-taking')")
    return stock


def test_a_process_with_nothing_to_do_says_so(stock: Stock) -> None:
    assert stock.explained() == (
        "nothing to do",
        "no task and no timer waits",
        {"runnable": False},
    )


def test_a_process_that_waits_for_its_timer_names_the_time(stock: Stock) -> None:
    stock.client.call(*S_1, {"timer": "expiry", "minutes": 5})
    due, task = stock.sql.execute("select due_at::text, task_id from pgprog.timers").fetchall()[0]

    reason, sentence, details = stock.explained()
    assert (reason, sentence) == ("timer", f"timer 'expiry' is due at {due}")
    assert (details["task_id"], details["name"]) == (task, "expiry")


def test_a_process_whose_step_runs_names_its_task_its_worker_and_what_waits_behind(
    stock: Stock,
) -> None:
    running = stock.hold()
    stock.ask("call")
    worker = stock.one("select name from pgprog.workers")
    since = stock.one("select started_at::text from pgprog.tasks where status = 'running'")

    reason, sentence, details = stock.explained()
    assert reason == "running"
    assert sentence == (
        f"call {running} runs on worker {worker} since {since}; 1 task waits behind it"
    )
    assert (details["task_id"], details["worker"], details["behind"]) == (running, worker, 1)


def test_a_process_whose_worker_is_dead_says_so(stock: Stock) -> None:
    running = stock.hold()
    with stock.sql.transaction(force_rollback=True):
        stock.sql.execute("update pgprog_data.workers set lease_until = now() - interval '1 h'")
        [_, sentence, _] = stock.sql.execute(
            "select * from pgprog.explain(%s, %s)", S_1
        ).fetchall()[0]

    assert sentence.startswith(f"call {running} runs on worker")
    assert "the worker's lease has ended" in sentence


def test_a_process_whose_task_failed_names_the_next_attempt_of_how_many(stock: Stock) -> None:
    failed = stock.ask("notify", "fail")
    stock.wait_for("retry")
    stock.ask("call")
    stock.ask("notify")
    due = stock.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (failed,))

    reason, sentence, details = stock.explained()
    assert reason == "retry"
    assert sentence == f"notify {failed} has its attempt 2 of 4 at {due}; 2 tasks wait behind it"
    assert (details["task_id"], details["attempt"]) == (failed, 2)


def test_a_process_whose_timer_failed_names_the_next_attempt_of_how_many(stock: Stock) -> None:
    stock.client.call(*S_1, {"timer": "leaky", "minutes": 0})
    stock.wait_for("retry")
    due = stock.one("select due_at::text from pgprog.timers")

    reason, sentence, _ = stock.explained()
    assert (reason, sentence) == ("retry", f"timer 'leaky' has its attempt 2 of 7 at {due}")


def test_a_call_behind_an_init_for_later_names_the_init(stock: Stock) -> None:
    stock.client.remove(*S_1)
    init = stock.ask("init", run_at=datetime.now(UTC) + timedelta(hours=1))
    call = stock.ask("call")
    due = stock.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (init,))

    reason, sentence, details = stock.explained()
    assert reason == "blocked"
    assert sentence == f"call {call} is blocked by init {init}, which is due at {due}"
    assert (details["task_id"], details["blocked_by"]) == (call, init)


def test_a_process_of_a_paused_namespace_names_who_paused_it_and_why_and_since_when(
    closed: Stock,
) -> None:
    call = closed.ask("call")
    paused = closed.one("select paused_at::text from pgprog.namespaces")
    login = closed.one("select session_user")
    due = closed.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (call,))

    reason, sentence, details = closed.explained()
    assert reason == "paused"
    assert sentence == (
        f"namespace stock is paused since {paused} by {login}: stock-taking;"
        f" call {call} waits since {due}"
    )
    assert (details["task_id"], details["pause_reason"]) == (call, "stock-taking")
    assert details["paused_by"] == login


def test_a_process_that_no_live_worker_serves_names_what_waits(closed: Stock) -> None:
    call = closed.ask("call")
    due = closed.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (call,))
    closed.serving.close()
    closed.sql.execute("select pgprog.resume('stock')")

    reason, sentence, details = closed.explained()
    assert reason == "no worker"
    assert sentence == f"no live worker serves namespace stock; call {call} waits since {due}"
    assert details["task_id"] == call


def test_a_process_at_the_limit_of_its_namespace_names_both_numbers(stock: Stock) -> None:
    stock.client.init("stock", "s-2")
    stock.hold("s-2")
    call = stock.ask("call")
    due = stock.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (call,))

    reason, sentence, details = stock.explained()
    assert reason == "limit"
    assert sentence == (
        f"namespace stock is at its limit: 1 of 1 tasks run; call {call} waits since {due}"
    )
    assert (details["running"], details["concurrency"]) == (1, 1)


def test_a_process_in_error_names_the_task_and_since_when(stock: Stock) -> None:
    failed = stock.ask("call", "fail")
    stock.wait_for("error")
    since = stock.one("select status_changed_at::text from pgprog.processes")

    reason, sentence, details = stock.explained()
    assert (reason, sentence) == ("error", f"in error since {since} by task {failed}: no paper")
    assert (details["task_id"], details["detail"]) == (failed, "no paper")


def test_a_process_imported_in_error_names_no_task(stock: Stock) -> None:
    stock.client.put({"namespace": "stock", "process_id": "s-9", "status": "error"})
    since = stock.one("select status_changed_at::text from pgprog.processes where status = 'error'")

    printed = stock.terminal.json("process", "explain", "stock", "s-9")
    assert printed["sentence"] == f"in error since {since}: no detail given"


def test_a_process_with_a_task_for_later_names_the_time(stock: Stock) -> None:
    later = stock.ask("call", run_at=datetime.now(UTC) + timedelta(hours=1))
    due = stock.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (later,))

    reason, sentence, details = stock.explained()
    assert (reason, sentence) == ("later", f"call {later} is due at {due}")
    assert details["task_id"] == later


def test_a_call_in_an_open_transaction_is_hinted_at_by_its_session(
    stock: Stock, session: Any
) -> None:
    app = session()
    with app.transaction():
        app.execute("select pgprog.call('stock', 's-1')")
        pid = app.info.backend_pid
        since = stock.one("select xact_start::text from pg_stat_activity where pid = %s", (pid,))
        reason, sentence, details = stock.explained()

    assert reason == "nothing to do"
    assert sentence == (
        f"no task and no timer waits; session {pid} wrote to the queue in a transaction open since"
        f" {since}: what it asked for counts from its commit"
    )
    assert details["pid"] == pid


def test_a_process_that_an_open_transaction_holds_names_its_session(
    stock: Stock, session: Any
) -> None:
    app = session()
    with app.transaction(force_rollback=True):
        app.execute("select pgprog.remove('stock', 's-1')")
        call = stock.ask("call")
        pid = app.info.backend_pid
        since = stock.one("select xact_start::text from pg_stat_activity where pid = %s", (pid,))
        due = stock.one("select scheduled_at::text from pgprog.tasks where task_id = %s", (call,))
        reason, sentence, details = stock.explained()

    assert reason == "locked"
    assert sentence == (
        f"session {pid} holds the process in a transaction open since {since};"
        f" call {call} waits since {due}"
    )
    assert (details["pid"], details["runnable"]) == (pid, False)


def test_a_finished_process_says_since_when(stock: Stock) -> None:
    stock.client.call(*S_1, "finish")
    since = stock.one("select status_changed_at::text from pgprog.processes")

    assert stock.explained()[:2] == ("nothing to do", f"finished since {since}")
