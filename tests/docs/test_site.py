"""The site is built from pages that come one by one, and no broken link gets into it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("mkdocs", reason="only make check builds the site")


def build(place: Path) -> str:
    """Build the site of a copy of the documentation and return what is complained of."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place / "site")],
        cwd=place,
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documentation and what its site is made with, elsewhere."""
    for name in ("docs", "tools", "sql"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    return tmp_path


@pytest.mark.slow  # builds the site
def test_a_page_that_no_list_names_is_in_the_site(copy: Path) -> None:
    (copy / "docs/how-to/fly.md").write_text("# Fly\n")

    complaints = build(copy)

    assert complaints == ""
    assert "Fly" in (copy / "site/index.html").read_text()


@pytest.mark.slow  # builds the site
def test_a_link_that_leads_nowhere_fails_the_build(copy: Path) -> None:
    (copy / "docs/how-to/fly.md").write_text("# Fly\n\n[there](nowhere.md)\n")

    complaints = build(copy)

    assert "nowhere.md" in complaints
