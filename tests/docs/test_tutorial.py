"""The tutorial is followed to its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.docs.guide import Reader

from pgprog.embedded import DevelopmentServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home for the development server, which every account can reach, unlike tmp_path."""
    place = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    place.chmod(0o711)
    monkeypatch.setenv("PGPROG_HOME", str(place))
    yield place
    DevelopmentServer().stop()
    shutil.rmtree(place)


@pytest.fixture
def reader(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader in an empty directory, whose workers end with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PGPROG_DSN", raising=False)
    yield Reader(tmp_path)
    for file in tmp_path.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.slow  # starts a PostgreSQL and three workers, one of which dies
def test_every_step_of_the_tutorial_does_what_it_says(reader: Reader) -> None:
    reader.follow("tutorial.md")
