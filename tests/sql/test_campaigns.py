"""Repair campaigns: each broken process is asked for once, and what became of it is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

MIGRATION = Path(__file__).parents[2] / "sql" / "migrations" / "0011_campaign_counts.sql"
BEGIN = "select pgprog.begin_campaign('orders')"
GO_ON = "select * from pgprog.continue_campaign(%s, %s, %s)"
RESULTS = (
    "select process_id, outcome, detail from pgprog.campaign_results"
    " where campaign_id = %s order by process_id"
)
# What of a campaign has ended long ago.
ENDED = """
insert into pgprog_data.campaign_items (campaign_id, incarnation, process_id, asked_at, outcome)
select c.campaign_id, -n, 'e' || n, now(), 'repaired'
from pgprog_data.campaigns as c, generate_series(1, 3000) as n;
update pgprog_data.campaigns set items = items + 3000, repaired = repaired + 3000;
"""
READ = """
select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::integer from pg_stat_xact_user_tables
where schemaname = 'pgprog_data' and relname = 'campaign_items'
"""
COUNTED = """
select c.repaired, c.failed, c.skipped,
  count(*) filter (where i.outcome = 'repaired'), count(*) filter (where i.outcome = 'failed'),
  count(*) filter (where i.outcome = 'skipped')
from pgprog_data.campaigns as c join pgprog_data.campaign_items as i using (campaign_id)
group by c.campaign_id
"""
REPAIRS = "select count(*) from pgprog.tasks where type = 'repair'"
BROKEN = '{"error_type": "NoPaper", "detail": "no paper in tray 1"}'


def go_on(connection: Any, campaign: int, items: int = 100, *, most: int = 100) -> Any:
    return connection.execute(GO_ON, (campaign, items, most)).fetchone()


@pytest.fixture
def break_them(app: Any, worker: Any) -> Callable[..., None]:
    """Break running processes by a call that fails."""

    def break_(*names: str, error: str = BROKEN) -> None:
        for name in names:
            app.execute("select pgprog.call('orders', %s)", (name,))
        tasks = worker.claim()
        assert len(tasks) == len(names)
        worker.complete(*tasks, outcome=4, error=error)

    return break_


@pytest.fixture
def broken(make_processes: Callable[[int], list[str]], break_them: Any) -> list[str]:
    """Five processes in error."""
    names = make_processes(5)
    break_them(*names)
    return names


@pytest.fixture
def campaign(app: Any, broken: list[str]) -> int:
    """A campaign of all five that has asked for none yet."""
    return int(app.execute(BEGIN).fetchone()[0])


def test_broken_processes_are_found_by_what_broke_them_and_when(
    app: Any, make_processes: Callable[[int], list[str]], break_them: Any
) -> None:
    make_processes(3)
    break_them("q0")
    break_them("q1", error='{"error_type": "NoInk", "detail": "no ink"}')
    [[at]] = app.execute("select now()").fetchall()
    break_them("q2")

    def found(**filters: Any) -> list[str]:
        names = ["error_type", "detail_like", "since"]
        values = [filters.get(name) for name in names]
        rows = app.execute(
            "select process_id from pgprog.broken_processes('orders', %s, %s, %s)", values
        )
        return [name for (name,) in rows]

    assert found() == ["q0", "q1", "q2"]
    assert found(error_type="NoPaper") == ["q0", "q2"]
    assert found(detail_like="no ink%") == ["q1"]
    assert found(since=at) == ["q2"]
    assert found(error_type="NoPaper", since=at) == ["q2"]


def test_a_campaign_asks_for_each_process_once_and_keeps_what_became_of_it(
    app: Any, worker: Any, campaign: int
) -> None:
    assert go_on(app, campaign) == (0, 5, 0, 0, 0)
    assert go_on(app, campaign) == (0, 5, 0, 0, 0)
    tasks = sorted(worker.claim(), key=lambda task: task.process_id)
    assert [task.type for task in tasks] == ["repair"] * 5
    worker.complete(*tasks[:3])
    worker.complete(tasks[3], outcome=5, error='{"error_type": "E", "detail": "still broken"}')
    worker.complete(tasks[4], outcome=2, error='{"rejected": 1}')

    assert go_on(app, campaign) == (0, 0, 3, 2, 0)
    assert app.execute(RESULTS, (campaign,)).fetchall() == [
        ("q0", "repaired", None),
        ("q1", "repaired", None),
        ("q2", "repaired", None),
        ("q3", "failed", "still broken"),
        ("q4", "failed", "rejected"),
    ]
    [[items, by, is_ended]] = app.execute(
        "select items, began_by = session_user, ended_at is not null from pgprog.campaigns"
    ).fetchall()
    assert (items, by, is_ended) == (5, True, True)


def test_a_step_of_a_campaign_reads_none_of_the_items_that_have_ended(
    app: Any, worker: Any, campaign: int
) -> None:
    app.execute(ENDED)
    for _ in range(6):  # a plan for any values may be made by then
        with app.transaction():
            assert go_on(app, campaign, 1)[2] >= 3000
            [[read]] = app.execute(READ).fetchall()
        assert read <= 50
        worker.complete(*worker.claim())

    assert go_on(app, campaign) == (0, 0, 3005, 0, 0)


def test_what_is_counted_of_a_campaign_is_what_became_of_its_processes(
    app: Any, worker: Any, campaign: int, break_them: Any
) -> None:
    app.execute("select pgprog.remove('orders', 'q0')")
    go_on(app, campaign, 3)
    [first, second] = worker.claim()
    worker.complete(first)
    worker.complete(second, outcome=5, error=BROKEN)
    go_on(app, campaign, 1)
    app.execute("select pgprog.stop_campaign(%s)", (campaign,))
    worker.complete(*worker.claim(), outcome=2, error='{"rejected": 1}')
    go_on(app, campaign)

    [counted] = app.execute(COUNTED).fetchall()
    assert counted[:3] == counted[3:] == (1, 2, 2)
    app.execute("update pgprog_data.campaigns set repaired = 0, failed = 0, skipped = 0")
    [_, statement] = MIGRATION.read_text().split("\n\nupdate ")  # as it finds those of before
    app.execute(f"update {statement}".encode())
    assert app.execute(COUNTED).fetchall() == [counted]


def test_no_more_are_open_than_is_allowed(app: Any, worker: Any, campaign: int) -> None:
    assert go_on(app, campaign, 2) == (3, 2, 0, 0, 0)
    assert go_on(app, campaign, 100, most=3) == (2, 3, 0, 0, 0)
    assert go_on(app, campaign, 0) == (2, 3, 0, 0, 0)
    worker.complete(*worker.claim(1))
    assert go_on(app, campaign, 100, most=3) == (1, 3, 1, 0, 0)


def test_a_campaign_that_was_cut_off_before_its_commit_has_asked_for_none(
    app: Any, session: Any, campaign: int
) -> None:
    killed = session()
    killed.execute("begin")
    go_on(killed, campaign, 3)
    killed.close()

    assert app.execute(REPAIRS).fetchone() == (0,)
    assert go_on(app, campaign) == (0, 5, 0, 0, 0)
    assert app.execute(REPAIRS).fetchone() == (5,)


def test_of_two_who_continue_a_campaign_the_second_asks_for_none_twice(
    app: Any, session: Any, campaign: int, wait_for_lock: Callable[[Any], None]
) -> None:
    first, second = session(), session()

    def go_on_at_last() -> Any:
        while True:
            with suppress(psycopg.errors.LockNotAvailable):
                return go_on(second, campaign, 1)

    with ThreadPoolExecutor() as threads:
        for _ in range(2):
            first.execute("begin")
            go_on(first, campaign, 1)
            late = threads.submit(go_on_at_last)
            wait_for_lock(second)
            first.execute("commit")
            late.result()

    assert app.execute(REPAIRS).fetchone() == (4,)
    assert go_on(app, campaign, 0) == (1, 4, 0, 0, 0)


def test_a_campaign_of_no_processes_ends(app: Any) -> None:
    [[campaign]] = app.execute(BEGIN).fetchall()

    assert go_on(app, campaign) == (0, 0, 0, 0, 0)
    assert app.execute("select ended_at is not null from pgprog.campaigns").fetchone() == (True,)


def test_who_was_mended_removed_or_broken_again_meanwhile_is_skipped(
    app: Any, worker: Any, campaign: int, break_them: Any
) -> None:
    for name in ("q0", "q1"):
        app.execute("select pgprog.simple_repair('orders', %s)", (name,))
    break_them("q1")
    app.execute("select pgprog.remove('orders', 'q2')")

    assert go_on(app, campaign) == (0, 2, 0, 0, 3)
    rows = app.execute(RESULTS, (campaign,)).fetchall()
    assert [row[1:] for row in rows[:3]] == [
        ("skipped", "process not in error"),
        ("skipped", rows[1][2]),
        ("skipped", "removed"),
    ]
    assert rows[1][2].startswith("broken again by task ")


def test_what_is_mended_by_hand_while_its_repair_waits_is_skipped(
    app: Any, worker: Any, campaign: int
) -> None:
    go_on(app, campaign)
    app.execute("select pgprog.simple_repair('orders', 'q0')")
    worker.complete(*worker.claim())

    assert go_on(app, campaign) == (0, 0, 4, 0, 1)
    assert ("q0", "skipped", "process not in error") in app.execute(RESULTS, (campaign,)).fetchall()


def test_what_breaks_later_is_for_another_campaign(
    app: Any, campaign: int, worker: Any, make_processes: Any
) -> None:
    app.execute("select pgprog.init('orders', 'late')")
    worker.complete(*worker.claim(), outcome=4, error=BROKEN)

    assert go_on(app, campaign) == (0, 5, 0, 0, 0)


def test_a_campaign_of_simple_repairs_tries_again_what_failed(
    app: Any, worker: Any, make_processes: Callable[[int], list[str]], break_them: Any
) -> None:
    make_processes(2)
    app.execute("select pgprog.notify('orders', 'q0')")
    worker.complete(*worker.claim(), outcome=4, error=BROKEN)
    break_them("q1")
    [[campaign]] = app.execute("select pgprog.begin_campaign('orders', 'simple_repair')").fetchall()

    assert go_on(app, campaign) == (0, 1, 1, 0, 0)  # a call that failed leaves nothing to do
    worker.complete(*worker.claim())
    assert go_on(app, campaign) == (0, 0, 2, 0, 0)


def test_a_simple_repair_of_a_process_that_is_locked_elsewhere_is_left_for_later(
    app: Any, session: Any, broken: list[str]
) -> None:
    [[campaign]] = app.execute("select pgprog.begin_campaign('orders', 'simple_repair')").fetchall()
    holder = session()
    holder.execute("begin")
    holder.execute("select from pgprog_data.processes where process_id = 'q1' for update")

    assert go_on(app, campaign) == (1, 0, 4, 0, 0)
    holder.execute("commit")
    assert go_on(app, campaign) == (0, 0, 5, 0, 0)


def test_processes_that_are_locked_elsewhere_keep_no_others_of_their_campaign_waiting(
    app: Any, session: Any, broken: list[str]
) -> None:
    [[campaign]] = app.execute("select pgprog.begin_campaign('orders', 'simple_repair')").fetchall()
    holder = session()
    holder.execute("begin")
    holder.execute(
        "select from pgprog_data.processes order by incarnation limit 2 for no key update"
    )

    assert go_on(app, campaign, 2) == (3, 0, 2, 0, 0)
    assert go_on(app, campaign, 2) == (2, 0, 3, 0, 0)
    assert go_on(app, campaign, 2) == (2, 0, 3, 0, 0)
    holder.execute("commit")
    assert go_on(app, campaign, 2) == (0, 0, 5, 0, 0)


def test_a_process_that_was_put_in_error_is_not_found_by_the_error_of_a_task_of_this_number(
    app: Any, broken: list[str]
) -> None:
    [[number]] = app.execute("select max(corrupted_by) from pgprog.processes").fetchall()
    process = {"namespace": "orders", "process_id": "put", "status": "error", "detail": "elsewhere"}
    app.execute("select pgprog.put(%s)", (Jsonb({**process, "corrupted_by": number}),))

    found = app.execute(
        "select process_id, raised from pgprog.broken_processes('orders') order by process_id"
    ).fetchall()
    assert found == [("put", None)] + [(name, "NoPaper") for name in sorted(broken)]
    by_error = "select count(*) from pgprog.broken_processes('orders', 'NoPaper')"
    assert app.execute(by_error).fetchone() == (5,)


def test_a_campaign_that_is_stopped_asks_for_no_more(app: Any, worker: Any, campaign: int) -> None:
    go_on(app, campaign, 2)

    assert app.execute("select pgprog.stop_campaign(%s)", (campaign,)).fetchone() == (3,)
    assert go_on(app, campaign) == (0, 2, 0, 0, 3)
    worker.complete(*worker.claim())
    assert go_on(app, campaign) == (0, 0, 2, 0, 3)


@pytest.mark.parametrize("open_", [0, 2])
def test_a_campaign_that_is_stopped_has_ended_when_nothing_is_open(
    app: Any, campaign: int, open_: int
) -> None:
    go_on(app, campaign, open_)
    app.execute("select pgprog.stop_campaign(%s)", (campaign,))

    ended = "select ended_at is not null from pgprog.campaigns where campaign_id = %s"
    assert app.execute(ended, (campaign,)).fetchone() == (open_ == 0,)


def test_a_repair_whose_task_is_not_known_any_more_is_failed(
    app: Any, worker: Any, campaign: int
) -> None:
    go_on(app, campaign)
    worker.complete(*worker.claim())
    app.execute("delete from pgprog_data.tasks where type = 'repair' and process_id = 'q0'")

    assert go_on(app, campaign) == (0, 0, 4, 1, 0)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select pgprog.begin_campaign('ordres')", "no namespace ordres"),
        ("select pgprog.begin_campaign('orders', 'explode')", "not explode"),
        ("select pgprog.begin_campaign('orders', null)", "a campaign is repair or simple_repair"),
        ("select pgprog.begin_campaign('orders', 'simple_repair', 'x')", "neither name nor args"),
        ("select pgprog.continue_campaign(0)", "no campaign 0"),
        ("select pgprog.stop_campaign(0)", "no campaign 0"),
        ("select pgprog.continue_campaign(0, 0, 0)", "max_open"),
    ],
)
def test_what_is_no_campaign_is_refused(app: Any, statement: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message):
        app.execute(statement.encode())
