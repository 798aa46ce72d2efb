"""What ended lately is found by the time of its end, whatever its id, and read in few blocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.sql.blocks import blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable

RATES = "select namespace, ended, failed, seconds from pgprog.inspect_rates()"
FAILURES = "select namespace, ended, failed, error_type, detail from pgprog.inspect_failures"
# Their ids begin at *first*.
ENDED = """
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at, ended_at,
  error)
select %(first)s + n, %(namespace)s, 'p', 1, 'call', %(status)s, 1, at, at, at,
  case when %(status)s = 'error' then '{"error_type": "Closed", "detail": "no bank"}'::jsonb end
from generate_series(1, %(count)s) as n,
  (select pgprog_engine._now() - %(ago)s::interval as at) as x
"""
# What autovacuum does as a table grows.
SUMMARIZE = """
select brin_summarize_new_values(c.oid) from pg_class as c join pg_am as a on a.oid = c.relam
where a.amname = 'brin' and c.relkind = 'i' and c.relname ~ '^tasks'
"""
HIGH = 1_000_000


@pytest.fixture
def ended(app: Any, set_clock: Any) -> Callable[..., None]:
    """Makes tasks that ended *ago*; there are partitions for weeks to come, none for those past."""
    set_clock(datetime.now(UTC) + timedelta(hours=2))

    def make(
        namespace: str, count: int, *, ago: str, first: int = 0, status: str = "finished"
    ) -> None:
        values = {"namespace": namespace, "count": count, "first": first, "status": status}
        app.execute(ENDED, values | {"ago": ago})

    return make


def test_what_ended_in_the_last_seconds_is_counted_though_later_tasks_ended_before(
    app: Any, ended: Any
) -> None:
    ended("busy", 2_000, ago="1 min", first=HIGH)
    ended("behind", 50, ago="1 s")

    assert app.execute(RATES).fetchall() == [("behind", 50, 0, 10)]


def test_where_much_ended_only_the_last_tenth_of_the_time_is_counted(app: Any, ended: Any) -> None:
    ended("orders", 1_990, ago="5 s", first=HIGH)
    ended("orders", 8, ago="0.5 s")
    ended("orders", 2, ago="0.5 s", first=100, status="error")
    whole = app.execute(RATES).fetchall()
    ended("orders", 1, ago="5 s", first=200)

    assert whole == [("orders", 2_000, 2, 10)]
    assert app.execute(RATES).fetchall() == [("orders", 10, 2, 1)]


def test_what_fails_at_this_moment_is_found_though_later_tasks_ended_before(
    app: Any, ended: Any
) -> None:
    ended("orders", 2_000, ago="5 min", first=HIGH)
    ended("timers", 20, ago="1 s", status="error")

    assert app.execute(f"{FAILURES}() order by namespace".encode()).fetchall() == [
        ("timers", 20, 20, "Closed", "no bank")
    ]


@pytest.mark.parametrize(
    ("most", "seen"), [(100, 100), (99, 60), (60, 60), (59, 30), (30, 30), (29, 10), (1, 10)]
)
def test_failures_are_counted_for_as_long_as_no_more_ended_than_that(
    app: Any, ended: Any, most: int, seen: int
) -> None:
    for number, (count, ago) in enumerate(
        [(7, "61 min"), (40, "59 min"), (30, "9 min"), (20, "50 s"), (10, "5 s")]
    ):
        ended("orders", count, ago=ago, first=HIGH - number * 1_000, status="error")

    assert app.execute(f"{FAILURES}({most})".encode()).fetchall() == [
        ("orders", seen, seen, "Closed", "no bank")
    ]


@pytest.mark.slow  # makes 100 000 rows
@pytest.mark.parametrize("has_statistics", [False, True])
def test_what_ended_lately_is_read_in_few_blocks_of_a_long_week(
    app: Any, session: Any, ended: Any, has_statistics: bool
) -> None:
    ended("orders", 100_000, ago="61 min", first=HIGH)  # 1 600 blocks
    session().execute(SUMMARIZE)
    if has_statistics:
        session().execute("analyze pgprog_data.tasks")
    ended("orders", 500, ago="1 s")
    lately = ("select * from pgprog.inspect_rates()", "select * from pgprog.inspect_failures()")
    for statement in lately:
        blocks_of(app, statement)  # with what it takes to plan

    assert max(blocks_of(app, statement) for statement in lately) < 800
