"""The socket of a shared reader: one reader at a time, whatever becomes of its files."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgprog.daemon.reader import place
from pgprog.daemon.reader.place import Place, is_heard, listening
from pgprog.errors import ConfigError

if TYPE_CHECKING:
    import socket

MODE = 0o660


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reader.sock"


def _take_away(path: Path) -> None:
    path.unlink()
    Path(f"{path}.lock").unlink()


def test_another_mode_or_group_is_no_other_socket(path: Path) -> None:
    with listening(path, mode=MODE) as ours:
        path.chmod(0o666)
        assert ours.is_found()
    assert not path.exists()


def test_a_socket_that_is_taken_away_with_its_lock_is_left_to_the_reader_that_came_then(
    path: Path,
) -> None:
    with listening(path, mode=MODE) as ours:
        _take_away(path)
        with listening(path, mode=MODE) as theirs:
            with pytest.raises(ConfigError, match="a reader listens at"):
                ours.renew()
            assert theirs.is_found()
        ours.renew()
        assert ours.is_found()
        assert is_heard(str(path))
        with pytest.raises(ConfigError, match="a reader listens at"):
            Place(path, mode=MODE)


def test_while_a_reader_renews_its_socket_no_other_begins(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    bound = place._bound

    def beside(at: Path, *, mode: int) -> tuple[socket.socket, tuple[int, int] | None]:
        monkeypatch.setattr(place, "_bound", bound)
        with pytest.raises(ConfigError, match="a reader listens at") as caught:
            Place(path, mode=MODE)
        refused.append(caught.value)
        return bound(at, mode=mode)

    with listening(path, mode=MODE) as ours:
        _take_away(path)
        monkeypatch.setattr(place, "_bound", beside)
        ours.renew()
        assert ours.is_found()
    assert len(refused) == 1


def test_a_lock_that_is_taken_away_while_it_is_taken_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = fcntl.flock
    taken = []

    def taken_away(file: int, operation: int) -> None:
        locks(file, operation)
        taken.append(file)
        if len(taken) == 1:
            Path(f"{path}.lock").unlink()

    monkeypatch.setattr(fcntl, "flock", taken_away)
    with listening(path, mode=MODE):
        assert len(taken) == 2
        with pytest.raises(ConfigError, match="a reader listens at"):
            Place(path, mode=MODE)


def test_a_reader_that_ends_leaves_what_came_after_it(path: Path) -> None:
    with listening(path, mode=MODE):
        _take_away(path)
        other = Place(path, mode=MODE)
    assert other.is_found()
    assert is_heard(str(path))
    other.close()
    assert not path.exists()
