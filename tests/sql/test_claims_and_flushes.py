"""A claim that only starts tasks waits for no flush, and a crash of the server may take it back."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import pq
from psycopg.rows import namedtuple_row
from tests.sql.conftest import Worker
from tests.waiting import until

from pgprog import migrate
from pgprog.embedded import EmbeddedPostgres

_REGISTER = (
    "select pgprog_engine.register_worker('w', '{orders}', array['{}'::jsonb], '1 hour', '{1}')"
)
_WRITER = "select pid from pg_stat_activity where backend_type = 'walwriter'"


def _session(dsn: str) -> psycopg.Connection[Any]:
    """Connect as soon as the server has recovered."""
    until(lambda: pq.PGconn.ping(dsn.encode()) == pq.Ping.OK)
    return psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row)


def _wait_until_lost(session: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.OperationalError):
        while True:
            session.execute("select 1")


def _worker(session: psycopg.Connection[Any]) -> Worker:
    [worker_id] = session.execute(_REGISTER).fetchone() or [0]
    return Worker(session, worker_id)


@pytest.mark.slow  # a server of its own recovers from a crash
def test_a_step_whose_claim_went_with_a_crash_of_the_server_commits_nothing() -> None:
    """Its number is given again, to another's claim of the same task."""
    with EmbeddedPostgres(durable=False, settings={"autovacuum": "off"}) as server:
        migrate(server.dsn)
        with _session(server.dsn) as session:
            session.execute("select pgprog_engine._create_namespace('orders', '{}')")
            early, other = (_worker(session) for _ in range(2))
            session.execute("select pgprog.init('orders', 'p1')")
            [writer] = session.execute(_WRITER).fetchone() or [0]
            os.kill(writer, signal.SIGSTOP)  # it would flush what nobody waits for
            [held] = early.claim()
            os.kill(writer, signal.SIGKILL)
            _wait_until_lost(session)

        with _session(server.dsn) as session:
            late, other = replace(early, connection=session), replace(other, connection=session)
            [again] = other.claim()
            assert (again.task_id, again.attempt) == (held.task_id, 1)
            assert again.claim_id >> 16 == held.claim_id >> 16

            assert [each.outcome for each in late.complete(held)] == ["lost"]
            assert late.renew() == []
            assert [each.outcome for each in other.complete(again)] == ["done"]


_BACK = (
    "update pgprog_data.queue set status = 'w', claim_id = null, worker_id = null, attempt = 0;"
    "select setval('pgprog_data.claim_ids', %s, false)"
)


def test_a_number_that_is_given_again_makes_another_id(
    app: psycopg.Connection[Any], worker: Worker, make_worker: Any
) -> None:
    """What a crash leaves, by hand."""
    app.execute("select pgprog.init('orders', 'p1')")
    [held] = worker.claim()
    app.execute(_BACK.replace("%s", str(held.claim_id >> 16)).encode())

    other: Worker = make_worker()
    [again] = other.claim()
    assert (again.task_id, again.claim_id >> 16) == (held.task_id, held.claim_id >> 16)
    assert [each.outcome for each in worker.complete(held)] == ["lost"]


def _claimed_with(worker: Worker) -> tuple[int, str]:
    """Claim, and return of how many tasks, and what the commit waits for."""
    with worker.connection.transaction():
        count = len(worker.claim())
        [[setting]] = worker.connection.execute("show synchronous_commit").fetchall()
    return count, setting


def test_a_claim_that_starts_tasks_waits_for_no_flush_and_one_that_finds_none_does(
    app: Any, worker: Worker
) -> None:
    app.execute("select pgprog.init('orders', 'p1')")

    assert _claimed_with(worker) == (1, "off")
    assert _claimed_with(worker) == (0, "on")
    assert app.execute("show synchronous_commit").fetchone() == ("on",)


def test_a_claim_that_starts_a_timer_is_flushed_for_those_who_follow_timers(
    app: Any, worker: Worker, process: str
) -> None:
    app.execute("select pgprog.call('orders', %s)", (process,))
    worker.complete(*worker.claim(), timers={"due": 0})

    assert _claimed_with(worker) == (1, "on")


def test_a_claim_that_ends_what_can_never_run_is_flushed_for_those_who_wait(
    app: Any, worker: Worker, process: str, result_of: Any
) -> None:
    app.execute("select pgprog.call('orders', %s)", (process,))
    worker.complete(*worker.claim(), outcome=4, error='{"detail": "broken"}')
    repairs = [app.execute("select pgprog.repair('orders', 'p1')").fetchone()[0] for _ in range(2)]
    worker.complete(*worker.claim())
    app.execute("select pgprog.init('orders', 'p2')")

    assert _claimed_with(worker) == (1, "on")
    assert result_of(repairs[1])["error"] == {"cause": "process not in error"}
