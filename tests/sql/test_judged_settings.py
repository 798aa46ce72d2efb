"""Changes of settings that are taken back by themselves: where tasks fail since, and only there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

JUDGE = "select judged, restored, version from pgprog_engine.judge_settings('0 s')"
SET = "select pgprog.set_settings('orders', %s)"
VERSION = "select settings_version from pgprog.namespaces"
# Of tasks that took no time, and were tried *ago* before now.
ENDED = """
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at,
  started_at, ended_at)
select nextval('pgprog_data.task_ids'), %(namespace)s, 'p', 1, 'call', %(status)s, 1, at, at, at, at
from generate_series(1, %(count)s), (select pgprog_engine._clock() - %(ago)s::interval as at) as x
"""
RETRIED = """
insert into pgprog_data.attempts (
  namespace, task_id, claim_id, attempt, outcome, started_at, ended_at)
select 'orders', %(task)s + n * %(apart)s, n, n, %(outcome)s, at, at
from generate_series(1, %(count)s) as n, (select pgprog_engine._clock() - interval '1 s' as at) as x
"""
# Of the change; there are partitions for the weeks to come, and none for those before.
START = datetime.now(UTC) + timedelta(hours=2)
LATER = START + timedelta(minutes=1)
GOOD = {"rollback_above": 0.2, "max_crashes": 3}
BAD = {"rollback_above": 0.2, "max_crashes": 1}


@pytest.fixture
def put(app: Any) -> Callable[[dict[str, Any]], int]:
    def put(settings: dict[str, Any]) -> int:
        [[version]] = app.execute(SET, (Jsonb(settings),)).fetchall()
        return int(version)

    return put


@pytest.fixture
def changed(app: Any, put: Any, set_clock: Any) -> None:
    """Settings that were changed for the worse, from version 2 to 3, a minute ago."""
    set_clock(START - timedelta(hours=1))
    put(GOOD)
    set_clock(START)
    put(BAD)
    set_clock(LATER)


@pytest.fixture
def ended(app: Any, changed: None) -> Callable[..., None]:
    """Makes tasks that have ended since the change, or *ago*."""

    def make(status: str, count: int, *, ago: str = "1 s", namespace: str = "orders") -> None:
        app.execute(ENDED, {"status": status, "count": count, "ago": ago, "namespace": namespace})

    return make


def judged(connection: Any) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = connection.execute(JUDGE).fetchall()
    return found


def test_a_change_after_which_tasks_fail_is_taken_back_once(app: Any, ended: Any) -> None:
    ended("finished", 15)
    ended("error", 5)

    assert [judged(app), judged(app)] == [[(3, 2, 4)], []]

    [*_, found] = app.execute(
        "select settings, changed_by, restores, reason from pgprog.settings_history"
        " order by settings_version"
    ).fetchall()
    assert found[:3] == (GOOD, "automatic", 2)
    assert found[3] == (
        "5 of 20 tasks failed under version 3, more than rollback_above (0.2): back to version 2"
    )
    [[crashes]] = app.execute("select max_crashes from pgprog_data.namespaces").fetchall()
    assert crashes == 3


def test_who_looks_into_the_audit_finds_what_was_taken_back_and_why(app: Any, ended: Any) -> None:
    ended("error", 20)
    judged(app)

    [found] = app.execute(
        "select action, namespace, details ->> 'failed', details ->> 'tasks', result"
        " from pgprog.audit where action = 'judge_settings'"
    ).fetchall()

    assert found == ("judge_settings", "orders", "20", "20", 4)


@pytest.mark.parametrize(("finished", "failed"), [(16, 4), (14, 5), (0, 19), (1000, 200)], ids=str)
def test_as_many_failures_as_are_allowed_or_too_few_tasks_take_nothing_back(
    app: Any, ended: Any, finished: int, failed: int
) -> None:
    ended("finished", finished)
    ended("error", failed)

    assert judged(app) == []


def test_a_share_next_to_nothing_is_a_share(app: Any, put: Any, ended: Any, set_clock: Any) -> None:
    tiny = {"rollback_above": 1e-20}
    put(tiny)
    set_clock(LATER + timedelta(minutes=1))
    put({**tiny, "max_crashes": 1})
    set_clock(LATER + timedelta(minutes=2))
    ended("finished", 19)
    ended("error", 1)

    assert judged(app) == [(5, 4, 6)]


def test_what_was_cancelled_or_is_of_another_namespace_is_not_counted(app: Any, ended: Any) -> None:
    ended("error", 19)
    ended("cancelled", 5)
    ended("error", 5, namespace="parcels")

    assert judged(app) == []


def test_what_began_before_the_change_is_not_counted(app: Any, ended: Any) -> None:
    ended("error", 19)
    ended("error", 5, ago="1 minute 1 second")
    app.execute("update pgprog_data.tasks set ended_at = pgprog_engine._clock() - interval '1 s'")

    assert judged(app) == []


def test_what_failed_as_much_before_the_change_is_not_its_fault(app: Any, ended: Any) -> None:
    ended("error", 20)
    ended("error", 20, ago="90 s")

    assert judged(app) == []


def test_what_failed_longer_ago_than_the_change_does_not_count(app: Any, ended: Any) -> None:
    ended("error", 20)
    ended("error", 20, ago="122 s")

    assert judged(app) == [(3, 2, 4)]


def test_attempts_that_failed_count_by_their_tasks(app: Any, changed: None) -> None:
    poison: dict[str, Any] = {"task": 1000, "apart": 0, "outcome": "retry", "count": 50}
    app.execute(RETRIED, poison)
    assert judged(app) == []

    app.execute(RETRIED, {**poison, "apart": 1, "count": 20})
    assert judged(app) == [(3, 2, 4)]


def test_attempts_that_were_lost_with_their_worker_do_not_count(app: Any, changed: None) -> None:
    app.execute(RETRIED, {"task": 1000, "apart": 1, "outcome": "lost", "count": 50})

    assert judged(app) == []


def test_a_retried_step_is_counted_in_its_namespace(app: Any, worker: Any, process: str) -> None:
    app.execute("select pgprog.notify('orders', %s)", (process,))
    worker.complete(*worker.claim(), outcome=3, retry_after=0)

    namespaces = app.execute("select namespace from pgprog_data.attempts").fetchall()

    assert namespaces == [("orders",)]


def test_after_rollback_within_a_change_stays(app: Any, ended: Any, set_clock: Any) -> None:
    set_clock(START + timedelta(minutes=10))
    ended("error", 20)

    assert judged(app) == []


def test_a_namespace_that_does_not_ask_for_it_keeps_its_settings(
    app: Any, put: Any, set_clock: Any
) -> None:
    set_clock(START)
    put({"max_crashes": 1})
    set_clock(LATER)
    app.execute(ENDED, {"status": "error", "count": 50, "ago": "1 s", "namespace": "orders"})

    assert judged(app) == []


def test_the_settings_that_a_namespace_was_made_with_stay(app: Any, set_clock: Any) -> None:
    set_clock(START)
    app.execute("select pgprog.set_settings('parcels', %s, 0)", (Jsonb(BAD),))
    set_clock(LATER)
    app.execute(ENDED, {"status": "error", "count": 50, "ago": "1 s", "namespace": "parcels"})

    assert judged(app) == []


def test_what_a_rollback_gave_back_is_not_taken_back_in_its_turn(
    app: Any, ended: Any, set_clock: Any
) -> None:
    app.execute("select pgprog.rollback_settings('orders', 2)")
    set_clock(START + timedelta(minutes=2))
    ended("error", 20)

    assert judged(app) == []


def test_what_was_taken_back_by_itself_is_not_taken_back_in_its_turn(
    app: Any, ended: Any, set_clock: Any
) -> None:
    ended("error", 20, ago="50 s")
    assert judged(app) == [(3, 2, 4)]
    set_clock(LATER + timedelta(seconds=30))
    ended("error", 20)

    assert judged(app) == []


def test_a_change_that_is_made_again_is_taken_back_again(
    app: Any, ended: Any, put: Any, set_clock: Any
) -> None:
    ended("error", 20)
    judged(app)
    set_clock(START + timedelta(minutes=10))
    put(BAD)
    set_clock(START + timedelta(minutes=11))
    ended("error", 20)

    assert judged(app) == [(5, 4, 6)]


def test_a_change_that_is_being_made_wins(app: Any, ended: Any, session: Any) -> None:
    ended("error", 20)
    operator, collector = session(), session()
    collector.execute("set statement_timeout = '10s'")
    with operator.transaction():
        operator.execute(SET, (Jsonb({**GOOD, "max_crashes": 5}),))
        meanwhile = judged(collector)

    assert meanwhile == judged(collector) == []
    assert app.execute(VERSION).fetchall() == [(4,)]


def test_a_change_that_was_made_since_the_look_wins(
    app: Any, ended: Any, session: Any, wait_for_lock: Callable[[Any], None]
) -> None:
    ended("error", 20)
    operator, collector = session(), session()
    with ThreadPoolExecutor() as threads:
        with operator.transaction():
            operator.execute("lock table pgprog_data.attempts in access exclusive mode")
            look = threads.submit(judged, collector)
            wait_for_lock(collector)
            operator.execute(SET, (Jsonb({**GOOD, "max_crashes": 5}),))

        assert look.result() == []
    assert app.execute(VERSION).fetchall() == [(4,)]


def test_of_two_collectors_at_once_one_takes_the_change_back(
    app: Any, ended: Any, session: Any
) -> None:
    ended("error", 20)
    first, second = session(), session()
    second.execute("set statement_timeout = '10s'")
    with first.transaction():
        mine = judged(first)
        others = judged(second)

    assert [mine, others, judged(second)] == [[(3, 2, 4)], [], []]


def test_without_a_change_to_judge_a_look_writes_nothing(app: Any, ended: Any, put: Any) -> None:
    put({"max_crashes": 1})
    judged(app)

    names = app.execute("select name from pgprog_data.measurements").fetchall()

    assert ("settings",) not in names


def test_a_look_is_taken_by_one_of_all_collectors_in_a_second(app: Any, ended: Any) -> None:
    app.execute("select pgprog_engine.judge_settings()")
    ended("error", 20)

    assert app.execute("select from pgprog_engine.judge_settings('1 s')").fetchall() == []


def test_a_clock_that_was_ahead_stops_no_look(app: Any, ended: Any) -> None:
    judged(app)
    app.execute("update pgprog_data.measurements set measured_at = measured_at + interval '1 day'")
    ended("error", 20)

    assert judged(app) == [(3, 2, 4)]


def test_a_rollback_that_changes_nothing_leaves_a_change_to_be_judged(app: Any, ended: Any) -> None:
    ended("error", 20)
    app.execute("select pgprog.rollback_settings('orders', 3)")

    assert judged(app) == [(3, 2, 4)]


def test_settings_that_are_refused_by_now_are_not_given_back(app: Any, ended: Any) -> None:
    ended("error", 20)
    app.execute(
        "update pgprog_data.namespace_settings set settings = '{\"max_crashes\": 0}'"
        " where settings_version = 2"
    )

    assert judged(app) == []


def test_a_timer_that_is_retried_is_counted_in_its_namespace(
    app: Any, worker: Any, process: str
) -> None:
    worker.complete(*worker.start(("call", process, None)), timers={"t": 0})
    worker.complete(*worker.claim(), outcome=3, retry_after=0)
    [lost] = worker.claim()
    worker.renew(lost)
    app.execute("select pgprog_engine.end_worker(%s)", (worker.worker_id,))

    found = app.execute(
        "select namespace, outcome from pgprog_data.attempts order by ended_at"
    ).fetchall()

    assert found == [("orders", "retry"), ("orders", "lost")]
