"""Commands find their database where the configuration has faults, and say which is not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

_NOWHERE = "postgresql://app:sesame@127.0.0.1:1/shop"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in, and nothing of pgprog in the environment."""
    for name in ("PGPROG_DSN", "PGPROG_CONFIG", "PGPROG_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def push_faults(place: Path, dsn: str) -> None:
    """Write a configuration that no worker takes."""
    namespaces = {"orders": {"handlers": "shop:orders", "step_timeout": 20}}
    (place / "pgprog.yaml").write_text(json.dumps({"dsn": dsn, "namespaces": namespaces}))


def test_faults_of_a_configuration_keep_nobody_from_looking(place: Path, db: str) -> None:
    push_faults(place, db)

    assert typed("task", "list", "--json").stdout == "[]\n"
    assert typed("top", "--once").exit_code == 0


def test_faults_of_a_configuration_are_a_finding(place: Path, db: str) -> None:
    push_faults(place, db)

    answer = typed("doctor", "--only", "configuration", "--json")

    assert answer.exit_code == 6, answer.stderr
    examination = json.loads(answer.stdout)
    [found] = examination["findings"]
    assert (found["check"], found["severity"]) == ("configuration", "critical")
    assert "namespaces.orders.step_timeout: 20 is not a duration" in found["cause"]
    assert len(found["evidence"]["faults"]) == 1
    assert typed(*found["mend"].split()[1:]).exit_code == 1


def test_a_configuration_without_faults_is_no_finding(place: Path, db: str) -> None:
    (place / "pgprog.yaml").write_text(json.dumps({"dsn": db}))

    answer = typed("doctor", "--only", "configuration")

    assert (answer.exit_code, answer.stdout) == (0, "1 checks: nothing found\n")


def test_a_configuration_that_is_no_yaml_leaves_the_way_by_hand(place: Path, db: str) -> None:
    (place / "pgprog.yaml").write_text("dsn: [")

    refused = typed("task", "list")
    by_hand = typed("doctor", "--only", "configuration", "--dsn", db)

    assert refused.exit_code == 1
    assert "Hint: --dsn names a database without it" in refused.stderr
    assert by_hand.exit_code == 6
    assert "pgprog.yaml is not YAML" in by_hand.stdout


@pytest.mark.parametrize("words", [("task", "list"), ("db", "check"), ("doctor",)])
@pytest.mark.parametrize("origin", ["--dsn", "PGPROG_DSN", "pgprog.yaml"])
def test_a_database_that_is_not_there_is_named_with_who_wants_it(
    words: tuple[str, ...], origin: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match origin:
        case "--dsn":
            words = (*words, "--dsn", _NOWHERE)
        case "PGPROG_DSN":
            monkeypatch.setenv("PGPROG_DSN", _NOWHERE)
        case _:
            (place / "pgprog.yaml").write_text(json.dumps({"dsn": _NOWHERE}))

    answer = typed(*words)

    assert answer.exit_code == 1
    assert f"shop on 127.0.0.1 is what {origin} says" in answer.stderr
    assert "sesame" not in answer.output
