"""`pgprog worker log-level`: workers that run log more, or less."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tests.integration.test_reload import Worker

from pgprog.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.slow  # programs are started


@pytest.fixture
def worker(db: str, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(db, tmp_path)
    yield made
    made.program.kill()
    made.program.wait()
    made.log.close()


def set_level(db: str, *words: str) -> Result:
    return CliRunner().invoke(main, ["worker", "log-level", *words, "--dsn", db])


def test_all_workers_or_one_change_their_level_while_they_run(worker: Worker, db: str) -> None:
    worker.write(worker="processes: 2, heartbeat_every: 200ms")
    worker.start()
    worker.log.wait(2, event="worker_started")
    answer: list[dict[str, Any]] = json.loads(set_level(db, "warning", "--json").stdout)
    one = str(answer[0]["worker_id"])
    again = set_level(db, "debug", "--worker", one)

    assert [(each["before"], each["after"], each["obeyed"]) for each in answer] == [
        ("info", "warning", True),
        ("info", "warning", True),
    ]
    [said] = worker.log.wait(1, event="log_level_changed", before="warning")
    assert (str(said["worker_id"]), said["after"]) == (one, "debug")
    assert again.exit_code == 0
    assert one in again.stdout
    assert worker.end() == 0


def test_a_worker_that_does_not_answer_in_time_is_named(db: str, sql: Any) -> None:
    sql.execute("select pgprog_engine.register_worker('w', '{}', '{}', '1 hour')")
    answer = set_level(db, "debug", "--timeout", "0.2")

    assert answer.exit_code == 4
    assert "not yet" in answer.stdout


def test_a_worker_that_there_is_not_is_said(db: str) -> None:
    answer = set_level(db, "debug", "--worker", "7")

    assert answer.exit_code == 1
    assert "no worker 7 lives" in answer.stderr
