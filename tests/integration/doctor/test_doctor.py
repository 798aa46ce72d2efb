"""A healthy system has no finding, whoever looks; and what cannot be seen is said."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from pgprog import Engine, Intent, Namespace, Step
from pgprog.cli import main
from pgprog.store.doctor import Patience, checks, examine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow  # a server of its own: 2 s once

SECOND = timedelta(seconds=1)
PATIENCE = Patience(long=SECOND, check=5 * SECOND, task_retention=timedelta(days=30))


def serve_one(patient: Any) -> None:
    orders: Namespace[Any] = Namespace("orders")

    @orders.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state={})

    with Engine(patient.dsn, [orders]) as engine:
        engine.init("orders", "o-1")


def test_a_healthy_system_has_no_finding(patient: Any) -> None:
    serve_one(patient)

    found = patient.examine("--long", "5m")

    assert found == {"findings": [], "unseen": [], "checks": len(list(checks())) + 2}


@pytest.mark.parametrize(
    "setting", ["datestyle = 'German'", "intervalstyle = 'iso_8601'", "client_encoding = 'latin1'"]
)
def test_a_healthy_system_has_no_finding_however_its_database_writes(
    patient: Any, setting: str
) -> None:
    serve_one(patient)
    patient.sql.execute(f"alter database {patient.sql.info.dbname} set {setting}".encode())

    found = patient.examine("--long", "1m")

    assert found["findings"] == found["unseen"] == []


@pytest.fixture
def operator(patient: Any) -> Iterator[psycopg.Connection[Any]]:
    """A session of a login that may what pgprog_operator may, and no more."""
    with patient.doing("pgprog db roles"):
        patient.sql.execute("create role ada login in role pgprog_operator")
    with psycopg.connect(patient.dsn, user="ada", autocommit=True) as connection:
        yield connection
    patient.sql.execute("drop role ada")


@pytest.mark.usefixtures("operator")
def test_an_operator_sees_all_but_what_other_roles_do(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pgprog.init('orders', 'o-1')")
        dsn = make_conninfo(patient.dsn, user="ada")

        seen = asyncio.run(examine(dsn, patience=PATIENCE)).unseen
        patient.sql.execute(seen[0].mend)
        after = patient.examine("--dsn", dsn)

    assert [each.check for each in seen] == ["transactions"]
    assert seen[0].mend == "grant pg_read_all_stats to ada;"
    assert after["unseen"] == []
    assert [each["check"] for each in after["findings"]] == ["transactions"]


def test_a_role_without_rights_is_told_what_it_does_not_see(patient: Any) -> None:
    patient.sql.execute("create role eve login")
    dsn = make_conninfo(patient.dsn, user="eve")

    found = patient.examine("--dsn", dsn)
    answer = CliRunner().invoke(main, ["doctor", "--dsn", dsn])
    patient.sql.execute("drop role eve")

    assert found["findings"] == []
    assert answer.exit_code == 1, "a monitor would take it for healthy"
    assert answer.stdout.endswith(" checks: nothing found; not all was seen\n")
    assert "not seen: workers: permission denied" in answer.stderr
    assert {"workers", "queue", "schema"} <= {each["check"] for each in found["unseen"]}


def test_a_role_without_rights_beside_a_configuration_is_told_what_it_does_not_see(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the configuration is compared with is not for it either: nothing else was told."""
    monkeypatch.chdir(patient.place)
    patient.sql.execute("create role eve login")

    found = patient.examine("--dsn", make_conninfo(patient.dsn, user="eve"))
    patient.sql.execute("drop role eve")

    assert {"workers", "queue", "settings"} <= {each["check"] for each in found["unseen"]}


def test_a_check_that_takes_too_long_is_given_up_and_told(patient: Any) -> None:
    with patient.session("migration") as app:
        app.execute("begin")
        app.execute("lock table pgprog_data.processes in access exclusive mode")

        found = patient.examine("--only", "beginnings,paused", "--patience", "100ms")

    assert found["findings"] == []
    assert [each["cause"] for each in found["unseen"]] == [
        "it took longer than 100ms and was given up"
    ]


def test_a_database_without_the_schema_is_no_patient(patient: Any) -> None:
    dsn = make_conninfo(patient.dsn, dbname="template1")

    answer = CliRunner().invoke(main, ["doctor", "--dsn", dsn])

    assert answer.exit_code == 1
    assert "run `pgprog db migrate`" in answer.stderr


def test_without_a_database_the_hint_is_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PGPROG_DSN", raising=False)
    monkeypatch.setenv("PGPROG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    answer = CliRunner().invoke(main, ["doctor"])

    assert answer.exit_code == 1
    assert "Hint: `pgprog db start` starts the development server" in answer.stderr


def test_an_unknown_check_is_refused_with_those_there_are() -> None:
    answer = CliRunner().invoke(main, ["doctor", "--only", "wokers"])

    assert answer.exit_code == 2
    assert "no check wokers" in answer.stderr


def test_people_read_what_is_wrong_and_what_mends_it(patient: Any) -> None:
    patient.sql.execute("select pgprog.pause('orders', 'stock-taking')")

    answer = CliRunner().invoke(main, ["doctor", "--long", "0s", "--only", "paused"])

    assert answer.stdout.splitlines()[0] == "warning  namespace orders  (paused)"
    assert "  mend: pgprog namespace resume orders" in answer.stdout.splitlines()
    assert answer.stdout.splitlines()[-1] == "1 checks: 0 critical, 1 warnings"


def test_a_pooler_that_takes_no_transactions_is_told_by_its_answer() -> None:
    def message(tag: bytes, body: bytes) -> bytes:
        return tag + (len(body) + 4).to_bytes(4, "big") + body

    ready = message(b"Z", b"I")
    refusal = b"SFATAL\0VFATAL\0C08P01\0Mtransaction blocks not allowed\0\0"

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                parameters = message(b"S", b"client_encoding\0UTF8\0")
                client.sendall(message(b"R", bytes(4)) + parameters + ready)
                client.recv(4096)
                client.sendall(message(b"E", refusal))

        threading.Thread(target=answer, daemon=True).start()
        port = listening.getsockname()[1]
        dsn = f"host=127.0.0.1 port={port} sslmode=disable gssencmode=disable user=u dbname=d"
        found = asyncio.run(examine(dsn, patience=PATIENCE))

    [finding] = found.findings
    assert (finding.check, finding.severity) == ("pooler", "critical")
    assert "transaction blocks not allowed" in finding.cause
