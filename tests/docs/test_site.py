"""The site is built from pages that come one by one, and no broken link gets into it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("mkdocs", reason="only make check builds the site")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documentation and what its site is made with, elsewhere."""
    for name in ("docs", "tools", "sql"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    return tmp_path


@pytest.mark.slow  # builds the site
def test_a_new_page_is_in_the_site_and_its_broken_link_fails_the_build(copy: Path) -> None:
    (copy / "docs/how-to/fly.md").write_text("# Fly\n\n[there](nowhere.md)\n")

    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=copy,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
    assert "Aborted with 1 warnings" in done.stderr + done.stdout
    assert ">Fly<" in (copy / "build/site/index.html").read_text()
