"""The handlers of the guide do what its tests say, and its defaults are those that there are."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.docs.guide import DOCS, Reader

from pgprog import errors
from pgprog.config import NamespaceSettings
from pgprog.retry import RetryPolicy

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = (DOCS / "how-to/handlers.md").read_text()


@pytest.mark.slow  # starts a pytest
def test_the_handlers_of_the_guide_do_what_its_tests_say(tmp_path: Path) -> None:
    Reader(tmp_path).follow("how-to/handlers.md")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},  # ours are not for them
        check=False,
        capture_output=True,
        text=True,
    )

    assert re.match(r"\.{6} +\[100%\]", done.stdout), done.stdout


def test_the_guide_has_each_part_of_a_policy_with_its_default() -> None:
    for field in dataclasses.fields(RetryPolicy):
        told = re.search(rf"`{field.name}` \(([^,)]+)", GUIDE)
        default = getattr(RetryPolicy(), field.name)
        seconds = default.total_seconds() if isinstance(default, timedelta) else None

        assert told is not None, field.name
        if default:
            assert told[1] == (str(default) if seconds is None else f"{seconds:g} s")
    assert f"`max_crashes` ({NamespaceSettings().max_crashes})" in GUIDE


def test_the_guide_says_what_becomes_of_each_error_of_a_step() -> None:
    rows = re.findall(r"^\| `(\w+)", GUIDE, flags=re.MULTILINE)
    raised = {each.__name__ for each in errors.StepError.__subclasses__()}

    assert raised <= set(rows)
