"""A well server of its own, which each test makes ill in one way."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgprog.cli import main
from pgprog.embedded import EmbeddedPostgres
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = psycopg.Connection[Any]

# What a worker serves; states of orders are of version 2.
_HANDLERS = """
from pgprog import Intent, Namespace
orders = Namespace("orders", state_version=2)

@orders.upcast(from_version=1)
def newer(state):
    return state

@orders.processor
def anything(step, args=None):
    return Intent(state=args)
"""
_CONFIGURATION = """
worker: {lease: 2s, heartbeat_every: 200ms, poll_every: 100ms}
namespaces: {orders: {handlers: 'shop:orders'}}
"""
_SECONDS = 15


@dataclass(frozen=True)
class Patient:
    """A database, its superuser's session, and the doctor."""

    dsn: str
    sql: Connection
    place: Path

    def examine(self, *words: str) -> dict[str, Any]:
        """Return what the doctor says of the database."""
        answer = CliRunner().invoke(main, ["doctor", "--long", "0s", *words, "--json"])
        assert answer.exit_code in {0, 1, 5, 6}, answer.output
        found: dict[str, Any] = json.loads(answer.stdout)
        assert answer.exit_code == max(
            ({"warning": 5, "critical": 6}[each["severity"]] for each in found["findings"]),
            default=1 if found["unseen"] else 0,
        )
        return found

    def finding(self, check: str, cause: str) -> dict[str, Any]:
        """Return the one finding of a check with this cause; settings take a moment to be read."""
        end = time.monotonic() + _SECONDS
        while True:
            found = self.examine("--only", check)
            fitting = [each for each in found["findings"] if re.search(cause, each["cause"])]
            if fitting or time.monotonic() > end:
                [finding] = fitting or [found]
                return dict(finding)

    def is_mended(self, check: str, cause: str) -> dict[str, Any]:
        """Do what a finding says, see that it is gone, and return it."""
        finding = self.finding(check, cause)
        with self.doing(finding["mend"]):
            end = time.monotonic() + _SECONDS
            while left := self._like(finding):
                assert time.monotonic() < end, left
        return finding

    @contextmanager
    def doing(self, mend: str) -> Iterator[None]:
        """Do what mends a finding, as a person at a shell or in psql would; a worker runs on."""
        words = shlex.split(mend) if mend.startswith("pgprog ") else []
        if words[:2] == ["pgprog", "worker"]:
            with self.worker(*words[2:]):
                yield
            return
        if words:
            answer = CliRunner().invoke(main, words[1:])
            assert answer.exit_code == 0, answer.output
        else:
            for statement in mend.partition("  -- ")[0].split(";"):
                if statement.strip():
                    self.sql.execute(statement.encode())
        yield

    @contextmanager
    def worker(self, *options: str) -> Iterator[None]:
        program = subprocess.Popen(
            [sys.executable, "-m", "pgprog", "worker", *options],
            cwd=self.place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait(_SECONDS)

    @contextmanager
    def session(self, name: str, **options: Any) -> Iterator[Connection]:
        """A session of a program of this name, which may lose it."""
        connection = psycopg.connect(self.dsn, application_name=name, autocommit=True, **options)
        try:
            yield connection
        finally:
            connection.close()

    def register(self, lease: str = "1 hour") -> int:
        """Make a worker of the namespace orders that does nothing by itself."""
        row = self.sql.execute(
            "select pgprog_engine.register_worker('w', '{orders}', array['{}'::jsonb], %s)",
            (lease,),
        ).fetchone()
        return int(row[0]) if row else 0

    def _like(self, finding: dict[str, Any]) -> list[Any]:
        found = self.examine("--only", finding["check"])
        return [each for each in found["findings"] if each["subject"] == finding["subject"]]


@pytest.fixture(scope="session")
def well_server() -> Iterator[EmbeddedPostgres]:
    """A server whose settings endanger nothing, in memory, and none on its command line."""
    server = EmbeddedPostgres(durable=False)
    server._settings = {
        "wal_level": "logical",
        "max_prepared_transactions": "5",
        "autovacuum_freeze_max_age": "100000",
    }
    with server:
        migrate(server.dsn)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            if mutant := os.environ.get("PGPROG_TEST_MUTANT"):
                connection.execute(Path(mutant).read_bytes())
            connection.execute("create database well template postgres")
        yield server


@pytest.fixture
def patient(
    well_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Patient]:
    """A well database, where a namespace orders is known."""
    name = f"patient_{time.monotonic_ns()}"
    dsn = make_conninfo(well_server.dsn, dbname=name)
    (tmp_path / "shop.py").write_text(_HANDLERS)
    (tmp_path / "pgprog.yaml").write_text(_CONFIGURATION)
    monkeypatch.setenv("PGPROG_DSN", dsn)
    with psycopg.connect(make_conninfo(well_server.dsn, dbname="template1"), autocommit=True) as on:
        on.execute(sql.SQL("create database {} template well").format(sql.Identifier(name)))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select pgprog_engine._create_namespace('orders', '{}')")
            yield Patient(dsn=dsn, sql=connection, place=tmp_path)
        on.execute("alter system reset all")
        on.execute("select pg_reload_conf()")
        on.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
