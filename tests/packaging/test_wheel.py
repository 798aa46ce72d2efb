"""What an installed pgprog brings with it, however it was installed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,  # each builds a package
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a source tree"),
]


def _build(root: Path, *, target: str, into: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    [built] = into.iterdir()
    return built


def _sql_files(names: Iterable[str], *, below: str) -> set[str]:
    return {n.removeprefix(below) for n in names if n.startswith(below) and n.endswith(".sql")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist."""
    sdist = _build(ROOT, target="sdist", into=tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(unpacked)], check=True)
    [source] = unpacked.iterdir()
    return _build(source, target="wheel", into=tmp_path_factory.mktemp("wheel"))


def test_a_wheel_built_from_the_sdist_has_all_sql_and_its_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    expected = {p.relative_to(ROOT / "sql").as_posix() for p in (ROOT / "sql").rglob("*.sql")}
    assert _sql_files(names, below="pgprog/sql/") == expected
    assert "pgprog/py.typed" in names


def test_an_installed_wheel_finds_its_own_sql(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)

    assert _sql_directory(path=tmp_path) == tmp_path / "pgprog" / "sql"


def test_an_editable_install_finds_the_sql_of_the_source_tree() -> None:
    assert _sql_directory(path=ROOT / "src") == ROOT / "sql"


def test_a_life_of_thirty_days_is_tested_from_the_wheel_in_under_two_seconds(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install = f"{sys.executable} -m pip --python {python} install --quiet {wheel} pytest"
    subprocess.run(install.split(), check=True, capture_output=True)
    (tmp_path / "test_subscription.py").write_text(_APPLICATION)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [python, "-m", "pytest", "-q", "test_subscription.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    # What it costs, not how long it takes: others may want the processor too.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


_APPLICATION = """
from datetime import timedelta

from pgprog import Finish, Intent, Namespace, SetTimer, testing

MONTH = timedelta(days=30)
subscriptions = Namespace("subscriptions")


@subscriptions.init
def begin(step):
    return Intent(state=0, timers=[SetTimer(after=MONTH)])


@subscriptions.timeout
def renew(step):
    months = step.state + 1
    if months == 12:
        return Intent(state=months, events=["ended"], then=Finish())
    return Intent(state=months, events=["renewed"], timers=[SetTimer(after=MONTH)])


def test_a_subscription_ends_after_a_year():
    with testing.run(subscriptions) as t:
        t.init("subscriptions", "s-1")
        t.advance(days=359)
        assert t.get("subscriptions", "s-1").state == 11
        t.advance(days=1)
        assert t.get("subscriptions", "s-1").status == "finished"
"""


def _sql_directory(*, path: Path) -> Path:
    """Return where the pgprog that lies in *path* looks for its SQL."""
    script = "from pgprog.store.migrate import sql_directory; print(sql_directory())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    return Path(done.stdout.strip())
