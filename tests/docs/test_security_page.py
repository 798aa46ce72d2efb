"""What the page on security says to a DBA works, and keeps out whom it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.docs.guide import blocks, is_like

from pgprog.cli import main
from pgprog.client import Client
from pgprog.errors import NotPermitted
from pgprog.store.migrate import apply_roles, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "operations/security.md"
COMMAND = re.compile(r"^\$ pgprog (.*)\n((?:(?!\$ ).*\n)*)", flags=re.MULTILINE)
TEAMS = ["orders_team", "parcels_team"]
MADE = ["shop", "shop_worker", "night_shift", "board", "deploy", "parcels_service", "pool", *TEAMS]


@pytest.fixture
def dba(admin: Any, fresh_db: str) -> Iterator[psycopg.Connection[Any]]:
    """A DBA in a database without pgprog; what the page makes of the server goes again."""
    admin.execute("select pg_advisory_lock(4712)")  # roles are of the whole server
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        for schema in ("pgprog", "pgprog_data", "pgprog_engine"):
            connection.execute(f"drop schema {schema} cascade".encode())
        connection.execute(
            "do $$ begin if to_regrole('pgprog_owner') is null then"
            " create role pgprog_owner nologin; end if; end $$"
        )
        yield connection
        for role in MADE:
            connection.execute(f"drop role if exists {role}".encode())
    admin.execute("select pg_advisory_unlock(4712)")


def test_the_page_on_security_keeps_its_word(dba: Any, fresh_db: str) -> None:
    sql = [text for language, text in blocks(PAGE) if language == "sql"]
    console = [text for language, text in blocks(PAGE) if language == "console"]
    logins, owner, teams, pool, transaction = sql

    dba.execute(owner)
    [dsn] = re.findall(r'--dsn "(.*)"', console[0])
    options = conninfo_to_dict(dsn)
    migrate(make_conninfo(fresh_db, user=options["user"], options=options["options"]))
    apply_roles(fresh_db)
    dba.execute(logins)
    dba.execute("select pgprog.set_settings('orders', '{}', 0)")
    dba.execute(teams)
    dba.execute(pool)

    with psycopg.connect(make_conninfo(fresh_db, user="pool"), autocommit=True) as shared:
        shared.execute(transaction)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shared.execute("select pgprog.get('orders', 'o-1')")
    with (
        Client(make_conninfo(fresh_db, user="parcels_service")) as client,
        pytest.raises(NotPermitted, match="namespace orders is not for role parcels_service"),
    ):
        client.submit("call", "orders", "o-1")

    night_shift = make_conninfo(fresh_db, user="night_shift")
    for typed, expected in re.findall(
        r"^\$ pgprog (.*)\n((?:(?!\$ ).*\n)*)", console[1], re.MULTILINE
    ):
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', typed)]
        answer = CliRunner().invoke(main, [*words, "--dsn", night_shift])
        assert is_like(expected, answer.stdout), answer.output
