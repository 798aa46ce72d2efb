from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgprog.cli import main
from pgprog.demo.prepare import check_extra
from pgprog.demo.progress import Progress, bar, line, summary
from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

HALF = Progress(found=1500, queued=750, ended=750, before=150, failed=9, seconds=20.0)


def test_a_line_tells_rate_queue_and_failures() -> None:
    assert line(HALF) == "750/1500  30/s  750 queued  9 failed"


def test_a_bar_is_full_when_all_have_ended_and_fits_a_terminal() -> None:
    million = Progress(
        found=10**6, queued=5000, ended=10**6, before=0, failed=10**6, seconds=1000.0
    )

    assert bar(HALF).startswith("[############............] 750/1500")
    assert "." not in bar(million)
    assert len(bar(million)) < 80


def test_an_empty_run_is_complete() -> None:
    nothing = Progress(found=0, queued=0, ended=0, before=0, failed=0, seconds=0.0)

    assert nothing.is_complete
    assert bar(nothing).startswith("[####")
    assert summary(nothing) == "0 documents in 0.0 s, 0 a minute; 0 failed"


def test_a_summary_counts_what_this_run_did() -> None:
    expected = "600 documents in 20.0 s, 1,800 a minute; 9 failed; 150 had ended before"
    assert summary(HALF) == expected


def test_a_missing_package_of_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)

    with pytest.raises(ConfigError, match="the demo needs pypdf") as raised:
        check_extra()

    assert raised.value.hint == "pip install 'pgprog[demo]'"


def test_a_single_file_cannot_be_watched(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()

    answer = CliRunner().invoke(main, ["demo", str(tmp_path / "a.txt"), "--watch"])

    assert answer.exit_code == 2
    assert "--watch follows a directory" in answer.stderr
