"""The guide to pgbouncer shows what is deployed and tested."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.pooler.bouncer import DEPLOYED, Bouncer

from pgprog.cli import main
from pgprog.config import load

GUIDE = Path(__file__).parents[2] / "docs/how-to/pgbouncer.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)


def test_the_settings_of_the_guide_are_those_that_are_deployed() -> None:
    [shown] = blocks("ini")
    deployed = configparser.ConfigParser(interpolation=None)
    deployed.read(DEPLOYED)
    told = dict(line.split(" = ") for line in shown.splitlines())

    assert told.items() <= dict(deployed["pgbouncer"]).items()


def test_the_configuration_of_the_guide_is_valid(tmp_path: Path) -> None:
    [text] = blocks("yaml")
    (tmp_path / "pgprog.yaml").write_text(text)

    config = load(tmp_path / "pgprog.yaml", environ={})

    assert [config.dsn, config.direct_dsn] == [*yaml.safe_load(text).values()]


@pytest.mark.direct("it has a pooler of its own")
@pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="no pgbouncer: apt-get install pgbouncer"
)
def test_the_doctor_says_what_the_guide_says(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [console] = blocks("console")
    command, _, expected = console.partition("\n")
    monkeypatch.chdir(tmp_path)
    with Bouncer(db) as bouncer:
        words = [*command.split()[2:], "--dsn", bouncer.dsn(db)]
        answer = CliRunner().invoke(main, words)

    pattern = ".*?".join(map(re.escape, re.split(r"\.\.\.", expected)))
    assert re.fullmatch(pattern, answer.output, flags=re.DOTALL), answer.output


def test_make_pooler_puts_tests_behind_it() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "pooler", "ARGS=tests/integration/test_engine.py"],
        cwd=GUIDE.parents[2], env={**os.environ}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert "-p tests.pooler.plugin tests/integration/test_engine.py" in shown
