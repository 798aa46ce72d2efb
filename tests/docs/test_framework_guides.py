"""The applications of the guides to frameworks are tested by the tests of the guides."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.guide import Reader

ROOT = Path(__file__).parents[2]
PYTEST = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
GUIDES = ["fastapi", "django", "sqlalchemy"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the files of all guides, and the fixtures and orders that they test with."""
    for guide in GUIDES:
        Reader(tmp_path).follow(f"how-to/{guide}.md")
    (tmp_path / "shop.py").write_text((ROOT / "examples/shop.py").read_text())
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["pgprog.testing.fixtures"]\n')
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    return tmp_path


@pytest.mark.slow  # starts a pytest with three frameworks
def test_the_applications_of_the_guides_do_what_their_tests_say(db: str, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "."],
        cwd=place,
        env={**os.environ, "PYTEST_ADDOPTS": ""},  # ours are not for them
        check=False,
        capture_output=True,
        text=True,
    )

    assert re.match(r"\.{6} +\[100%\]", done.stdout), done.stdout
