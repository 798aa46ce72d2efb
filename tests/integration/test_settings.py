"""A running worker obeys changed settings of its namespaces."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb
from tests.waiting import until

from pgprog import Intent, Namespace, Step
from pgprog.config import NamespaceSettings, WorkerConfig
from pgprog.engine import upkeep
from pgprog.errors import CallTimeout, InvalidArgument
from pgprog.store.engine_store import EngineStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

PROGRAMS = Path(__file__).parent / "programs"
# The defaults of a worker: settings must be obeyed within two seconds by these.
DEFAULT = WorkerConfig(concurrency=5, stop_timeout=timedelta(seconds=1))


class Door:
    """Where handlers wait until it is opened; *inside* are those that came."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside: list[str] = []


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.opened.set()


@pytest.fixture
def jobs(door: Door) -> Namespace[Any]:
    namespace = Namespace("jobs", step_timeout="1h")

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @namespace.call
    def wait(step: Step[Any]) -> None:
        door.inside.append(step.process_id)
        door.opened.wait()

    @namespace.call
    async def minutes(step: Step[Any]) -> Intent[Any, float]:
        return Intent(response=round((step.deadline - datetime.now(UTC)) / timedelta(minutes=1)))

    return namespace


@pytest.fixture
def served(make_engine: Any, jobs: Namespace[Any]) -> Iterator[Any]:
    """The client of an engine that serves jobs."""
    with make_engine(jobs) as engine:
        yield engine


@pytest.fixture
def by_default(make_engine: Any, jobs: Namespace[Any]) -> Iterator[Any]:
    """The client of an engine that serves jobs by the defaults of a worker."""
    with make_engine(jobs, worker=DEFAULT) as engine:
        yield engine


def change(sql: psycopg.Connection[Any], name: str = "jobs", **settings: Any) -> None:
    plain = NamespaceSettings.from_json(settings).to_json()
    sql.execute("select pgprog.set_settings(%s, %s)", (name, Jsonb(plain)))


def call(sql: psycopg.Connection[Any], process_id: str, name: str) -> int:
    [[task_id]] = sql.execute(
        "select pgprog.call('jobs', %s, name => %s)", (process_id, name)
    ).fetchall()
    return int(task_id)


def test_a_task_that_is_claimed_after_a_change_runs_under_it(
    served: Any, sql: psycopg.Connection[Any]
) -> None:
    served.init("jobs", "j")
    change(sql, step_timeout="7m")

    assert served.wait(call(sql, "j", "minutes"), timeout=5) == 7


def test_a_worker_shows_while_it_obeys_other_settings_than_its_code_says(
    served: Any, sql: psycopg.Connection[Any]
) -> None:
    def shown() -> float:
        value: float = served.metrics.get_sample_value(
            "pgprog_settings_differ", {"namespace": "jobs"}
        )
        return value

    assert shown() == 0

    change(sql, step_timeout="7m")
    until(lambda: shown() == 1)
    change(sql, step_timeout="1h")
    until(lambda: shown() == 0)


@pytest.mark.slow  # a worker looks each second
def test_a_task_that_is_started_directly_obeys_a_change_within_two_seconds(
    by_default: Any, sql: psycopg.Connection[Any]
) -> None:
    by_default.init("jobs", "j")
    change(sql, step_timeout="7m")
    changed_at = time.monotonic()
    until(lambda: by_default.call("jobs", "j", name="minutes") == 7)

    assert time.monotonic() - changed_at < 2


@pytest.mark.slow  # a worker looks each second
def test_the_client_of_an_engine_obeys_the_settings_of_the_database(
    by_default: Any, sql: psycopg.Connection[Any]
) -> None:
    by_default.init("jobs", "j")
    change(sql, limits={"args_bytes": 3 << 20, "id_bytes": 300}, step_timeout="100ms")
    changed_at = time.monotonic()
    until(lambda: _is_taken(by_default, {"text": "a" * (2 << 20)}))

    assert time.monotonic() - changed_at < 2
    by_default.init("jobs", "j" * 300)
    with pytest.raises(CallTimeout):  # the time-out of a call is that of a step
        by_default.call("jobs", "j", name="wait")


def _is_taken(client: Any, args: dict[str, str]) -> bool:
    try:
        client.submit("init", "jobs", "k", args)
    except InvalidArgument:
        return False
    return True


@pytest.mark.slow  # a worker looks each second
def test_a_changed_concurrency_is_obeyed_within_two_seconds(
    by_default: Any, sql: psycopg.Connection[Any], door: Door
) -> None:
    for number in range(3):
        by_default.init("jobs", f"j{number}")
    change(sql, concurrency=1)
    for number in range(3):
        call(sql, f"j{number}", "wait")
    until(lambda: door.inside)
    for _ in range(3):  # whoever else may start has started by then
        sql.execute("select pg_sleep(0.1)")
    alone = len(door.inside)
    change(sql, concurrency=3)
    changed_at = time.monotonic()
    until(lambda: len(door.inside) >= 3)

    assert alone == 1
    assert time.monotonic() - changed_at < 2


def test_settings_are_read_at_a_change_only(
    make_engine: Any,
    jobs: Namespace[Any],
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Any] = []
    original = EngineStore.settings

    async def spy(self: EngineStore, names: Any) -> Any:
        read.append(names)
        return await original(self, names)

    monkeypatch.setattr(EngineStore, "settings", spy)
    with make_engine(jobs) as engine:
        engine.init("jobs", "j")
        at_the_start = len(read)
        for _ in range(5):
            engine.wait(call(sql, "j", "minutes"), timeout=5)
        unchanged = len(read)
        change(sql, step_timeout="7m")
        for _ in range(5):
            engine.wait(call(sql, "j", "minutes"), timeout=5)

    assert unchanged == at_the_start
    assert len(read) == at_the_start + 1


def test_a_step_timeout_that_is_too_short_is_taken_back_and_the_next_tasks_succeed(
    make_engine: Any,
    jobs: Namespace[Any],
    sql: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_MEASURE_SECONDS", 0.1), ("_JUDGE_ROUNDS", 1), ("_IDLE_ROUNDS", 1)):
        monkeypatch.setattr(upkeep, name, value)

    @jobs.call
    async def work(step: Step[Any]) -> Intent[Any, str]:
        await asyncio.sleep(0.2)
        return Intent(response="done")

    settings = "select settings_version, settings ->> 'step_timeout' from pgprog.namespaces"
    with make_engine(jobs) as engine:
        change(sql, step_timeout="7m", rollback_above=0.5)
        for number in range(21):
            engine.init("jobs", f"j{number}")
        change(sql, step_timeout="10ms", rollback_above=0.5)
        for number in range(20):
            call(sql, f"j{number}", "work")
        until(lambda: sql.execute(settings).fetchall() == [(4, "7m")])

        assert engine.wait(call(sql, "j20", "work"), timeout=5) == "done"
    [told] = [each for each in caplog.records if each.getMessage() == "settings_rolled_back"]
    fields = told.fields  # type: ignore[attr-defined] # see pgprog.logs
    assert (fields["judged"], fields["restored"], fields["version"]) == (3, 2, 4)
    assert "of 20 tasks failed under version 3" in fields["reason"]


def test_settings_with_faults_are_refused_and_the_old_ones_stay(
    served: Any, sql: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    served.init("jobs", "j")
    faulty = {"step_timeout": "never", "history": -1}
    sql.execute("select pgprog.set_settings('jobs', %s)", (Jsonb(faulty),))

    assert served.wait(call(sql, "j", "minutes"), timeout=5) == 60
    [refused] = [each for each in caplog.records if each.getMessage() == "settings_refused"]
    fields = refused.fields  # type: ignore[attr-defined] # see pgprog.logs
    assert (fields["namespace"], fields["version"]) == ("jobs", 2)
    assert "2 faults" in fields["detail"]


def test_what_only_a_newer_pgprog_knows_is_left_out_and_the_rest_is_obeyed(
    served: Any, sql: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    served.init("jobs", "j")
    newer = {
        "step_timeout": "7m",
        "colour": "blue",
        "retry": {"mood": 1, "max_attempts": 2},
        "retry_by_type": {"dream": {"max_attempts": 5}},
    }
    sql.execute("select pgprog.set_settings('jobs', %s)", (Jsonb(newer),))

    assert served.wait(call(sql, "j", "minutes"), timeout=5) == 7
    [unknown] = [each for each in caplog.records if each.getMessage() == "unknown_settings"]
    assert unknown.fields["settings"] == [  # type: ignore[attr-defined] # see pgprog.logs
        "colour",
        "retry.mood",
        "retry_by_type.dream.max_attempts",
    ]


def test_an_isolation_that_no_child_process_can_obey_is_refused(
    served: Any, sql: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    served.init("jobs", "j")
    change(sql, step_timeout="7m", isolation="process")

    assert served.wait(call(sql, "j", "minutes"), timeout=5) == 60
    assert "settings_refused" in [each.getMessage() for each in caplog.records]


@pytest.mark.slow  # a child process is started
def test_steps_go_into_child_processes_when_their_namespace_is_isolated(
    make_engine: Any, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)
    hazards = importlib.import_module("hazards")
    ask = "select pgprog.call('together', 't', '{\"seconds\": 0}', name => 'linger')"
    with make_engine(hazards.together) as engine:
        engine.init("together", "t")
        before = engine.wait(sql.execute(ask).fetchall()[0][0], timeout=5)
        change(sql, "together", isolation="process")
        after = engine.wait(sql.execute(ask).fetchall()[0][0], timeout=20)

    assert before == os.getpid()
    assert after != before
