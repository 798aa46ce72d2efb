"""Roles: what applications, workers, operators and viewers may do, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLES = Path(__file__).parents[2] / "sql" / "roles.sql"
VIEWERS = ["pgprog_viewer", "pgprog_payload_viewer", "pgprog_operator"]
REGISTER = "select pgprog_engine.register_worker('w', array['o'], array['{}'::jsonb], '1 hour')"


@pytest.fixture
def guarded(admin: Any, fresh_db: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with a namespace o and its grants."""
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        connection.execute("select pgprog_engine._create_namespace('o', '{}')")
        admin.execute("select pg_advisory_lock(4712)")  # roles are of the whole server
        for _ in range(2):
            connection.execute(ROLES.read_bytes())
        admin.execute("select pg_advisory_unlock(4712)")
        yield connection


def may(connection: Any, role: str, statement: str) -> bool:
    """Try a statement as a role; nothing of it stays."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def test_an_application_submits_and_reads_answers_and_no_more(guarded: Any) -> None:
    init = "select pgprog.init('o', 'p')"
    assert may(guarded, "pgprog_app", f"{init}; select pgprog.get('o', 'p')")
    for statement in (
        "select pgprog.pause('o')",
        "select pgprog.remove('o', 'p')",
        "select * from pgprog.processes",
        "select * from pgprog_data.processes",
        REGISTER,
    ):
        assert not may(guarded, "pgprog_app", statement)


def test_a_worker_calls_the_functions_of_the_engine_and_no_internal_one(guarded: Any) -> None:
    worker = (
        f"{REGISTER}; select pgprog.init('o', 'p'); select * from pgprog_engine.claim(1, 1);"
        " select * from pgprog_engine.renew_worker(1, '1 s', '{}');"
        " select pgprog_engine.maintain(); select pgprog_engine.drop_old();"
        " select pgprog_engine.erase_old(); select pgprog_engine.measure_queues();"
        " select * from pgprog.namespaces"
    )
    assert may(guarded, "pgprog_worker", worker)
    for statement in (
        "select pgprog_engine._create_namespace('x', '{}')",
        "select * from pgprog_data.queue",
        "select pgprog.pause('o')",
    ):
        assert not may(guarded, "pgprog_worker", statement)


@pytest.mark.parametrize("role", VIEWERS)
def test_viewers_see_every_view_without_payloads(guarded: Any, role: str) -> None:
    guarded.execute("select pgprog.init('o', 'p', '{\"secret\": 1}')")
    for view in ("namespaces", "processes", "tasks", "timers", "workers"):
        assert may(guarded, role, f"select * from pgprog.{view}")
    for function in ("stats()", "health()", "explain('o', 'p')"):
        assert may(guarded, role, f"select * from pgprog.{function}")

    sees_payloads = role != "pgprog_viewer"
    for payload in ("process_payloads", "event_payloads", "get('o', 'p')", "trace('o', 'p')"):
        assert may(guarded, role, f"select * from pgprog.{payload}") is sees_payloads


def test_an_operator_may_all_of_schema_pgprog_and_nothing_else(guarded: Any) -> None:
    execute = (
        "select p.proname from pg_proc as p where p.pronamespace = %s::regnamespace"
        " and has_function_privilege('pgprog_operator', p.oid, 'execute') is distinct from %s"
    )
    assert guarded.execute(execute, ("pgprog", True)).fetchall() == []
    assert guarded.execute(execute, ("pgprog_engine", False)).fetchall() == [("_status_of",)]
    assert may(guarded, "pgprog_operator", "select pgprog.pause('o'); select pgprog.resume('o')")
    assert not may(guarded, "pgprog_operator", "select * from pgprog_data.processes")


def test_nothing_is_executable_by_everybody(guarded: Any) -> None:
    public = guarded.execute(
        "select p.proname from pg_proc as p"
        " where p.pronamespace in ('pgprog'::regnamespace, 'pgprog_engine'::regnamespace)"
        "   and has_function_privilege('public', p.oid, 'execute')"
    )

    assert public.fetchall() == []


def test_functions_with_the_rights_of_their_owner_pin_their_search_path(guarded: Any) -> None:
    wrong = guarded.execute(
        "select p.proname from pg_proc as p"
        " where p.pronamespace in ('pgprog'::regnamespace, 'pgprog_engine'::regnamespace)"
        "   and (p.prosecdef is distinct from (p.proname not like '\\_%%')"
        "     or (p.prosecdef and not %s = any (p.proconfig)))",
        ("search_path=pg_catalog, pgprog, pg_temp",),
    )

    assert wrong.fetchall() == []


def test_a_replicator_reads_the_state_of_the_database_and_no_table(guarded: Any) -> None:
    state = "select * from pgprog.replication_state('{pgprog_events}')"
    assert may(guarded, "pgprog_replicator", state)
    for statement in (
        "select pgprog.get('o', 'p')",
        "select * from pgprog.processes",
        "select * from pgprog_data.processes",
        REGISTER,
    ):
        assert not may(guarded, "pgprog_replicator", statement)
