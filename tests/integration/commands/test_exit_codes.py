"""The table of exit codes that `pgprog --help` prints, each provoked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_the_exit_codes_of_the_help_are_those_that_commands_end_with(
    terminal: Any, shop: Any, sql: Any
) -> None:
    call = ("process", "call", "orders", "o-1", "--name")
    shop.submit("notify", "orders", "o-1", name="note").wait(timeout=10)
    terminal.type("namespace", "pause", "orders")
    sql.execute("select pgprog_engine._create_namespace('zoo', '{}')")
    sql.execute("select pgprog.init('zoo', 'z-1')")
    ends = {
        0: terminal.type("namespace", "list"),
        1: terminal.type("process", "get", "orders", "none"),
        2: terminal.type("process", "get", "orders"),
        4: terminal.type(*call, "echo", "--timeout", "100ms"),
        5: terminal.type("doctor", "--only", "paused", "--long", "0s"),
        6: terminal.type("doctor", "--only", "workers"),
    }
    terminal.type("namespace", "resume", "orders")
    ends[3] = terminal.type(*call, "refuse")

    told = (main.help or "").partition("Exit codes:")[2]
    assert {code: answer.exit_code for code, answer in ends.items()} == {c: c for c in ends}
    assert [int(line.split()[0]) for line in told.splitlines() if line.strip()[:1].isdigit()] == [
        *range(7),
        130,
        141,
    ]


@pytest.fixture
def unread() -> Iterator[int]:
    """The end of a pipe whose reader has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


# Slow: each starts a program.
@pytest.mark.slow
@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["task", "list", "--help"], ["config", "show"]]
)
def test_a_command_whose_reader_has_ended_ends_quietly_as_shells_say_it(
    words: list[str], buffered: str, unread: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pgprog", *words]
    environment = os.environ | {"PYTHONUNBUFFERED": buffered}
    done = subprocess.run(
        command, stdout=unread, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, check=False
    )

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow  # a program is started
def test_a_command_whose_reader_has_seen_enough_ends_quietly(
    terminal: Any, shop: Any, db: str
) -> None:
    command = [sys.executable, "-m", "pgprog", "process", "watch", "orders", "--json", "--dsn", db]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        first = running.stdout.readline()
        running.stdout.close()
        shop.init("orders", "o-2", {"due": 10})  # what it would print next
        told = running.stderr.read()

    assert first.startswith(b"{")
    assert (running.returncode, told) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow  # a program is started
def test_errors_that_nobody_reads_do_not_change_how_a_command_ends(
    unread: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pgprog", "config", "show"]
    done = subprocess.run(command, stdout=unread, stderr=unread, cwd=tmp_path, check=False)

    assert done.returncode == 128 + signal.SIGPIPE


def test_several_workers_that_would_each_be_the_reader_of_a_machine_are_refused() -> None:
    words = ["worker", "--dsn", "dbname=none", "--processes", "2", "--only", "steps,reader"]
    answer = CliRunner().invoke(main, words)

    assert answer.exit_code == 1
    assert "a machine has one reader" in answer.stderr
    assert "pgprog worker --only reader" in answer.stderr
