"""What only another server can have: a standby, another wal_level, too few connections."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from pgprog.cli import main
from pgprog.embedded import EmbeddedPostgres
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow  # makes a server and starts it again: 4 s

CACHED = """
select pgprog_engine._create_namespace('orders', '{"cache": {"enabled": true}}')
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a server's data stay when it stops; every account can reach it."""
    made = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    made.chmod(0o711)
    yield made / "data"
    shutil.rmtree(made)


def server(place: Path) -> EmbeddedPostgres:
    """A server as initdb leaves it: wal_level is replica, and there are a hundred connections."""
    made = EmbeddedPostgres(place, durable=False)
    made._settings = {}
    return made


def examine(dsn: str, only: str) -> list[dict[str, Any]]:
    answer = CliRunner().invoke(main, ["doctor", "--only", only, "--dsn", dsn, "--json"])
    findings: list[dict[str, Any]] = json.loads(answer.stdout)["findings"]
    return findings


def crowd(dsn: str, opened: ExitStack) -> None:
    """Take 85 connections."""
    for _ in range(85):
        opened.enter_context(psycopg.connect(dsn, application_name="shop"))


def do(dsn: str, mend: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(mend.encode())


def test_what_a_restart_mends_is_told_with_its_restart(place: Path) -> None:
    with server(place) as running, ExitStack() as opened:
        migrate(running.dsn)
        do(running.dsn, CACHED)
        crowd(running.dsn, opened)
        [level] = examine(running.dsn, "wal_level")
        [connections] = examine(running.dsn, "connections")
        for finding in (level, connections):
            assert "then restart PostgreSQL" in finding["mend"]
            do(running.dsn, finding["mend"])
        opened.close()

    with server(place) as running, ExitStack() as opened:
        crowd(running.dsn, opened)

        assert examine(running.dsn, "wal_level,connections") == []

    assert "the cache of namespace orders needs logical" in level["cause"]
    assert "of 97 are taken, 85 of them by shop of postgres" in connections["cause"]


def test_walsenders_take_no_places_of_other_connections(place: Path) -> None:
    made = server(place)
    made._settings = {"max_connections": "12", "wal_level": "logical"}
    with made as running, ExitStack() as opened:
        migrate(running.dsn)
        for _ in range(8):
            stream = make_conninfo(running.dsn, replication="database")
            opened.enter_context(psycopg.connect(stream, autocommit=True))

        assert examine(running.dsn, "connections") == []  # 1 of 9, which is the doctor's


@pytest.fixture
def till(place: Path) -> Iterator[Callable[..., str]]:
    """Starts a server where till, a program without privileges, has eight connections."""
    with ExitStack() as opened:

        def start(*, limit: str = "select", **settings: str) -> str:
            made = server(place)
            made._settings = settings
            dsn = opened.enter_context(made).dsn
            migrate(dsn)
            do(dsn, "create role till login; grant usage on schema pgprog to till")
            do(dsn, "create role other login connection limit 1")
            do(dsn, limit)
            for user in ["other"] + ["till"] * 8:
                theirs = make_conninfo(dsn, user=user)
                opened.enter_context(psycopg.connect(theirs, application_name="shop"))
            return dsn

        yield start


def test_connections_that_are_reserved_for_others_are_not_free(till: Any, admin: Any) -> None:
    if admin.info.server_version < 160000:
        pytest.skip("reserved_connections came with PostgreSQL 16")
    dsn = till(max_connections="21", reserved_connections="8")

    [finding] = examine(dsn, "connections")

    assert finding["subject"] == "connections"
    assert finding["cause"] == "10 of 10 are taken, 8 of them by shop of till"


@pytest.mark.parametrize(
    ("limit", "subject", "cause"),
    [
        (
            "alter role till connection limit 9",
            "connections of role till",
            "8 of 9 are taken, 8 of them by shop of till",
        ),
        (
            "alter database postgres connection limit 10",
            "connections to database postgres",
            "10 of 10 are taken, 8 of them by shop of till",
        ),
    ],
    ids=["role", "database"],
)
def test_a_limit_of_a_role_that_uses_pgprog_or_of_the_database_is_told_and_raised(
    till: Any, limit: str, subject: str, cause: str
) -> None:
    dsn = till(limit=limit)
    [finding] = examine(dsn, "connections")
    do(dsn, finding["mend"])

    assert (finding["subject"], finding["cause"]) == (subject, cause)
    assert examine(dsn, "connections") == []


def test_a_standby_is_told_from_a_server_that_takes_writes(place: Path) -> None:
    with server(place) as running:
        migrate(running.dsn)
    (place / "standby.signal").touch(0o644)

    with server(place) as running:
        [finding] = examine(running.dsn, "standby")
        do(running.dsn, finding["mend"])

        assert examine(running.dsn, "standby") == []
    assert "it is a standby" in finding["cause"]
