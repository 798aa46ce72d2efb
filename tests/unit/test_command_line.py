from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from pgprog import cli
from pgprog.cli import main
from pgprog.embedded import DevelopmentServer
from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_the_program_without_arguments_tells_a_newcomer_everything() -> None:
    printed = CliRunner().invoke(main, ["--help"]).output

    assert "Exit codes:" in printed
    assert all(name in printed for name in cli.COMMANDS)


def test_what_a_terminal_cannot_show_is_written_as_python_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "pgprog.yaml"
    file.write_text("dsn: dbname=\u0436\n", encoding="utf-8")

    answer = CliRunner(charset="latin-1").invoke(main, ["config", "show", "--config", str(file)])

    assert answer.exit_code == 0
    assert "dbname=\\u0436 " in answer.output


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    answer = CliRunner().invoke(main, [name, "--help"])

    assert answer.exit_code == 0
    assert answer.output.startswith("Usage:")


def leaves(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        elif command is not None:
            yield f"{path}{name}", command


def test_every_command_speaks_json_but_those_that_print_a_script_or_serve() -> None:
    without = {
        path
        for path, command in leaves(main)
        if not any("--json" in each.opts for each in command.params)
    }

    assert without == {"completion", "db sql", "dev"}


def test_every_option_is_explained() -> None:
    unexplained = [
        f"{path} {each.opts[0]}"
        for path, command in leaves(main)
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden and not each.help
    ]

    assert unexplained == []


def test_an_expected_failure_is_a_message_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(server: DevelopmentServer) -> None:
        message = "there is no room"
        raise ConfigError(message, hint="make some")

    monkeypatch.setattr(DevelopmentServer, "start", fail)

    answer = CliRunner().invoke(main, ["db", "start"])

    assert answer.exit_code == 1
    assert answer.stderr == "Error: there is no room\nHint: make some\n"
    assert answer.stdout == ""


def test_a_wrong_command_line_has_an_exit_code_of_its_own() -> None:
    assert CliRunner().invoke(main, ["db", "strat"]).exit_code == 2


def test_a_role_that_there_is_not_is_named_with_those_there_are() -> None:
    answer = CliRunner().invoke(main, ["worker", "--only", "steps, reeder"])

    assert answer.exit_code == 2
    assert "no role 'reeder'; there are steps, collector, maintenance" in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["process", "repair", "--all", "--namespace", "orders", "--priority", "3000000000"],
        ["process", "call", "orders", "o-1", "--priority", "-1000001"],
        ["process", "repair", "--all", "--namespace", "orders", "--error-type", "\udcff"],
        ["process", "repair", "--all", "--namespace", "orders", "--detail-like", "\udcff%"],
        ["process", "repair", "--all", "--namespace", "orders", "--name", "\udcff"],
        ["audit", "list", "--action", "\udcff"],
        ["worker", "log-level", "debug", "--worker", "99999999999999999999"],
    ],
)
def test_what_the_database_cannot_hold_is_a_wrong_command_line(words: list[str]) -> None:
    answer = CliRunner().invoke(main, [*words, "--dsn", "host=nowhere.invalid"])

    assert answer.exit_code == 2
    assert words[-2] in answer.stderr


@pytest.mark.parametrize("rate", ["nan", "inf", "0"])
def test_a_rate_that_nobody_can_keep_to_is_a_wrong_command_line(rate: str) -> None:
    words = ["process", "repair", "--all", "--resume", "1", "--per-second", rate]
    answer = CliRunner().invoke(main, [*words, "--dsn", "host=nowhere.invalid"])

    assert answer.exit_code == 2
    assert "--per-second" in answer.stderr
