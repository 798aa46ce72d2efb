"""What operators do is noted in the transaction that does it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

NOTED = "select action, namespace, process_id, task_id, details, result from pgprog.audit"
SECRET = '{"card": "4711-sesame"}'
PUT = '{"namespace": "orders", "process_id": "x", "status": "running", "state": {"s": "sesame"}}'


@pytest.fixture
def noted(app: Any) -> Any:
    """What was noted since the last look, in order."""
    last = 0

    def look() -> list[Any]:
        nonlocal last
        rows = app.execute(f"{NOTED} where audit_id > %s order by audit_id", (last,)).fetchall()
        [[last]] = app.execute("select coalesce(max(audit_id), 0) from pgprog.audit").fetchall()
        return list(rows)

    return look


@pytest.fixture
def broken(app: Any, worker: Any, process: str) -> int:
    """The task that broke the process p1."""
    [[task_id]] = app.execute(
        "select pgprog.notify('orders', 'p1', %s, 'ship')", (SECRET,)
    ).fetchall()
    worker.complete(*worker.claim(), outcome=4)
    return int(task_id)


def one(app: Any, statement: str, *values: object) -> Any:
    [[value]] = app.execute(statement, values).fetchall()
    return value


def test_repairs_are_noted_with_what_was_asked(app: Any, noted: Any, broken: int) -> None:
    repair = one(app, "select pgprog.repair('orders', 'p1', %s, 'refund')", SECRET)
    simple = one(app, "select pgprog.simple_repair('orders', 'p1')")

    assert noted() == [
        ("repair", "orders", "p1", repair, {"name": "refund"}, None),
        ("simple_repair", "orders", "p1", simple,
         {"type": "notify", "name": "ship", "failed_task": broken}, None),
    ]  # fmt: skip


def test_a_repair_that_is_repeated_under_its_key_is_noted_once(
    app: Any, noted: Any, broken: int
) -> None:
    statement = "select pgprog.repair('orders', 'p1', idempotency_key => 'k')"
    repair = one(app, statement)

    assert one(app, statement) == repair
    assert [row[:4] for row in noted()] == [("repair", "orders", "p1", repair)]


@pytest.mark.parametrize("others", [0, 1])
def test_a_repair_among_many_requests_is_noted_where_it_was_taken(
    app: Any, noted: Any, broken: int, others: int
) -> None:
    count = 1 + others
    arrays: list[Any] = [["repair"] * count, ["orders"] * count, ["p1", "absent"][:count]]
    arrays += [[SECRET] * count, ["refund"] * count, ["k", None][:count], [None] * count]
    statement = "select max(task_id) from pgprog.submit_many(%s, %s, %s, %s::jsonb[], %s,"
    statement += " %s::text[], %s::jsonb[], %s, %s::timestamptz[])"

    tasks = {one(app, statement, *arrays, [0] * count, [None] * count) for _ in range(2)}

    assert noted() == [("repair", "orders", "p1", *tasks, {"name": "refund"}, None)]


def test_a_repair_that_a_worker_starts_is_noted(
    app: Any, worker: Any, noted: Any, broken: int
) -> None:
    [started, refused] = worker.start(("repair", "p1", None), ("repair", "absent", None))

    assert (started.outcome, refused.outcome) == ("started", "UP001")
    assert [row[:4] for row in noted()] == [("repair", "orders", "p1", started.task_id)]


def test_a_process_that_is_put_and_removed_is_noted_with_its_version(app: Any, noted: Any) -> None:
    version = one(app, "select pgprog.put(%s)", PUT)
    one(app, "select pgprog.remove('orders', 'x')")
    one(app, "select pgprog.remove('orders', 'x')")  # nothing was there

    assert noted() == [
        ("put", "orders", "x", None, {"status": "running"}, version),
        ("remove", "orders", "x", None, {"version": version}, True),
    ]


def test_cancelling_is_noted_for_each_kind_of_task(
    app: Any, worker: Any, noted: Any, process: str
) -> None:
    call = one(app, "select pgprog.call('orders', 'p1')")
    worker.complete(*worker.claim(), timers={"t": 3600 * 10**6})
    timer = one(app, "select task_id from pgprog.timers")
    call = one(app, "select pgprog.call('orders', 'p1')")
    init = one(app, "select pgprog.init('orders', 'p2')")
    for task_id in (call, timer, init, init):
        one(app, "select pgprog.cancel(%s)", task_id)

    assert noted() == [
        ("cancel", "orders", "p1", call, {"type": "call"}, True),
        ("cancel", "orders", "p1", timer, {"type": "timeout"}, True),
        ("cancel", "orders", "p2", init, {"type": "init"}, True),
    ]


def test_what_is_done_to_a_namespace_is_noted_with_its_reason(
    app: Any, noted: Any, process: str
) -> None:
    one(app, "select pgprog.pause('orders', 'stock-taking')")
    one(app, "select pgprog.resume('orders')")
    one(app, "select pgprog.resume('orders')")  # it ran
    one(app, "select pgprog.set_settings('orders', '{\"concurrency\": 2}', null, 'too many')")
    one(app, "select pgprog.set_settings('orders', '{\"concurrency\": 2}', null, 'again')")
    one(app, "select pgprog.rollback_settings('orders', 1)")
    one(app, "select pgprog.set_settings('parcels', '{}', 0)")

    assert noted() == [
        ("pause", "orders", None, None, {"reason": "stock-taking"}, True),
        ("resume", "orders", None, None, None, True),
        ("set_settings", "orders", None, None, {"reason": "too many"}, 2),
        ("set_settings", "orders", None, None, {"reason": "rollback to version 1"}, 3),
        ("set_settings", "parcels", None, None, None, 1),
    ]


def test_a_log_level_is_noted_where_a_worker_was_asked_for_it(
    app: Any, noted: Any, worker: Any
) -> None:
    one(app, "select count(*) from pgprog.set_log_level('debug', -1)")  # nobody's number
    one(app, "select count(*) from pgprog.set_log_level('debug')")

    assert noted() == [("set_log_level", None, None, None, {"level": "debug"}, True)]


def test_each_part_of_a_purge_is_noted_with_how_much_it_erased(
    app: Any, noted: Any, process: str
) -> None:
    one(app, "select pgprog.pause('orders')")
    for _ in range(2):  # the second waits until waiters have heard
        app.execute("select * from pgprog.purge('orders')")

    assert noted()[1:] == [("purge", "orders", None, None, {"max_rows": 1000}, 1)]


def test_a_campaign_is_noted_with_its_filter_and_each_process_that_it_asks_for(
    app: Any, noted: Any, broken: int
) -> None:
    campaign = one(app, "select pgprog.begin_campaign('orders', 'repair', 'refund', %s)", SECRET)
    app.execute("select * from pgprog.continue_campaign(%s)", (campaign,))
    one(app, "select pgprog.stop_campaign(%s)", campaign)

    began, repaired, stopped = noted()
    details = {"kind": "repair", "name": "refund", "filter": {}, "items": 1}
    assert began == ("begin_campaign", "orders", None, None, details, campaign)
    assert repaired[:3] == ("repair", "orders", "p1")
    assert stopped == ("stop_campaign", "orders", None, None, {"campaign_id": campaign}, 0)


def test_who_did_it_is_the_login_the_role_that_it_set_and_the_program(
    app: Any, session: Any, with_roles: Any
) -> None:
    admin = session()
    admin.execute("set application_name = 'night shift'")
    with_roles(admin)
    admin.execute("set role pgprog_operator")
    admin.execute("select pgprog.pause('orders')")

    who = app.execute(
        "select login, role, application, client, at between now() - interval '1 min' and now()"
        " from pgprog.audit"
    )
    login = app.execute("select session_user").fetchone()[0]
    assert who.fetchall() == [(login, "pgprog_operator", "night shift", None, True)]


def test_what_is_rolled_back_or_refused_was_not_done(app: Any, noted: Any) -> None:
    with app.transaction(force_rollback=True):
        app.execute("select pgprog.pause('orders')")
    with pytest.raises(psycopg.Error):
        app.execute("select pgprog.purge('orders')")

    assert noted() == []


def test_no_payload_is_noted(app: Any, broken: int) -> None:
    app.execute("select pgprog.repair('orders', 'p1', %s, context => %s)", (SECRET, SECRET))
    app.execute("select pgprog.put(%s)", (PUT,))
    app.execute(
        "select pgprog.set_settings('orders', %s)", (json.dumps({"on_call_error": "sesame"}),)
    )

    whole = app.execute("select string_agg(a::text, '') from pgprog_data.audit as a").fetchone()[0]
    assert "put" in whole
    assert "sesame" not in whole


@pytest.mark.parametrize(
    "statement",
    [
        "delete from pgprog.audit",
        "update pgprog.audit set login = 'nobody'",
        "insert into pgprog.audit (action) values ('nothing')",
        "truncate pgprog_data.audit",
        "delete from pgprog_data.audit",
        "select pgprog_engine._audit('x', null, null, null, null, null)",
        "select pgprog_engine.erase_old('7 days', '0 s')",
    ],
)
def test_operators_cannot_change_what_was_noted(
    fresh_db: str, with_roles: Any, statement: str
) -> None:
    with psycopg.connect(fresh_db, autocommit=True) as operator:
        with_roles(operator)
        operator.execute("set role pgprog_operator")
        assert operator.execute("select count(*) from pgprog.audit").fetchone() == (0,)

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            operator.execute(statement)


@pytest.mark.parametrize("sooner", ["0 s", "-1 day", "-1 year", "-10000 years"])
def test_a_worker_erases_no_sooner_than_a_configuration_may_say(
    fresh_db: str, with_roles: Any, sooner: str
) -> None:
    with psycopg.connect(fresh_db, autocommit=True) as worker:
        with_roles(worker)
        worker.execute("select pgprog.set_settings('orders', '{}', 0)")
        worker.execute("select pgprog.init('orders', 'p1', idempotency_key => 'k')")
        worker.execute("select pgprog.remove('orders', 'p1')")
        worker.execute("set role pgprog_worker")
        for statement in (
            "select pgprog_engine.erase_old(%(sooner)s, %(sooner)s)",
            "select pgprog_engine.maintain(%(sooner)s)",
            *["select pgprog_engine.drop_old(%(sooner)s)"] * 14,  # as many as there are
        ):
            worker.execute(statement, {"sooner": sooner})
        worker.execute("reset role")

        assert one(worker, "select count(*) from pgprog.audit") == 2
        assert one(worker, "select count(*) from pgprog_data.keys") == 1
        assert one(worker, "select status from pgprog.tasks") == "cancelled"


def test_notes_go_after_their_retention(app: Any) -> None:
    app.execute("select pgprog.pause('orders')")
    app.execute("select pgprog.resume('orders')")
    app.execute("update pgprog_data.audit set at = at - interval '366 days' where action = 'pause'")
    app.execute("select pgprog_engine.maintain()")
    assert one(app, "select count(*) from pgprog.audit") == 2

    app.execute("select pgprog_engine.erase_old()")
    assert one(app, "select array_agg(action) from pgprog.audit") == ["resume"]
