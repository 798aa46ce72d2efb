"""Settings of namespaces: versions, what is refused, and who comes second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pgprog.config.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

SET = "select pgprog.set_settings('orders', %s, %s, %s)"
ROLLBACK = "select pgprog.rollback_settings('orders', %s)"
COLUMNS = "select concurrency, max_queue, on_full, retention::text from pgprog_data.namespaces"
HISTORY = (
    "select settings_version, settings, changed_by = session_user, reason"
    " from pgprog.settings_history order by settings_version"
)


def put(connection: Any, settings: dict[str, Any], version: int | None = None) -> int:
    row = connection.execute(SET, (Jsonb(settings), version, "why")).fetchone()
    return int(row[0])


def test_a_change_of_settings_is_the_next_version_and_tells_who_made_it_and_why(app: Any) -> None:
    assert put(app, {"concurrency": 2, "retention": "1d12h"}) == 2

    assert app.execute(COLUMNS).fetchall() == [(2, 100000, "refuse", "36:00:00")]
    assert app.execute(HISTORY).fetchall() == [
        (1, {}, True, "created"),
        (2, {"concurrency": 2, "retention": "1d12h"}, True, "why"),
    ]


def test_what_settings_do_not_give_is_at_its_default_again(app: Any) -> None:
    put(app, {"concurrency": 2, "on_full": "drop_lowest", "max_queue": 5})
    put(app, {})

    assert app.execute(COLUMNS).fetchall() == [(None, 100000, "refuse", "30 days")]


def test_all_faults_of_settings_are_named_at_once_and_the_old_ones_stay(app: Any) -> None:
    put(app, {"concurrency": 2})
    faulty = {
        "concurrency": 0,
        "max_queue": "7",
        "on_full": "explode",
        "retention": "40000d",
        "timer_patience": "soon",
        "limits": {"args_bytes": 1 << 40},
        "retry_by_type": {"call": {"max_attempts": 1.5}},
    }

    with pytest.raises(psycopg.Error) as caught:
        put(app, faulty)

    assert caught.value.sqlstate == "UP010"
    for path in ("concurrency", "max_queue", "on_full", "retention", "timer_patience"):
        assert f"{path}: " in str(caught.value)
    assert "limits.args_bytes: 1099511627776 is not a whole number from 1 to 67108864" in str(
        caught.value
    )
    assert "retry_by_type.call.max_attempts: 1.5 is not" in str(caught.value)
    assert app.execute(COLUMNS).fetchall() == [(2, 100000, "refuse", "30 days")]


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("1d1d", 2 * 86_400),
        ("1.5d", 1.5 * 86_400),
        ("1h30m", 5_400),
        ("1.5s500ms", 2),
        ("1ms500us", 0.0015),
        ("0.5ms", 0.0005),
        ("0s", 0),
        ("36500d", 36_500 * 86_400),
        ("876000h", 36_500 * 86_400),
    ],
)
def test_a_duration_is_read_as_the_configuration_reads_it(
    app: Any, duration: str, seconds: float
) -> None:
    put(app, {"retention": duration})

    [(found,)] = app.execute("select retention from pgprog_data.namespaces").fetchall()
    assert found == timedelta(seconds=seconds) == parse_duration(duration)


@pytest.mark.parametrize("duration", ["36500d1us", "9999999999999999d", "9" * 16 + "us", "1d 1h"])
def test_a_duration_that_is_too_long_or_none_is_a_fault_like_others(
    app: Any, duration: str
) -> None:
    with pytest.raises(psycopg.Error, match="is not a duration from 0s to 36500d") as caught:
        put(app, {"retention": duration, "max_queue": 0})

    assert caught.value.sqlstate == "UP010"
    assert "max_queue: " in str(caught.value)


@pytest.mark.parametrize("settings", [[], "text", None, 5])
def test_settings_that_are_no_object_are_refused(app: Any, settings: Any) -> None:
    with pytest.raises(psycopg.Error, match="they are no object"):
        app.execute(SET, (Jsonb(settings), None, None))


def test_a_change_from_a_version_that_has_moved_is_refused(app: Any) -> None:
    put(app, {"concurrency": 2}, 1)

    with pytest.raises(psycopg.Error, match="are at version 2, not 1") as caught:
        put(app, {"concurrency": 3}, 1)

    assert caught.value.sqlstate == "UP014"
    assert app.execute(COLUMNS).fetchone()[0] == 2


def test_a_change_that_is_repeated_makes_no_other_version(app: Any) -> None:
    assert [put(app, {"concurrency": 2}, 1) for _ in range(2)] == [2, 2]


def test_the_second_of_two_who_change_the_same_version_is_refused(
    app: Any, session: Any, wait_for_lock: Callable[[Any], None]
) -> None:
    first, second = session(), session()
    first.execute("begin")
    put(first, {"concurrency": 2}, 1)
    with ThreadPoolExecutor() as threads:
        late = threads.submit(put, second, {"concurrency": 3}, 1)
        wait_for_lock(second)
        first.execute("commit")

        with pytest.raises(psycopg.Error, match="are at version 2, not 1"):
            late.result()

    assert app.execute(COLUMNS).fetchone()[0] == 2


def test_nobody_who_starts_tasks_waits_for_a_change_that_is_not_committed(
    app: Any, session: Any, worker: Any, process: str
) -> None:
    app.execute("select pgprog.call('orders', %s)", (process,))
    operator = session()
    operator.execute("begin")
    put(operator, {"max_crashes": 5})

    [task] = worker.claim()

    assert [row.outcome for row in worker.complete(task)] == ["done"]


def test_settings_are_rolled_back_by_a_version_of_their_own(app: Any) -> None:
    put(app, {"concurrency": 2})
    put(app, {"concurrency": 3})

    assert app.execute(ROLLBACK, (2,)).fetchone() == (4,)

    assert app.execute(COLUMNS).fetchone()[0] == 2
    [*_, (_, _, _, reason)] = app.execute(HISTORY).fetchall()
    assert reason == "rollback to version 2"


def test_a_version_that_never_was_is_not_rolled_back_to(app: Any) -> None:
    with pytest.raises(psycopg.Error, match="namespace orders has no settings of version 7"):
        app.execute(ROLLBACK, (7,))


def test_a_namespace_is_created_by_a_change_from_version_zero_only(app: Any) -> None:
    fresh = "select pgprog.set_settings('parcels', '{}', %s)"
    for version in (None, 1):
        with pytest.raises(psycopg.Error, match="no namespace parcels") as caught:
            app.execute(fresh, (version,))
        assert caught.value.sqlstate == "UP007"

    assert app.execute(fresh, (0,)).fetchone() == (1,)
    with pytest.raises(psycopg.Error, match="are at version 1, not 0"):
        app.execute("select pgprog.set_settings('parcels', '{\"concurrency\": 2}', 0)")


def test_a_claim_tells_the_sum_of_the_versions_of_the_served_namespaces(
    app: Any, worker: Any
) -> None:
    app.execute("select pgprog.set_settings('parcels', '{}', 0)")
    put(app, {"concurrency": 2})

    [last] = worker._rows("select * from pgprog_engine.claim(%s, 1)", (worker.worker_id,))

    assert (last.task_id, last.version) == (None, 2)


@pytest.mark.parametrize(
    ("cache", "caches"),
    [
        ({"enabled": "maybe"}, False),
        ({"enabled": True}, True),
        ({"enabled": None}, False),
        (1, False),
    ],
)
def test_a_setting_of_the_wrong_type_that_only_workers_read_hides_no_namespace(
    app: Any, cache: Any, caches: bool
) -> None:
    put(app, {"cache": cache})

    found = app.execute("select namespace, caches from pgprog.inspect_namespaces()").fetchall()
    assert found == [("orders", caches)]
