"""The page by which a worker tells its child processes how long they may run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from pgprog.engine.children.alive import Alive

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the system has no files in memory")
def test_what_children_share_with_their_worker_needs_no_room_on_a_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with contextlib.closing(Alive.make()) as alive:
        alive.until = 17.0
        with contextlib.closing(Alive.of(os.dup(alive.descriptor))) as theirs:
            assert theirs.until == 17.0
