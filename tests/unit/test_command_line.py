from __future__ import annotations

import pytest
from click.testing import CliRunner

from pgprog import cli
from pgprog.cli import main
from pgprog.embedded import DevelopmentServer
from pgprog.errors import ConfigError


def test_the_program_without_arguments_tells_a_newcomer_everything() -> None:
    printed = CliRunner().invoke(main, ["--help"]).output

    assert "Exit codes:" in printed
    assert all(name in printed for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    answer = CliRunner().invoke(main, [name, "--help"])

    assert answer.exit_code == 0
    assert answer.output.startswith("Usage:")


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
