"""A namespace that lists its roles is for their members only, also behind a shared login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable

# A login as a pool has it, which inherits nothing, for two teams; one team has a login of its own.
TEAMS = """
do $$
begin
  create role test_orders nologin in role pgprog_app;
  create role test_parcels nologin in role pgprog_app;
  create role "test Orders' lead" nologin in role test_orders;
  create role test_pool login noinherit in role test_orders, test_parcels;
  create role test_alone login in role test_parcels;
exception when duplicate_object or unique_violation then null;
end
$$;
"""
REQUESTS = {
    "init": "select pgprog.init('orders', 'new')",
    "call": "select pgprog.call('orders', 'p1')",
    "notify": "select pgprog.notify('orders', 'p1')",
    "get": "select pgprog.get('orders', 'p1')",
    "get nothing": "select pgprog.get('orders', 'nobody')",
    "history": "select * from pgprog.history('orders', 'p1')",
    "result": "select pgprog.result({done})",
    "result of an open one": "select pgprog.result({open})",
}
FOR_OPERATORS = {
    "cancel": "select pgprog.cancel({open})",
    "repair": "select pgprog.repair('orders', 'p1')",
    "simple_repair": "select pgprog.simple_repair('orders', 'p1')",
    "remove": "select pgprog.remove('orders', 'p1')",
    "put": 'select pgprog.put(\'{{"namespace": "orders", "process_id": "x"}}\')',
    "trace": "select * from pgprog.trace('orders', 'p1')",
    "pause": "select pgprog.pause('orders')",
    "resume": "select pgprog.resume('orders')",
    "purge": "select pgprog.purge('orders')",
    "begin_campaign": "select pgprog.begin_campaign('orders', 'repair')",
    "stop_campaign": "select pgprog.stop_campaign({campaign})",
    "set_settings": "select pgprog.set_settings('orders', '{{}}')",
    "rollback_settings": "select pgprog.rollback_settings('orders', 1)",
}
SUBMIT = (
    "select pos, outcome, message from pgprog.submit_many(array['call', 'call'],"
    " array['orders', 'parcels'], array['p1', 'none'], array[null, null]::jsonb[],"
    " array[null, null]::text[], array[null, null]::text[], array[null, null]::jsonb[],"
    " array[0, 0], array[null, null]::timestamptz[])"
)


@pytest.fixture
def db(fresh_db: str) -> str:
    """A database of our own, for its grants."""
    return fresh_db


@pytest.fixture
def tasks(app: Any, with_roles: Any, process: str) -> dict[str, int]:
    """An ended and an open task of orders, which is for test_orders from here on."""
    with_roles(app)
    app.execute(TEAMS.encode())
    [[done]] = app.execute("select task_id from pgprog.tasks where type = 'init'").fetchall()
    [[open_]] = app.execute("select pgprog.call('orders', 'p1')").fetchall()
    [[campaign]] = app.execute("select pgprog.begin_campaign('orders')").fetchall()
    list_roles(app, ["test_orders", "there is none"])
    return {"done": done, "open": open_, "campaign": campaign}


def list_roles(app: Any, roles: list[str] | None) -> None:
    app.execute("select pgprog.set_settings('orders', %s)", (json.dumps({"roles": roles}),))


@pytest.fixture
def login(db: str, session: Any, tasks: dict[str, int]) -> Callable[[str], Any]:
    """Opens sessions of a role of the server."""

    def connect(user: str) -> Any:
        return session(make_conninfo(db, user=user))

    return connect


def refusal(connection: Any, statement: str) -> tuple[str | None, str | None] | None:
    """Try a statement, which is taken back; return the code and the message of its refusal."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.Error as e:
        return e.sqlstate, e.diag.message_primary
    return None


@pytest.mark.parametrize("name", REQUESTS)
def test_only_members_of_its_roles_ask_and_read(
    login: Any, tasks: dict[str, int], name: str
) -> None:
    statement = REQUESTS[name].format(**tasks)
    alone, pool = login("test_alone"), login("test_pool")
    pool.execute("set role test_orders")

    assert refusal(alone, statement) == ("UP015", "namespace orders is not for role test_alone")
    assert refusal(pool, statement) is None


@pytest.mark.parametrize("name", FOR_OPERATORS)
def test_who_was_given_a_function_of_operators_alone_is_refused_too(
    app: Any, tasks: dict[str, int], name: str
) -> None:
    app.execute("grant execute on all functions in schema pgprog to test_parcels")
    app.execute("set role test_parcels")

    refused = refusal(app, FOR_OPERATORS[name].format(**tasks))
    assert refused == ("UP015", "namespace orders is not for role test_parcels")


def test_each_request_of_a_batch_is_refused_for_itself(app: Any, login: Any) -> None:
    app.execute("select pgprog_engine._create_namespace('parcels', '{}')")

    assert login("test_alone").execute(SUBMIT).fetchall() == [
        (1, "UP015", "namespace orders is not for role test_alone"),
        (2, "UP001", "no process none in namespace parcels"),
    ]


def test_a_lone_request_of_a_batch_is_refused_as_among_others(app: Any, login: Any) -> None:
    lone = (
        "select outcome, message, task_id from pgprog.submit_many(array['call'], array['orders'],"
        " array['p1'], array[null]::jsonb[], array[null], array[null], array[null]::jsonb[],"
        " array[0], array[null]::timestamptz[])"
    )

    assert login("test_alone").execute(lone).fetchall() == [
        ("UP015", "namespace orders is not for role test_alone", None)
    ]


def repairs(connection: Any, *types: str) -> Any:
    """Ask for tasks of a process that there is not, and return the refusals."""
    count, nulls = len(types), [None] * len(types)
    return connection.execute(
        "select outcome, message from pgprog.submit_many(%s, %s, %s, %s::jsonb[], %s::text[],"
        " %s::text[], %s::jsonb[], %s, %s::timestamptz[])",
        ([*types], ["parcels"] * count, ["none"] * count, *[nulls] * 4, [0] * count, nulls),
    ).fetchall()


def test_a_batch_takes_repairs_only_of_who_may_ask_for_one(app: Any, login: Any) -> None:
    app.execute("select pgprog_engine._create_namespace('parcels', '{}')")
    alone = login("test_alone")
    refused = ("UP015", "namespace parcels is not for repairs by role test_alone")
    none = ("UP001", "no process none in namespace parcels")

    assert repairs(alone, "repair") == [refused]
    assert repairs(alone, "repair", "call") == [refused, none]
    for role in ("pgprog_operator", "pgprog_worker"):
        app.execute(f"set role {role}")
        assert repairs(app, "repair") == [none]
    app.execute("reset role; grant execute on function pgprog.repair to test_parcels")
    assert repairs(alone, "repair") == [none]


def test_who_waits_for_many_hears_nothing_of_other_namespaces(
    login: Any, tasks: dict[str, int]
) -> None:
    results = "select task_id from pgprog.results(%s)"
    alone, pool = login("test_alone"), login("test_pool")
    pool.execute("set role test_orders")

    assert alone.execute(results, ([tasks["done"]],)).fetchall() == []
    assert pool.execute(results, ([tasks["done"]],)).fetchall() == [(tasks["done"],)]


def test_a_shared_login_is_who_its_transaction_says_and_nobody_in_between(login: Any) -> None:
    pool = login("test_pool")
    get = "select pgprog.get('orders', 'p1')"

    assert refusal(pool, f"set local role test_orders; {get}") is None
    assert refusal(pool, f"set local role test_parcels; {get}") == (
        "UP015", "namespace orders is not for role test_parcels"
    )  # fmt: skip
    assert refusal(pool, get) == ("42501", "permission denied for schema pgprog")


@pytest.mark.parametrize(
    "statement",
    [
        "set role pgprog_operator",
        "select set_config('role', 'test_orders', true)",
        "set session authorization test_orders",
        "reset role; set role test_orders",
    ],
)
def test_a_login_cannot_say_that_it_is_who_it_is_not(login: Any, statement: str) -> None:
    alone = login("test_alone")

    refused = refusal(alone, f"{statement}; select pgprog.get('orders', 'p1')")
    assert refused is not None
    assert refused[0] in ("42501", "UP015")


def test_the_hint_says_which_roles_may(login: Any) -> None:
    with pytest.raises(psycopg.Error) as caught:
        login("test_alone").execute("select pgprog.get('orders', 'p1')")

    hint = "it is for test_orders, there is none: set role to one of them"
    assert caught.value.diag.message_hint == hint


@pytest.mark.parametrize("role", ["pgprog_operator", "pgprog_worker"])
def test_operators_and_workers_are_never_shut_out(app: Any, login: Any, role: str) -> None:
    list_roles(app, [])
    app.execute(f"set role {role}")

    assert refusal(app, "select pgprog.call('orders', 'p1')") is None
    assert refusal(app, "select pgprog.get('orders', 'p1')") is None


def test_who_may_read_payloads_reads_those_of_every_namespace(app: Any, login: Any) -> None:
    app.execute("set role pgprog_payload_viewer")

    for read in ("get", "history", "trace"):
        assert refusal(app, f"select pgprog.{read}('orders', 'p1')") is None


def test_the_rights_of_a_role_come_with_membership_in_another(app: Any, login: Any) -> None:
    list_roles(app, ["test Orders' lead"])
    get = "select pgprog.get('orders', 'p1')"

    app.execute("set role test_orders")
    assert refusal(app, get) == ("UP015", "namespace orders is not for role test_orders")
    app.execute("reset role")
    app.execute('set role "test Orders\' lead"')
    assert refusal(app, get) is None


def test_a_namespace_without_a_list_is_for_all_who_may_call_the_functions(
    app: Any, login: Any
) -> None:
    list_roles(app, None)

    assert refusal(login("test_alone"), "select pgprog.call('orders', 'p1')") is None


@pytest.mark.parametrize("roles", ["test_orders", ["a", 1], [""], {"a": 1}])
def test_roles_that_are_no_list_of_names_are_refused(app: Any, roles: object) -> None:
    with pytest.raises(psycopg.Error, match=r"roles: .* is not a list of names of database roles"):
        app.execute("select pgprog.set_settings('orders', %s)", (json.dumps({"roles": roles}),))
