"""`pgprog systemd`: units that systemd takes, and finds little to blame in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["pgprog-maintenance@.service", "pgprog-reader@.service", "pgprog-worker@.service"]


def printed(*words: str) -> dict[str, str]:
    answer = CliRunner().invoke(main, ["systemd", "--json", *words])
    units: dict[str, str] = json.loads(answer.stdout)
    return units


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Files of the units, whose program is one that is everywhere."""
    if shutil.which("systemd-analyze") is None:
        assert os.geteuid() != 0, "apt-get install systemd"
        pytest.skip("there is no systemd-analyze")
    paths = []
    for name, text in printed().items():
        paths.append(tmp_path / name)
        paths[-1].write_text(re.sub("ExecStart=.*", "ExecStart=/bin/true", text))
    return paths


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_units_have_no_faults(units: list[Path]) -> None:
    verified = analyze("verify", "--man=no", *[str(unit).replace("@", "@x") for unit in units])
    found = [line for line in verified.stderr.splitlines() if "pgprog-" in line]

    assert sorted(unit.name for unit in units) == NAMES
    assert found == []


def test_a_unit_finds_a_program_whose_path_has_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "my apps, 100%"
    place.mkdir()
    (place / "pgprog").symlink_to("/bin/true")
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    text = printed()["pgprog-worker@.service"]
    escaped = f"{tmp_path}/my apps, 100%%/pgprog"

    assert f'ExecStart="{escaped}" worker --log-format json\n' in text
    if shutil.which("systemd-analyze") is not None:
        (tmp_path / "pgprog-worker@.service").write_text(text)
        verified = analyze("verify", "--man=no", tmp_path / "pgprog-worker@x.service")
        assert "pgprog-worker" not in verified.stderr


def test_units_are_exposed_to_little(units: list[Path]) -> None:
    for unit in units:
        judged = analyze("security", "--offline=true", "--threshold=20", unit)

        assert judged.returncode == 0, judged.stdout


def test_units_run_the_roles_of_their_names_from_the_directory_that_is_given() -> None:
    units = printed("--directory", "/srv/%i", "--user", "shop")

    assert re.search(r"ExecStart=/.* worker --log-format json$", units[NAMES[2]], re.MULTILINE)
    assert "--only collector,maintenance" in units[NAMES[0]]
    assert re.search(r"--only reader$", units[NAMES[1]], re.MULTILINE)
    for unit in units.values():
        assert "WorkingDirectory=/srv/%i" in unit
        assert "User=shop" in unit
        assert "DynamicUser" not in unit


def test_units_are_written_where_systemd_looks_for_them(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["systemd", "--write", str(tmp_path)])

    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    assert answer.stdout.split() == [str(tmp_path / name) for name in reversed(NAMES)]
