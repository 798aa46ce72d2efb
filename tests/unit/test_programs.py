"""Where PostgreSQL's programs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgprog.embedded.programs import psql_line

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DSN = "host=/run/pgprog dbname=postgres"


def test_a_line_for_psql_names_the_one_beside_the_server_where_none_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "my programs"
    programs.mkdir()
    (programs / "psql").touch(mode=0o755)
    monkeypatch.setenv("PGPROG_PGBIN", str(programs))
    monkeypatch.setenv("PATH", str(tmp_path))
    alone = psql_line(DSN)
    monkeypatch.setenv("PATH", str(programs))
    on_path = psql_line(DSN)

    assert alone == f"'{programs}/psql' \"{DSN}\""
    assert on_path == f'psql "{DSN}"'


def test_a_line_for_psql_is_there_though_no_psql_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPROG_PGBIN", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert psql_line(DSN) == f'psql "{DSN}"'
