"""Any two operations that meet on one process, as interleavings.txt expects it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from tests.sql.meetings import (
    COMPLETIONS,
    HURRIED,
    OPERATIONS,
    SCENES,
    scenes_of,
    start_calls,
)
from tests.sql.stage import Stage

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.sql.meetings import Connection, Meeting

GROUPS = {"request": ["call", "notify"], "complete": COMPLETIONS}
# Functions that change no process, or do so as others do.
ELSEWHERE = {
    "submit_many": "as start, without a worker; a lone request as call and the others",
    "register_worker": "makes a worker that nobody knows yet",
    "end_worker": "as deregister_worker, crashed: both are _end_incarnation; test_end_worker.py",
    "report_crash": "as hand_back, crashed: both are _let_go; test_child_crashes.py",
    "set_settings": "locks the row of a namespace, which only pause, resume and critical do; "
    "test_settings.py, test_pause.py",
    "rollback_settings": "as set_settings",
    "judge_settings": "as set_settings, and passes by whom it would wait for; "
    "test_judged_settings.py",
    "begin_campaign": "reads processes, and writes what only campaigns read; test_campaigns.py",
    "continue_campaign": "as repair and simple_repair of each process, never waiting for long",
    "stop_campaign": "locks a campaign only",
    "purge": "removes as maintain does, and passes by whom it would wait for; test_purge.py",
    "erase_old": "a part of maintain; test_maintenance.py",
    "drop_old": "drops ended tasks only; test_maintenance.py",
    "set_log_level": "changes what only tell_log_level reads, which passes it by; "
    "test_log_level.py",
    "tell_log_level": "as renew_worker, in its statement",
    "newest_events": "reads; volatile for a snapshot of its own",
}
# What a session waits for: a lock of starts, a row of a table, or a new process_id.
WAITS_FOR = """
select coalesce(
  (select 'starts' from pg_locks where pid = %(pid)s and not granted and locktype = 'advisory'),
  (select c.relname from pg_locks as l join pg_class as c on c.oid = l.relation
   where l.pid = %(pid)s and l.locktype = 'tuple' limit 1),
  (select 'id' from pg_locks where pid = %(pid)s and not granted and locktype = 'transactionid'),
  (select locktype from pg_locks where pid = %(pid)s and not granted))
where cardinality(pg_blocking_pids(%(pid)s)) > 0
"""


def read_table() -> list[tuple[str, str, str]]:
    """Return the rows of the table, a pair and what is expected of it."""
    rows: list[list[str]] = []
    for line in Path(__file__).with_name("interleavings.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        first, second, expected = (f"{line} " + " |" * (2 - line.count("|"))).split("|")
        if expected.strip():
            rows.append([first, second, expected.strip()])
        else:
            rows[-1][0] += first
            rows[-1][1] += second
    return [
        (first, second, expected)
        for firsts, seconds, expected in rows
        for first, second in product(spread(firsts), spread(seconds))
    ]


def spread(names: str) -> list[str]:
    return [one for name in names.split() for one in GROUPS.get(name, [name])]


TABLE = read_table()


@pytest.fixture
def stage(app: Any, session: Any, make_worker: Any) -> Stage:
    return Stage(session, make_worker)


def test_every_pair_stands_in_the_table_once() -> None:
    pairs = sorted((first, second) for first, second, _ in TABLE)
    assert pairs == sorted(product(OPERATIONS, OPERATIONS))

    never = {(first, second) for first, second, expected in TABLE if expected.startswith("never")}
    assert never == {pair for pair in pairs if not scenes_of(*pair)}


def test_every_function_that_changes_something_is_an_operation(app: Any) -> None:
    rows = app.execute(
        "select proname from pg_proc where provolatile = 'v' and proname not like E'\\\\_%'"
        " and pronamespace in ('pgprog'::regnamespace, 'pgprog_engine'::regnamespace)"
    ).fetchall()

    operations = {"complete" if name in COMPLETIONS else name for name in OPERATIONS}
    assert {name for (name,) in rows} == operations | set(ELSEWHERE)


def attempt(name: str, meeting: Meeting, connection: Connection) -> str:
    try:
        return OPERATIONS[name](meeting, connection)
    except psycopg.Error as e:
        return str(e.sqlstate)


def wait_for_end(stage: Stage, running: Future[str], hurried: set[str]) -> str | None:
    """Return what a session waits for, or None once it has ended."""
    values = {"pid": stage.second.info.backend_pid}
    wait([running], timeout=0.003)  # most have ended by then, and need no look
    while not running.done():
        row = stage.app.execute(WAITS_FOR, values).fetchone()
        if row is not None and row[0] not in {None, *hurried}:
            return str(row[0])
    return None


def meet(
    stage: Stage,
    threads: ThreadPoolExecutor,
    *,
    first: str,
    second: str,
    meeting: Meeting,
    end: str,
) -> str:
    """Run the second while the first is open; return in words what it did."""
    if "resume" in {first, second}:
        stage.app.execute("select pgprog.pause(%s)", (meeting.namespace,))
    known = list(meeting.asked)
    stage.first.execute("begin")
    OPERATIONS[first](meeting, stage.first)
    undone = set(meeting.asked) - set(known) if end == "rollback" else set()
    running = threads.submit(attempt, second, meeting, stage.second)
    lock = wait_for_end(stage, running, HURRIED.get(second, set()))
    stage.first.execute(end.encode())
    meeting.asked = [task_id for task_id in meeting.asked if task_id not in undone]
    outcome = running.result()
    meeting.asked = [task_id for task_id in meeting.asked if task_id not in undone]
    return f"{lock}: {outcome}" if lock else outcome


@pytest.mark.slow  # some fifty interleavings each
@pytest.mark.parametrize("first", OPERATIONS)
def test_what_meets_an_open_transaction_does_as_the_table_says(stage: Stage, first: str) -> None:
    wrong = []
    with ThreadPoolExecutor(1) as threads:
        for _, second, expected in [row for row in TABLE if row[0] == first]:
            scenes = scenes_of(first, second)
            ends = [*product(scenes, ["commit"]), (scenes[0], "rollback")] if scenes else []
            for scene, end in ends:
                with stage.set(scene) as meeting:
                    seen = meet(
                        stage, threads, first=first, second=second, meeting=meeting, end=end
                    )
                    faults = stage.look_after(meeting)
                if seen != expected_of(expected, end) or faults:
                    wrong.append((second, scene, end, expected, seen, faults))
    assert wrong == []


def expected_of(expected: str, end: str) -> str:
    """Take `lock: after a commit / after a rollback` apart."""
    if ": " not in expected:
        return expected
    lock, outcomes = expected.split(": ")
    return f"{lock}: {outcomes.split(' / ')[end == 'rollback']}"


# What others do in the same namespace.
BESIDE: list[LiteralString] = [
    "select pgprog.init(%(namespace)s, 'new')",
    "select pgprog.call(%(namespace)s, 'free')",
    "select pgprog.cancel(pgprog.notify(%(namespace)s, 'free'))",
    "select pgprog.remove(%(namespace)s, 'new')",
    "select pgprog_engine.measure_queues('0 s')",
    "select pgprog_engine.maintain()",
    "select pgprog_engine.register_worker('w', array[%(namespace)s], array['{}'::jsonb], '1 s')",
]
API = ["init", "call", "notify", "repair", "simple_repair", "put", "remove", "cancel"]


@pytest.mark.parametrize("first", [*API, "pause", "resume"])
def test_an_open_transaction_holds_up_no_other_process_no_batch_and_no_worker(
    stage: Stage, session: Any, first: str
) -> None:
    pauses = first in {"pause", "resume"}
    other = session()
    other.execute("set lock_timeout = '20 ms'")  # a wait is an error
    with stage.set("held" if "held" in SCENES[first] else SCENES[first][0]) as meeting:
        running, due, free = stage.add_neighbours(meeting)
        zombie = stage.register(meeting.namespace)
        if first == "resume":
            stage.app.execute("select pgprog.pause(%s)", (meeting.namespace,))
        worker = meeting.as_worker(other)
        stage.first.execute("begin")
        OPERATIONS[first](meeting, stage.first)

        done = worker.complete(*[task for task in (meeting.held, running) if task])
        claimed = [task.process_id for task in worker.claim()]
        started = start_calls(meeting, other, "p", free)
        assert done[-1].outcome == "done"
        assert (due in claimed) is not pauses
        assert started[-1][0] == ("queued" if pauses else "started")
        assert len(worker.renew()) >= len(claimed)
        assert worker.collect(zombie) == 0
        for statement in BESIDE:
            other.execute(statement, {"namespace": meeting.namespace})
        stage.first.execute("commit")
