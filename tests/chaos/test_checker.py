"""The checker finds what is planted, by the name of its invariant: one calm run, corrupted."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from tests.chaos import checker, evidence
from tests.chaos.evidence import Evidence, Op, Run
from tests.chaos.run import Plan, run, workplace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.slow  # programs run for some seconds


class Calm(NamedTuple):
    dsn: str
    logs: Path


@pytest.fixture(scope="module")
def calm(module_db: str) -> Iterator[Calm]:
    with workplace() as place:
        plan = Plan(seconds=2, tasks=700, seed=7, rate=150, workers=1, clients=2, pack=(), packs=0)
        asyncio.run(run(place, module_db, plan))
        yield Calm(module_db, place / "logs")


@pytest.fixture
def corruptible(calm: Calm) -> Iterator[Connection]:
    """A session whose transaction is rolled back."""
    with psycopg.connect(calm.dsn) as connection:
        yield connection
        connection.rollback()


def named(breaches: list[checker.Breach]) -> set[str]:
    return {breach.invariant for breach in breaches}


def test_a_calm_run_has_no_breach(calm: Calm, corruptible: Connection) -> None:
    found = evidence.load(corruptible, calm.logs)

    assert checker.check(found) == []
    assert len(found.ops) > 200
    assert {task.status for task in found.tasks.values()} == {"finished", "error", "cancelled"}


# Each is one statement; what it plants is seen by its invariant alone.
ROWS = {
    "an attempt beside an init: I1": """
        insert into pgprog_data.attempts (task_id, claim_id, attempt, outcome, started_at, ended_at)
        select c.task_id, 0, 99, 'retry', i.started_at + (i.ended_at - i.started_at) / 2, i.ended_at
        from pgprog_data.tasks as i
        join pgprog_data.tasks as c on c.incarnation = i.incarnation and c.type = 'call'
        where i.type = 'init' and i.status = 'finished' limit 1""",
    "a task that was known waits while others run: I2": """
        update pgprog_data.tasks set claim_id = null, ended_at = ended_at + interval '1 hour'
        where task_id = (
          select c.task_id from pgprog_data.tasks as c
          join pgprog_data.tasks as d on d.incarnation = c.incarnation and d.type = 'call'
            and d.claim_id is not null and d.started_at > c.ended_at + interval '0.3 s'
            and d.task_id > c.task_id
          where c.type = 'notify' and c.status = 'finished' order by c.task_id limit 1)""",
    "a call before its init: I2": """
        update pgprog_data.tasks set started_at = started_at - interval '1 day',
          ended_at = started_at - interval '1 day' + interval '1 ms'
        where task_id = (select min(task_id) from pgprog_data.tasks
          where type = 'timeout' and claim_id is not null)""",
    "a state that counts too many steps: I3": """
        update pgprog_data.processes
        set state = jsonb_set(state, '{steps}', to_jsonb((state ->> 'steps')::int + 1))
        where incarnation = (select max(incarnation) from pgprog_data.processes
          where state is not null)""",
    "a state without an event: I3": """
        update pgprog_data.processes
        set state = jsonb_set(state, '{events}', to_jsonb((state ->> 'events')::int - 1))
        where incarnation = (select max(incarnation) from pgprog_data.processes
          where state is not null)""",
    "a payment twice: I3": "insert into chaos_payments select * from chaos_payments limit 1",
    "no payment: I3": """
        delete from chaos_payments where ctid = (select min(ctid) from chaos_payments)""",
    "a payment of a task that failed: I3": """
        insert into chaos_payments select task_id, process_id, 'x' from pgprog_data.tasks
        where name like 'pay%' and response is null limit 1""",
    "a timer of a step that was cancelled: I3": """
        update pgprog_data.tasks set name = 't' || (
          select task_id from pgprog_data.tasks where status = 'cancelled' limit 1)
        where task_id = (select min(task_id) from pgprog_data.tasks where type = 'timeout')""",
    "a lost claim that committed: I4": """
        insert into pgprog_data.attempts (task_id, claim_id, attempt, outcome, ended_at)
        select task_id, claim_id, attempt, 'lost', ended_at from pgprog_data.tasks
        where response is not null limit 1""",
    "a task that ended twice: I4": """
        insert into pgprog_data.tasks select * from pgprog_data.tasks
        where response is not null limit 1""",
    "a task that is gone: I5": """
        delete from pgprog_data.tasks where task_id = (
          select max(task_id) from pgprog_data.tasks
          where response is null and type = 'call' and key is null)""",
    "a task that is left: I5": """
        insert into pgprog_data.queue (
          task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
        select 99999999, namespace, process_id, incarnation, 'call', 'b', now(), now(), now()
        from pgprog_data.processes limit 1""",
    "an event that is gone: I6": """
        delete from pgprog_data.events where (incarnation, event_id) = (
          select incarnation, 2 from pgprog_data.processes where last_event_id > 3 limit 1)""",
    "an event out of time: I6": """
        update pgprog_data.events set at = at - interval '1 h'
        where (incarnation, event_id) = (
          select incarnation, 2 from pgprog_data.processes where last_event_id > 3 limit 1)""",
    "a key of another task: I7": """
        update pgprog_data.keys set task_id = task_id + 1
        where key = (select key from pgprog_data.keys order by key limit 1)""",
}


@pytest.mark.parametrize("planted", ROWS)
def test_what_is_wrong_in_the_tables_is_named(
    calm: Calm, corruptible: Connection, planted: str
) -> None:
    changed = corruptible.execute(ROWS[planted].encode()).rowcount

    breaches = checker.check(evidence.load(corruptible, calm.logs))

    assert changed == 1
    assert named(breaches) == {planted[-2:]}, breaches


def two_runs_at_once(found: Evidence) -> None:
    earlier = next(run for run in found.runs.values() if _is_committed(found, run))
    middle = (earlier.began["mono"] + earlier.last) / 2
    began = earlier.began
    later = {**began, "run": "0-0", "pid": 0, "attempt": 9, "mono": middle, "wall": began["wall"]}
    found.runs["0-0"] = Run(later, later, earlier.last)


def two_runs_swapped(found: Evidence) -> None:
    lanes: dict[tuple[int, str], list[Run]] = {}
    for each in found.runs.values():
        task = found.tasks[each.began["task"]]
        if _is_committed(found, each) and each.began["by"]:
            lanes.setdefault((task.incarnation, each.began["by"]), []).append(each)
    known = {op.task for op in found.ops.values() if op.asked["by"]}
    one, other = next(
        (a, b)
        for runs in lanes.values()
        for a, b in itertools.pairwise(runs)
        if a.began["seq"] < b.began["seq"] and {a.began["task"], b.began["task"]} <= known
    )
    for place in ("mono", "wall"):
        one.began[place], other.began[place] = other.began[place], one.began[place]
    one.last, other.last = other.last, one.last


def an_answer_of_no_run(found: Evidence) -> None:
    del found.runs[next(r for r, run in found.runs.items() if _is_committed(found, run))]


def an_acknowledged_task_that_is_not(found: Evidence) -> None:
    _plain_op(found).acked = {"task": 99999999, "mono": 0.0, "wall": 0.0}


def a_transaction_that_came_back(found: Evidence) -> None:
    op = next(o for o in found.ops.values() if o.other and o.other["what"] == "rolled_back")
    order = found.rows["orders"][0]
    found.rows["orders"].append(order._replace(op=op.asked["op"]))


def a_read_that_is_no_more(found: Evidence) -> None:
    living = {process.incarnation for process in found.rows["processes"]}
    seen = next(r for r in found.reads if r["incarnation"] in living and r["events"])
    seen["events"][0][2] = "another run"


def a_key_with_two_tasks(found: Evidence) -> None:
    one, *others = _keyed_ops(found)
    other = next(op for op in others if op.task != one.task)
    found.ops["again"] = Op({**one.asked, "key": other.asked["key"]}, one.acked, one.told)


def a_key_with_two_answers(found: Evidence) -> None:
    op = next(_keyed_ops(found))
    again = Op({**op.asked, "op": "again"}, op.acked, {**(op.told or {}), "response": 1})
    again.acked = {**(op.acked or {})}
    found.ops["again"] = again


def an_answer_that_is_not_true(found: Evidence) -> None:
    op = _plain_op(found)
    op.told = {**(op.told or {}), "response": {"steps": 0}}


def an_end_that_was_not_told(found: Evidence) -> None:
    _plain_op(found).told = None


def _is_committed(found: Evidence, run: Run) -> bool:
    response = found.tasks[run.began["task"]].response
    return response is not None and response["run"] == run.began["run"]


def _keyed_ops(found: Evidence) -> Iterator[Op]:
    return (
        op
        for op in found.ops.values()
        if op.asked["key"] and not op.asked["other"] and op.told is not None
    )


def _plain_op(found: Evidence) -> Op:
    return next(
        op
        for op in found.ops.values()
        if op.told and op.told["status"] == "finished" and not op.asked["key"]
    )


LOGS: dict[Callable[[Evidence], None], set[str]] = {
    two_runs_at_once: {"I1"},
    two_runs_swapped: {"I2"},
    an_answer_of_no_run: {"I3"},
    an_acknowledged_task_that_is_not: {"I5"},
    a_transaction_that_came_back: {"I5"},
    a_read_that_is_no_more: {"I6"},
    a_key_with_two_tasks: {"I7"},
    # Who was told something else than the table says was also told something that is not true.
    a_key_with_two_answers: {"I7", "I8"},
    an_answer_that_is_not_true: {"I8"},
    an_end_that_was_not_told: {"I8"},
}


@pytest.mark.parametrize("plant", LOGS)
def test_what_is_wrong_in_the_logs_is_named(
    calm: Calm, corruptible: Connection, plant: Callable[[Evidence], None]
) -> None:
    found = evidence.load(corruptible, calm.logs)
    plant(found)

    breaches = checker.check(found)

    assert named(breaches) == LOGS[plant], breaches
