"""Completion: commands, options, and namespaces of a database that answers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from pgprog.cli import main


def completed(*words: str) -> list[str]:
    """Return what is offered for the last of these words."""
    complete = BashComplete(main, {}, "pgprog", "_PGPROG_COMPLETE")
    return [each.value for each in complete.get_completions(list(words[:-1]), words[-1])]


def test_commands_and_options_are_completed() -> None:
    assert completed("na") == ["namespace"]
    assert completed("namespace", "pa") == ["pause"]
    assert "--json" in completed("process", "get", "--")


def test_names_of_namespaces_are_read_from_the_database(
    db: str, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("orders", "orders/eu", "stock"):
        sql.execute("select pgprog_engine._create_namespace(%s, '{}')", (name,))
    monkeypatch.setenv("PGPROG_DSN", db)

    assert completed("namespace", "show", "or") == ["orders", "orders/eu"]
    assert completed("process", "get", "st") == ["stock"]
    assert completed("task", "list", "--namespace", "") == ["orders", "orders/eu", "stock"]


def test_a_database_that_does_not_answer_completes_nothing() -> None:
    dead = "host=/nowhere dbname=none"

    assert completed("namespace", "show", "--dsn", dead, "or") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    printed = CliRunner().invoke(main, ["completion", shell])

    assert printed.exit_code == 0
    assert "_PGPROG_COMPLETE" in printed.stdout


@pytest.mark.slow  # starts a shell, and the program twice
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_tabulator_in_a_real_bash_completes_a_command(db: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PGPROG_DSN": db, "PS1": "$ ", "TERM": "dumb"}
    shell = pexpect.spawn("bash", ["--norc", "--noprofile"], env=environ, encoding="utf-8")
    shell.sendline('eval "$(pgprog completion bash)"; echo rea""dy')
    shell.expect("ready", timeout=30)

    shell.send("pgprog namespace res\t")

    shell.expect("namespace resume ", timeout=30)
    shell.close(force=True)
