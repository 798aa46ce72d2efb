"""Importing processes: what get gives, with history and timers; no handler, no announcement."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

AT = "2024-05-01T10:00:00.000001+00:00"
EVENT = {"event_id": 1, "at": AT, "task_id": 5, "payload": {"n": 1}, "metadata": None}
SECOND = {**EVENT, "event_id": 2}
PROCESS = {"namespace": "orders", "process_id": "p1", "status": "running"}


def put(connection: Any, process: Any, key: str | None = None) -> int:
    [version] = connection.execute("select pgprog.put(%s, %s)", (Jsonb(process), key)).fetchone()
    return int(version)


def get(connection: Any, max_events: int = 10) -> Any:
    return connection.execute("select pgprog.get('orders', 'p1', %s)", (max_events,)).fetchone()[0]


@pytest.fixture
def exported(app: Any, worker: Any, process: str) -> Any:
    """What get gave of a process that was removed; it has events, state and a timer."""
    app.execute("select pgprog.call('orders', 'p1')")
    worker.complete(*worker.claim(), timers={"expiry": 3_600_000_000}, state='{"due": 1}')
    found = get(app)
    assert len(found["history"]) == 2
    app.execute("select pgprog.remove('orders', 'p1')")
    return found


def test_put_imports_what_get_gives_with_history_and_timers(app: Any, exported: Any) -> None:
    version = put(app, exported)

    found = get(app)
    new = {"version": version, "incarnation": found["incarnation"]}
    assert found == {**exported, **new}
    assert version > exported["version"]
    assert found["incarnation"] > exported["incarnation"]
    assert app.execute(
        "select distinct announced from pgprog_data.events where incarnation = %s",
        (found["incarnation"],),
    ).fetchall() == [(True,)]


def test_put_keeps_the_versions_that_events_were_written_at(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.call('orders', 'p1')")
    worker.complete(*worker.claim(), state="{}", state_version=1)
    app.execute("select pgprog.call('orders', 'p1')")
    worker.complete(*worker.claim(), state="{}", state_version=3)
    found = get(app)
    assert [event["state_version"] for event in found["history"]] == [1, 1, 3]
    app.execute("select pgprog.remove('orders', 'p1')")
    put(app, found)

    assert get(app)["history"] == found["history"]
    versions = app.execute("select state_version from pgprog.history('orders', 'p1')").fetchall()
    assert versions == [(1,), (1,), (3,)]


def test_events_without_a_version_are_imported_at_version_1(app: Any) -> None:
    put(app, {**PROCESS, "history": [EVENT]})

    assert get(app)["history"][0]["state_version"] == 1


def test_an_imported_process_goes_on_from_its_history(app: Any, worker: Any, exported: Any) -> None:
    put(app, exported)
    app.execute("select pgprog.call('orders', 'p1')")
    [task] = worker.claim()
    assert (task.type, task.state, task.last_event_id) == ("call", {"due": 1}, 2)
    worker.complete(task)

    assert [event["event_id"] for event in get(app)["history"]] == [1, 2, 3]


def test_a_timer_in_the_past_of_an_imported_process_runs_at_once(app: Any, worker: Any) -> None:
    put(app, {**PROCESS, "timers": {"late": AT}})

    assert [(task.type, task.name) for task in worker.claim()] == [("timeout", "late")]


def test_the_timers_of_a_process_imported_in_error_are_suspended(app: Any, worker: Any) -> None:
    put(app, {**PROCESS, "status": "error", "timers": {"late": AT}, "corrupted_by": 5})
    assert app.execute("select suspended from pgprog.timers").fetchall() == [(True,)]
    assert worker.claim() == []
    with pytest.raises(psycopg.Error) as caught:
        app.execute("select pgprog.simple_repair('orders', 'p1')")
    assert caught.value.sqlstate == "UP011"

    app.execute("select pgprog.repair('orders', 'p1')")
    worker.complete(*worker.claim())
    assert [task.name for task in worker.claim()] == ["late"]


def test_a_process_that_exists_is_not_imported(app: Any, process: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        put(app, PROCESS)

    assert caught.value.sqlstate == "UP005"


def test_a_repeated_put_with_the_same_key_gives_the_same_version(app: Any, worker: Any) -> None:
    version = put(app, PROCESS, "key")
    app.execute("select pgprog.call('orders', 'p1')")
    worker.complete(*worker.claim())

    assert put(app, PROCESS, "key") == version
    app.execute("select pgprog.remove('orders', 'p1')")
    assert put(app, PROCESS, "key") == version
    assert get(app) is None
    with pytest.raises(psycopg.Error) as caught:
        put(app, {**PROCESS, "state": 1}, "key")
    assert caught.value.sqlstate == "UP008"


def test_of_two_puts_at_once_the_second_is_told_that_the_process_exists(
    app: Any, session: Any, wait_for_lock: Any
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with session().transaction() as first:
            put(first.connection, PROCESS)
            second = threads.submit(put, app, PROCESS)
            wait_for_lock(app)
        with pytest.raises(psycopg.Error) as caught:
            second.result()

    assert caught.value.sqlstate == "UP005"


def test_a_put_that_waits_while_the_process_lives_and_goes_has_a_later_version(
    app: Any, worker: Any, process: str, session: Any, wait_for_lock: Any
) -> None:
    waiting = session()
    with ThreadPoolExecutor(1) as threads:
        with session().transaction(force_rollback=True) as first:
            put(first.connection, {**PROCESS, "process_id": "p2"}, "key")
            second = threads.submit(put, waiting, PROCESS, "key")
            wait_for_lock(waiting)
            app.execute("select pgprog.call('orders', 'p1')")
            [done] = worker.complete(*worker.claim())
            app.execute("select pgprog.remove('orders', 'p1')")
        version = second.result()

    assert version > done.version
    assert version == get(app)["version"] == put(app, PROCESS, "key")


@pytest.mark.parametrize(
    "change",
    [
        {"status": None},
        {"status": "init"},
        {"previous_status": "lost"},
        {"statte": 1},
        {"state_version": 0},
        {"state_version": "one"},
        {"history": [{**EVENT, "state_version": 0}]},
        {"state_version": 10**20},
        {"created_at": "yesterday or so"},
        {"created_at": "infinity"},
        {"status_changed_at": "1492-10-12T00:00:00Z"},
        {"last_event_id": 1},
        {"history": {}},
        {"history": [1]},
        {"history": [SECOND]},
        {"history": [EVENT, {**EVENT, "event_id": 3}]},
        {"history": [EVENT, {**SECOND, "at": "2024-04-01T00:00:00Z"}]},
        {"history": [{**EVENT, "at": None}]},
        {"history": [{**EVENT, "task_id": None}]},
        {"history": [{**EVENT, "payload": "x" * 300_000}]},
        {"state": "x" * 5_000_000},
        {"timers": []},
        {"timers": {"t": None}},
        {"timers": {"t": 5}},
        {"timers": {"t" * 300: AT}},
        {"timers": {"t": AT}, "status": "finished"},
        {"process_id": ""},
        {"process_id": None},
    ],
)
def test_put_refuses_what_get_would_not_give(app: Any, change: Any) -> None:
    with pytest.raises(psycopg.Error) as caught:
        put(app, {**PROCESS, **change})

    assert caught.value.sqlstate == "UP010"
    assert app.execute("select count(*) from pgprog_data.processes").fetchone() == (0,)


@pytest.mark.parametrize(
    ("process", "code"), [([], "UP007"), ({**PROCESS, "namespace": "no"}, "UP007")]
)
def test_put_needs_a_namespace(app: Any, process: Any, code: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        put(app, process)

    assert caught.value.sqlstate == code
