from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgprog.embedded.home import find_home, make_home
from pgprog.errors import ConfigError


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)


def test_the_home_is_where_the_environment_says(tmp_path: Path) -> None:
    assert find_home({"PGPROG_HOME": str(tmp_path)}) == tmp_path


def test_the_home_of_an_ordinary_user_lies_among_its_data(ordinary: None, tmp_path: Path) -> None:
    assert find_home({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "pgprog"


def test_a_home_that_cannot_be_written_is_replaced_by_one_of_the_users_own(
    ordinary: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    assert find_home({}) == Path("/var/tmp/pgprog-1234")


def test_a_user_without_a_home_has_one_all_the_same(
    ordinary: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)

    assert find_home({}) == Path("/var/tmp/pgprog-1234")


@pytest.mark.parametrize("name", ["$HOME", "`id`", '"', "a\\$b", "\\\\", "a\nb", "$(id)"])
def test_a_home_that_a_shell_would_read_otherwise_is_refused_before_it_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="a shell"):
        make_home(tmp_path / name)

    assert [*tmp_path.iterdir()] == []


def test_a_home_may_have_spaces_and_single_quotes(tmp_path: Path) -> None:
    made = tmp_path / "it's mine (5 $) \\o"

    make_home(made)

    assert made.is_dir()
