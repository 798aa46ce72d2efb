"""What applications do by plain SQL."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

CALL = "select pgprog.call('orders', %s)"


def sqlstate_of(connection: Any, statement: str, *values: object) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement, values)
    return caught.value.sqlstate


def outcomes_with_key(connection: Any, *argss: object) -> list[str]:
    """Send calls of one process under one key in a batch."""
    rows = connection.execute(
        "select m.outcome from (select %s::jsonb[] as argss, array[%s] as n) as given, lateral"
        " pgprog.submit_many("
        "  array_fill('call'::text, n), array_fill('orders'::text, n), array_fill('p1'::text, n),"
        "  argss, array_fill(null::text, n), array_fill('k'::text, n),"
        "  array_fill(null::jsonb, n), array_fill(0, n), array_fill(null::timestamptz, n)) as m",
        ([json.dumps(args) for args in argss], len(argss)),
    )
    return [outcome for (outcome,) in rows.fetchall()]


def test_an_init_rolled_back_leaves_nothing(app: Any, worker: Any) -> None:
    with app.transaction(force_rollback=True):
        app.execute("select pgprog.init('orders', 'p1')")

    assert worker.claim() == []
    assert app.execute("select pgprog.get('orders', 'p1')").fetchone() == (None,)


def test_a_committed_init_runs_and_makes_the_process_running(app: Any, worker: Any) -> None:
    app.execute("""select pgprog.init('orders', 'p1', '{"due": 10}')""")
    [task] = worker.claim()
    [done] = worker.complete(task, state='{"due": 10}')

    assert (task.type, task.args, done.outcome) == ("init", {"due": 10}, "done")
    [process] = app.execute("select pgprog.get('orders', 'p1', 10)").fetchone()
    assert (process["status"], process["state"], process["last_event_id"]) == (
        "running",
        {"due": 10},
        1,
    )


def test_requests_that_cannot_be_are_refused_each_with_its_own_code(app: Any, process: str) -> None:
    assert sqlstate_of(app, CALL, "absent") == "UP001"
    assert sqlstate_of(app, "select pgprog.init('orders', %s)", process) == "UP005"
    assert sqlstate_of(app, "select pgprog.call('nowhere', 'p1')") == "UP007"
    assert sqlstate_of(app, CALL, "x" * 300) == "UP010"
    assert sqlstate_of(app, "select pgprog.call('orders', 'p1', run_at => 'infinity')") == "UP010"
    assert (
        sqlstate_of(app, "select pgprog.call('orders', 'p1', to_jsonb(repeat('x', 20000000)))")
        == "UP010"
    )
    assert sqlstate_of(app, "select pgprog.cancel(999999999)") == "UP011"
    assert app.execute("select count(*) from pgprog_data.queue").fetchone() == (0,)


@pytest.mark.parametrize("place", ["args", "context"])
def test_what_comes_compressed_from_a_table_is_as_long_as_it_is_without(
    app: Any, process: str, place: str
) -> None:
    app.execute("create temp table letters as select to_jsonb(repeat('x', 3000000)) as letter")
    values = "args => letter" if place == "args" else "context => letter"

    with pytest.raises(psycopg.Error, match=r"3000[0-9]{3} bytes, at most 1048576") as caught:
        app.execute(f"select pgprog.call('orders', 'p1', {values}) from letters")

    assert caught.value.sqlstate == "UP010"


def test_a_call_on_a_broken_process_is_refused_and_on_a_finished_one_too(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    worker.complete(*worker.claim(), outcome=4, error='{"detail": "no"}')
    assert sqlstate_of(app, CALL, process) == "UP004"

    app.execute("select pgprog.init('orders', 'p2')")
    worker.complete(*worker.claim(), then=1)
    assert sqlstate_of(app, CALL, "p2") == "UP006"


def test_one_key_gives_one_task_and_another_request_with_it_is_an_error(
    app: Any, process: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', %s::jsonb, idempotency_key => 'k')"
    first = app.execute(statement, ('{"a": 1, "b": 2}',)).fetchone()
    again = app.execute(statement, ('{"b": 2.0, "a": 1}',)).fetchone()

    assert first == again
    assert sqlstate_of(app, statement, '{"a": 2}') == "UP008"


_FORTY = [str(number) for number in range(40)]


@pytest.mark.parametrize(
    ("args", "others"),
    [
        pytest.param(_FORTY, [_FORTY[32], *_FORTY[1:32], _FORTY[0], *_FORTY[33:]], id="swapped"),
        pytest.param([1.0, "1.0"], [1.0, "1"], id="strings"),
        pytest.param([1.0, '\\"1.0'], [1.0, '\\"1'], id="strings with quotes"),
        pytest.param([1.05, 0.10], [1.5, 0.10], id="zeros within numbers"),
        pytest.param([100, 0.10], [1, 0.10], id="zeros of whole numbers"),
    ],
)
def test_one_key_with_other_args_is_an_error_however_like_they_are(
    app: Any, process: str, args: Any, others: Any
) -> None:
    single = "select pgprog.call('orders', 'p1', %s::jsonb, idempotency_key => 'k')"
    app.execute(single, (json.dumps(args),))

    assert sqlstate_of(app, single, json.dumps(others)) == "UP008"
    assert outcomes_with_key(app, args, others, args) == ["known", "UP008", "known"]


def test_one_key_for_two_processes_is_an_error_where_the_args_name_them_too(app: Any) -> None:
    statement = "select pgprog.init('orders', %s, %s::jsonb, idempotency_key => 'k')"
    app.execute(statement, ("p7", json.dumps([*_FORTY[:31], "p7"])))

    assert sqlstate_of(app, statement, "p8", json.dumps([*_FORTY[:31], "p8"])) == "UP008"


def test_numbers_that_are_equal_are_the_same_args_however_they_are_written(
    app: Any, process: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', %s::jsonb, idempotency_key => 'k')"
    first = app.execute(statement, ('{"a": [1, -0.5, 10, 0], "b": "1.0"}',)).fetchone()
    again = app.execute(statement, ('{"b": "1.0", "a": [1.00, -0.500, 1e1, 0.0]}',)).fetchone()

    assert first == again


@pytest.mark.parametrize(("args", "others"), [("1.50", "1.5"), ("-2.0", "-2"), ("7", "7.00")])
def test_a_number_alone_is_the_same_args_however_it_is_written(
    app: Any, process: str, args: str, others: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', %s::jsonb, idempotency_key => 'k')"

    assert (
        app.execute(statement, (args,)).fetchone() == app.execute(statement, (others,)).fetchone()
    )
    assert sqlstate_of(app, statement, "1.05") == "UP008"


def test_a_session_may_read_backslashes_in_plain_strings(
    app: Any, session: Any, process: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', %s::jsonb, idempotency_key => 'k')"
    args = '{"a": "\\"1.0", "b": [100, 1.50]}'
    old = session()
    old.execute("set standard_conforming_strings = off; set escape_string_warning = off")

    assert app.execute(statement, (args,)).fetchone() == old.execute(statement, (args,)).fetchone()
    assert sqlstate_of(old, statement, args.replace("100", "1000")) == "UP008"
    old.execute("""select pgprog.set_settings('orders', '{"roles": ["shop"]}')""")
    version = "select pgprog.schema_version()"
    assert old.execute(version).fetchone() == app.execute(version).fetchone()


def test_a_key_from_before_its_fingerprint_was_another_is_taken_at_its_word(
    app: Any, process: str
) -> None:
    statement = "select pgprog.call('orders', 'p1', %s::jsonb, idempotency_key => 'k')"
    first = app.execute(statement, ("1",)).fetchone()
    app.execute("update pgprog_data.keys set fingerprint = int8send(1) || int8send(2)")

    assert app.execute(statement, ("1",)).fetchone() == first
    assert outcomes_with_key(app, 1, 1) == ["known", "known"]


def test_a_cancelled_init_leaves_no_process_and_cancels_its_calls(app: Any, worker: Any) -> None:
    [init] = app.execute("select pgprog.init('orders', 'p1')").fetchone()
    [call] = app.execute(CALL, ("p1",)).fetchone()

    assert app.execute("select pgprog.cancel(%s)", (init,)).fetchone() == (True,)

    assert worker.claim() == []
    assert app.execute("select pgprog.get('orders', 'p1')").fetchone() == (None,)
    [result] = app.execute("select pgprog.result(%s)", (call,)).fetchone()
    assert (result["status"], result["error"]) == ("cancelled", {"cause": "cancelled"})


def test_many_requests_each_have_their_own_outcome_in_order(app: Any, process: str) -> None:
    rows = app.execute(
        "select outcome, message from pgprog.submit_many(array['call', 'call', 'init', 'init'],"
        " array['orders', 'orders', 'orders', 'orders'], array['p1', 'absent', 'p1', 'p9'],"
        " array[null, null, null, null]::jsonb[], array[null, null, null, null]::text[],"
        " array['a', 'b', null, null]::text[], array[null, null, null, null]::jsonb[],"
        " array[0, 0, 0, 0], array[null, null, null, null]::timestamptz[])"
    ).fetchall()

    assert [outcome for outcome, _ in rows] == ["queued", "UP001", "UP005", "queued"]
    assert rows[1][1] == "no process absent in namespace orders"
    assert app.execute("select key from pgprog_data.keys").fetchall() == [("a",)]


def test_the_session_time_zone_does_not_matter(app: Any, worker: Any) -> None:
    app.execute("set timezone = 'Europe/Moscow'")
    worker.connection.execute("set timezone = 'Europe/Moscow'")
    app.execute("select pgprog.init('orders', 'p1')")

    worker.complete(*worker.claim(), timers={"soon": 0})

    assert [task.name for task in worker.claim()] == ["soon"]


def test_finish_cancels_what_waits_and_keeps_the_process_readable(
    app: Any, worker: Any, process: str
) -> None:
    app.execute(CALL, (process,))
    [second] = app.execute(CALL, (process,)).fetchone()
    worker.complete(*worker.claim(), then=1)

    [result] = app.execute("select pgprog.result(%s)", (second,)).fetchone()
    assert result["error"] == {"cause": "process finished"}
    [found] = app.execute("select pgprog.get('orders', 'p1')").fetchone()
    assert found["status"] == "finished"


def test_a_rejected_init_is_absent_again(app: Any, worker: Any) -> None:
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim(), outcome=2, error='{"rejected": "no"}')

    assert app.execute("select pgprog.get('orders', 'p1')").fetchone() == (None,)
    app.execute("select pgprog.init('orders', 'p1')")
    assert len(worker.claim()) == 1


def test_the_trace_shows_attempts_and_events(app: Any, worker: Any, process: str) -> None:
    app.execute("select pgprog.notify('orders', 'p1')")
    worker.complete(*worker.claim(), outcome=3, retry_after=0, error='{"detail": "later"}')
    worker.complete(*worker.claim())

    rows = app.execute(
        "select type, status, attempt, jsonb_array_length(events) from pgprog.trace('orders', 'p1')"
    ).fetchall()
    assert rows == [
        ("init", "finished", 1, 1),
        ("notify", "error", 1, 0),
        ("notify", "finished", 2, 1),
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_a_key_that_is_erased_while_it_is_looked_at_is_free_again(
    app: Any, process: str, count: int
) -> None:
    with app.transaction(force_rollback=True):
        app.execute("select pgprog.call('orders', 'p1', '0', idempotency_key => 'k')")
        # Housekeeping between the conflict and the look at the winner.
        app.execute(
            "create function erase() returns trigger language plpgsql as $$begin"
            "  delete from pgprog_data.keys using pgprog_data.queue as q"
            "  where q.task_id = keys.task_id and q.args = '0'; return null; end$$;"
            "create trigger erase after insert on pgprog_data.keys execute function erase()"
        )

        codes = outcomes_with_key(app, *([1] * count))

        assert codes == ["queued", *["known"] * (count - 1)]
        newest = app.execute("select max(task_id) from pgprog_data.queue").fetchone()
        assert app.execute("select task_id from pgprog_data.keys").fetchone() == newest
