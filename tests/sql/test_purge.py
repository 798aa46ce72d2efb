"""Purging: all that a paused namespace holds is erased, in bounded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PURGE = "select erased, next from pgprog.purge('orders', %s, %s)"
LATER = "update pgprog_data.removals set removed_at = removed_at - interval '3 s'"
MORE_EVENTS = """
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select p.incarnation, n, 1, now(), '{}'
from pgprog_data.processes as p, generate_series(11, 17) as n
"""
LEFT = """
select
  (select count(*) from pgprog_data.processes where namespace = 'orders')
  + (select count(*) from pgprog_data.queue where namespace = 'orders')
  + (select count(*) from pgprog_data.timers where namespace = 'orders')
  + (select count(*) from pgprog_data.tasks where namespace = 'orders')
  + (select count(*) from pgprog_data.keys where namespace = 'orders')
  + (select count(*) from pgprog_data.removals where namespace = 'orders')
  + (select count(*) from pgprog_data.events) + (select count(*) from pgprog_data.attempts)
"""


def purge(app: Any, *, max_rows: int = 2) -> list[int]:
    """Purge to the end; return how many rows each call erased."""
    erased: list[int] = []
    following: int | None = 0
    while following is not None:
        count, following = app.execute(PURGE, (following, max_rows)).fetchone()
        erased.append(count)
    return erased


@pytest.fixture
def full(app: Any, make_worker: Any) -> None:
    """q1 to q4 with events, ended, retried and open tasks, and keys; q0 was removed; paused."""
    worker = make_worker()
    for number in range(5):
        app.execute("select pgprog.init('orders', %s)", (f"q{number}",))
    worker.complete(*worker.claim())
    for number in range(5):
        key = f"q{number}"
        app.execute("select pgprog.call('orders', %s, idempotency_key => %s)", (key, key))
    tasks = worker.claim()
    worker.complete(*tasks[:3])
    worker.complete(tasks[3], outcome=3, retry_after=1000, timers={"t": 1000})
    app.execute(MORE_EVENTS)
    app.execute("select pgprog.remove('orders', 'q0')")
    app.execute("select pgprog.call('orders', 'q1')")
    app.execute("select pgprog.pause('orders')")


def test_all_that_a_namespace_holds_is_erased_but_itself(app: Any, full: None) -> None:
    app.execute("select pgprog.purge('orders', 0, 100)")  # the processes; the rest comes later
    app.execute(LATER)
    before = app.execute(LEFT).fetchone()[0]
    purge(app)

    assert before > 10
    assert app.execute(LEFT).fetchone() == (0,)
    [[settings_version, is_paused]] = app.execute(
        "select settings_version, paused_at is not null from pgprog.namespaces"
    ).fetchall()
    assert (settings_version, is_paused) == (1, True)


def test_other_namespaces_keep_what_they_hold(app: Any, full: None) -> None:
    app.execute("select pgprog.set_settings('parcels', '{}', 0)")
    app.execute("select pgprog.init('parcels', 'p', idempotency_key => 'k')")
    app.execute("select pgprog.init('parcels', 'gone')")
    app.execute("select pgprog.remove('parcels', 'gone')")
    app.execute("select pgprog.purge('orders', 0, 100)")
    app.execute(LATER)
    purge(app)

    kept = app.execute(
        "select (select count(*) from pgprog_data.queue), (select count(*) from pgprog_data.keys),"
        " (select count(*) from pgprog_data.tasks), (select count(*) from pgprog_data.removals)"
    )
    assert kept.fetchone() == (1, 1, 1, 1)


def test_each_call_erases_a_bounded_number_of_rows(app: Any, full: None) -> None:
    first = app.execute(PURGE, (0, 2)).fetchone()
    assert first == (2, 0)
    assert app.execute("select count(*) from pgprog.processes").fetchone() == (2,)

    app.execute(PURGE, (0, 2))
    app.execute(LATER)
    assert max(purge(app)) <= 2 * 3  # events, tasks and notes of removals


def test_waiters_of_open_tasks_hear_of_the_removal_before_it_is_erased(
    app: Any, full: None, result_of: Any
) -> None:
    [[task_id]] = app.execute(
        "select task_id from pgprog.tasks where status = 'waiting' and process_id = 'q1'"
    ).fetchall()

    erased = [app.execute(PURGE, (0, 100)).fetchone() for _ in range(2)]

    assert erased == [(4, 0), (0, 0)]
    assert result_of(task_id)["status"] == "cancelled"
    assert result_of(task_id)["error"] == {"cause": "removed"}


def test_answers_of_processes_that_were_removed_long_ago_are_erased_too(
    app: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.remove('orders', %s)", (process,))
    for _ in range(2):  # the events, then the note that they were to go
        app.execute("select pgprog_engine.maintain()")
    app.execute("select pgprog.pause('orders')")
    before = app.execute(LEFT).fetchone()

    purge(app)

    assert before == (1,)
    assert app.execute(LEFT).fetchone() == (0,)


def test_a_process_that_is_locked_elsewhere_is_passed_by_and_asked_for_again(
    app: Any, session: Any, full: None
) -> None:
    holder = session()
    holder.execute("begin")
    holder.execute("select from pgprog_data.processes where process_id = 'q1' for no key update")

    assert [app.execute(PURGE, (0, 100)).fetchone() for _ in range(2)] == [(3, 0), (0, 0)]
    holder.execute("commit")
    assert app.execute(PURGE, (0, 100)).fetchone() == (1, 0)


@pytest.fixture
def held(app: Any, session: Any, full: None) -> Iterator[dict[str, Any]]:
    """Transactions that are open while the processes of their tasks go, by what they have done."""
    requester, claimer = session(), session()
    [[later]] = app.execute(
        "select pgprog.call('orders', 'q2', '\"secret\"', run_at => now() + interval '1 h')"
    ).fetchall()
    requester.execute("begin")
    [[late]] = requester.execute("select pgprog.call('orders', 'q1', '\"secret\"')").fetchall()
    claimer.execute("begin")  # as a claim with what has come due, without a lock of the process
    claimer.execute("update pgprog_data.queue set status = 'w' where task_id = %s", (later,))
    yield {"requester": (requester, late), "claimer": (claimer, later)}
    requester.close()
    claimer.close()


@pytest.mark.parametrize(
    ("who", "end"), [("requester", "commit"), ("claimer", "commit"), ("claimer", "rollback")]
)
def test_tasks_that_were_held_while_their_processes_went_end_and_are_erased(
    app: Any, held: Any, result_of: Any, who: str, end: str
) -> None:
    [other] = {"requester", "claimer"} - {who}
    held[other][0].execute("rollback")
    assert app.execute(PURGE, (0, 100)).fetchone() == (4, 0)
    connection, task_id = held[who]
    connection.execute(end)
    app.execute(LATER)
    assert [app.execute(PURGE, (0, 100)).fetchone() for _ in range(20)][-1] == (0, 0)

    assert result_of(task_id)["error"] == {"cause": "removed"}
    app.execute(LATER)
    purge(app)
    assert app.execute(LEFT).fetchone() == (0,)


def test_a_purge_has_no_end_while_a_task_of_a_gone_process_is_held(app: Any, held: Any) -> None:
    app.execute(PURGE, (0, 100))
    app.execute(LATER)
    answers = [app.execute(PURGE, (0, 100)).fetchone() for _ in range(20)]

    assert {following for _, following in answers} == {0}
    assert app.execute("select count(*) from pgprog_data.queue").fetchone() == (1,)


def test_a_namespace_that_runs_is_not_purged(app: Any, process: str) -> None:
    with pytest.raises(psycopg.Error, match="namespace orders is not paused") as caught:
        app.execute(PURGE, (0, 100))

    assert caught.value.sqlstate == "UP010"
    assert app.execute("select count(*) from pgprog.processes").fetchone() == (1,)


def test_what_cannot_be_purged_is_refused(app: Any) -> None:
    with pytest.raises(psycopg.Error, match="no namespace ordres"):
        app.execute("select pgprog.purge('ordres')")
    for max_rows in (0, 100_001, None):
        with pytest.raises(psycopg.Error, match="1 to 100000 are allowed"):
            app.execute(PURGE, (0, max_rows))


def test_what_a_campaign_gave_to_each_process_is_erased_and_its_record_stays(
    app: Any, full: None
) -> None:
    app.execute("select pgprog.set_settings('parcels', '{}', 0)")
    for namespace in ("orders", "orders", "parcels"):
        app.execute("select pgprog.begin_campaign(%s, args => '{\"iban\": 1}')", (namespace,))
    app.execute("select pgprog.purge('orders', 0, 100)")
    app.execute(LATER)
    purge(app, max_rows=1)

    args = app.execute("select namespace, args from pgprog_data.campaigns order by campaign_id")
    assert args.fetchall() == [("orders", None), ("orders", None), ("parcels", {"iban": 1})]
