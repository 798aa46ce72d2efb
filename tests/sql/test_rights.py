"""Least privilege: each object of the catalogue is tried as each role; the table is the docs'."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # some 4 000 statements, each denied or allowed

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "sql" / "roles.sql"
RIGHTS = ROOT / "docs" / "operations" / "rights.md"
OUR_ROLES = [
    "owner", "app", "worker", "viewer", "payload_viewer", "operator", "replicator",
]  # fmt: skip
MAKE = """
do $$
begin
  if to_regrole('{0}') is null then
    create role {0} nologin;
  end if;
end
$$;
"""
FUNCTIONS = """
select p.oid::regprocedure::text, n.nspname || '.' || p.proname,
  'select ' || p.oid::regproc || '(' || coalesce((
    select string_agg('null::' || format_type(t.oid, null), ', ' order by t.pos)
    from unnest(p.proargtypes::oid[]) with ordinality as t(oid, pos)), '') || ')'
from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
where n.nspname like 'pgprog%'
"""
RELATIONS = """
select c.oid::regclass::text, c.relkind::text,
  (select quote_ident(a.attname) from pg_attribute as a
   where a.attrelid = c.oid and a.attnum > 0 order by a.attnum offset 1 limit 1)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname like 'pgprog%' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
"""
WRITES = {
    "insert": "insert into {} default values",
    "update": "update {} set {} = default where false",
    "delete": "delete from {} where false",
    "truncate": "truncate {}",
}
# A view of a join or a union takes no rows from anybody.
DENIED = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.WrongObjectType,
    psycopg.errors.ObjectNotInPrerequisiteState,
)
SEQUENCE = {
    "nextval": "select nextval('{}')",
    "setval": "select setval('{}', 1)",
    "read": "select * from {}",
}


def wanted() -> dict[str, set[str]]:
    """Return the roles that may, by object, as the table says."""
    lines = [line for line in RIGHTS.read_text().splitlines() if line.startswith("|")]
    roles = [cell.strip() for cell in lines[0].split("|")[2:-1]]
    may: dict[str, set[str]] = {}
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        names = re.findall(r"`([^`]+)`", cells[0])
        assert not set(names) & set(may), f"named twice: {line}"
        assert set(cells[1:]) <= {"", "yes"}, line
        may |= {n: {r for r, yes in zip(roles, cells[1:], strict=True) if yes} for n in names}
    return may


@pytest.fixture(scope="module")
def owned(admin: Any) -> Iterator[psycopg.Connection[Any]]:
    """A database that pgprog_owner migrated, without CREATE on it: the DBA made the schemas."""
    admin.execute("select pg_advisory_lock(4712)")  # roles are of the whole server
    name = f"rights_{os.getpid()}"
    admin.execute(f"create database {name}".encode())
    dsn = make_conninfo(os.environ["PGPROG_TEST_DSN"], dbname=name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in ("pgprog_owner", "test_nobody"):
            connection.execute(MAKE.format(role).encode())
        for schema in ("pgprog", "pgprog_data", "pgprog_engine"):
            connection.execute(f"create schema {schema} authorization pgprog_owner".encode())
        migrate(make_conninfo(dsn, options="-c role=pgprog_owner"))
        publications = (ROOT / "sql" / "publication.sql").read_bytes()
        connection.execute(publications)
        for _ in range(2):
            connection.execute(ROLES.read_bytes())
        admin.execute("select pg_advisory_unlock(4712)")
        connection.execute("set statement_timeout = '5s'")
        yield connection
    admin.execute(f"drop database {name} with (force)".encode())


def may(connection: Any, role: str, statements: dict[str, str]) -> set[str]:
    """Try each statement as a role; return the names of those that it may do."""
    allowed = set()
    with connection.transaction(force_rollback=True):
        connection.execute(f"set local role {role}")
        for name, statement in statements.items():
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement)
            except DENIED:
                continue
            except psycopg.Error:
                pass  # it was let in: no more is asked
            allowed.add(name)
    return allowed


@pytest.mark.parametrize("role", [*OUR_ROLES, "nobody"])
def test_each_role_may_do_exactly_its_part(owned: Any, role: str) -> None:
    functions = owned.execute(FUNCTIONS).fetchall()
    relations = owned.execute(RELATIONS).fetchall()
    statements = {f"execute {signature}": call for signature, _, call in functions}
    expected = {f"execute {signature}": name for signature, name, _ in functions}
    for relation, kind, column in relations:
        tries = SEQUENCE if kind == "S" else {"select": "select from {}", **WRITES}
        statements |= {
            f"{what} {relation}": text.format(relation, column) for what, text in tries.items()
        }
        if kind == "v":
            expected[f"select {relation}"] = relation
    for schema in ("pgprog", "pgprog_data", "pgprog_engine"):
        statements[f"create in {schema}"] = f"create table {schema}.test ()"
    for [publication] in owned.execute("select pubname from pg_publication").fetchall():
        statements[f"alter {publication}"] = f"alter publication {publication} set (publish = '')"

    allowed = may(owned, f"test_{role}" if role == "nobody" else f"pgprog_{role}", statements)
    if role == "owner":
        views = {relation for relation, kind, _ in relations if kind == "v"}
        denied = {name for name in set(statements) - allowed if name.split()[-1] not in views}
        # Publications are the DBA's: to make one takes CREATE on the database.
        assert {name for name in denied if not name.startswith("alter pgprog_")} == set()
    else:
        granted = wanted()
        should = {name for name, object_ in expected.items() if role in granted.get(object_, ())}
        assert allowed == should


def test_the_table_names_all_that_is_not_internal_and_nothing_else(owned: Any) -> None:
    functions = {name for _, name, _ in owned.execute(FUNCTIONS).fetchall()}
    views = {name for name, kind, _ in owned.execute(RELATIONS).fetchall() if kind == "v"}

    assert set(wanted()) == {name for name in functions if "._" not in name} | views


def test_all_belongs_to_the_owner_and_the_rest_of_the_catalogue_is_as_the_roles_say(
    owned: Any,
) -> None:
    strangers = owned.execute(
        "select c.oid::regclass::text from pg_class as c"
        " join pg_namespace as n on n.oid = c.relnamespace"
        " where n.nspname like 'pgprog%' and c.relowner <> 'pgprog_owner'::regrole"
        " union all select p.oid::regprocedure::text from pg_proc as p"
        " join pg_namespace as n on n.oid = p.pronamespace"
        " where n.nspname like 'pgprog%' and p.proowner <> 'pgprog_owner'::regrole"
    )
    public = owned.execute(
        "select 'pgprog objects' from pg_class as c, aclexplode(c.relacl) as a"
        " where c.relnamespace::regnamespace::text like 'pgprog%' and a.grantee = 0"
        " union all select nspname from pg_namespace as n, aclexplode(n.nspacl) as a"
        " where n.nspname like 'pgprog%' and a.grantee = 0"
        " union all select p.proname from pg_proc as p,"
        "   aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a"
        " where p.pronamespace::regnamespace::text like 'pgprog%' and a.grantee = 0"
    )

    assert strangers.fetchall() == []
    assert public.fetchall() == []


def test_what_the_owner_makes_later_is_executable_by_nobody_else(owned: Any) -> None:
    with owned.transaction(force_rollback=True):
        owned.execute("set local role pgprog_owner")
        owned.execute("create function pgprog.made_later() returns int language sql return 1")
        [[may_execute]] = owned.execute(
            "select has_function_privilege('test_nobody', 'pgprog.made_later()', 'execute')"
        ).fetchall()

    assert not may_execute


def test_a_migration_gives_rights_again_where_they_were_given_once(owned: Any) -> None:
    dsn = make_conninfo(owned.info.dsn, options="-c role=pgprog_owner")
    owned.execute("drop function pgprog.stats()")
    owned.execute("grant select on pgprog.process_payloads to pgprog_viewer")
    owned.execute("delete from pgprog_data.schema_functions where name like '%/stats.sql'")

    assert migrate(dsn) == ["functions/api/stats.sql"]
    tries = {"stats": "select * from pgprog.stats()", "more": "table pgprog.process_payloads"}
    assert may(owned, "pgprog_viewer", tries) == {"stats"}


def test_a_migration_lets_no_role_into_a_database_where_none_was_let_in(
    fresh_db: str, owned: Any
) -> None:
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        connection.execute("delete from pgprog_data.schema_functions where name like '%/stats.sql'")
        assert migrate(fresh_db) == ["functions/api/stats.sql"]

        assert may(connection, "pgprog_viewer", {"stats": "select * from pgprog.stats()"}) == set()
