"""`pgprog db`, as a person or a script types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # makes a database cluster: 0.6 s or more


def _db(command: str) -> dict[str, object]:
    answer = CliRunner().invoke(main, ["db", *command.split(), "--json"])
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert isinstance(found, dict)
    return found


def test_the_server_is_started_found_and_stopped_by_commands(home: Path) -> None:
    started, again, found, stopped = _db("start"), _db("start"), _db("status"), _db("stop")

    assert started["is_running"]
    assert started == again == found
    assert not stopped["is_running"]
    assert stopped["dsn"] == started["dsn"]


def test_a_running_server_is_shown_with_a_line_for_psql(home: Path) -> None:
    dsn = _db("start")["dsn"]

    shown = CliRunner().invoke(main, ["db", "status"]).output

    assert f'psql "{dsn}"' in shown


def test_a_database_is_migrated_and_checked_by_commands(home: Path) -> None:
    _db("start")
    before = CliRunner().invoke(main, ["db", "check"])
    planned = _db("migrate --dry-run")["files"]
    applied = _db("migrate")["files"]

    assert before.exit_code == 1
    assert "pgprog db migrate" in before.stderr
    assert planned == applied
    assert _db("check") == {"current": True, "missing": [], "missing_publications": []}


def test_the_schema_is_printed_as_one_script() -> None:
    printed = CliRunner().invoke(main, ["db", "sql"]).stdout

    assert printed.startswith("begin;")
    assert "create table pgprog_data.queue" in printed


def test_the_script_of_the_roles_is_sql_and_no_json() -> None:
    both = CliRunner().invoke(main, ["db", "roles", "--print", "--json"])
    printed = CliRunner().invoke(main, ["db", "roles", "--print"])

    assert both.exit_code == 2
    assert "--print prints SQL: leave --json out" in both.stderr
    assert printed.exit_code == 0
    assert "create role pgprog_app" in printed.stdout
