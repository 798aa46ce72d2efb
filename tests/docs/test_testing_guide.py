"""Every example of the guide to testing is a test, and passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgprog import Client, testing

ROOT = Path(__file__).parents[2]


def write_examples(into: Path) -> None:
    """Write the tests of the guide, and what they test, as an application would have them."""
    guide = (ROOT / "docs/how-to/testing.md").read_text()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)):
        name = f"test_{number}.py" if "def test_" in block else "conftest.py"
        (into / name).write_text(block)
    (into / "shop.py").write_text((ROOT / "examples/shop.py").read_text())


@pytest.mark.slow  # starts a pytest
def test_the_examples_of_the_guide_pass(db: str, tmp_path: Path) -> None:
    write_examples(tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},  # ours are not for them
        check=False,
        capture_output=True,
        text=True,
    )

    assert re.match(r"\.{5} +\[100%\]", done.stdout), done.stdout


def test_a_run_has_the_methods_of_a_client_but_those_that_the_guide_names() -> None:
    guide = (ROOT / "docs/how-to/testing.md").read_text()
    named = re.search(r"programs is not there: ([^.]*)\.", guide)
    missing = {name for name in vars(Client) if name[0] != "_" and not hasattr(testing.Run, name)}

    assert named is not None
    assert missing - {"over"} == {*re.findall(r"`(\w+)`", named[1])}  # over makes a client
