"""`pgprog namespace set`, `apply`, `history` and `rollback`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

pytestmark = pytest.mark.usefixtures("closed_shop")

CONFIG = """
namespaces:
  orders: {{handlers: "shelf:orders", step_timeout: 7m, {more}}}
  parcels: {{handlers: "shelf:parcels"}}
"""
SHELF = """
from pgprog import Namespace
orders = Namespace("orders", numbers="decimal", concurrency=4)
parcels = Namespace("parcels")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with handlers, where commands are typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf.py").write_text(SHELF)
    yield tmp_path
    sys.modules.pop("shelf", None)
    sys.path[:] = [each for each in sys.path if each != str(tmp_path)]


@pytest.fixture
def configured(place: Path) -> Any:
    """Write the configuration of orders with more settings; return its path."""

    def write(more: str = "") -> str:
        path = place / "pgprog.yaml"
        path.write_text(CONFIG.format(more=more))
        return str(path)

    return write


def settings_of(terminal: Any, namespace: str = "orders") -> dict[str, Any]:
    found: dict[str, Any] = terminal.json("namespace", "show", namespace)["settings"]
    return found


def test_settings_are_set_one_beside_the_other(terminal: Any) -> None:
    words = (
        "step_timeout=7m",
        "retry.max_attempts=5",
        "concurrency=4",
        "retry_by_type.call.max_attempts=2",
    )
    shown = terminal.type("namespace", "set", "orders", *words).stdout

    assert shown.splitlines() == [
        "namespace orders is at version 2:",
        "  concurrency: default -> 4",
        "  retry.max_attempts: 3 -> 5",
        "  retry_by_type.call.max_attempts: default -> 2",
        "  step_timeout: 30s -> 7m",
    ]
    found = settings_of(terminal)
    assert (found["step_timeout"], found["concurrency"], found["numbers"]) == ("7m", 4, "decimal")


def test_null_is_the_default_again(terminal: Any) -> None:
    terminal.type(
        "namespace", "set", "orders", "step_timeout=7m", "concurrency=4", "retry.jitter=0.5"
    )
    terminal.type(
        "namespace", "set", "orders", "step_timeout=null", "concurrency=null", "retry=null"
    )

    found = settings_of(terminal)
    assert found["step_timeout"] == "30s"
    assert "concurrency" not in found
    assert found["retry"]["jitter"] == 0.1


def test_all_faults_are_named_at_once_and_the_old_settings_stay(terminal: Any) -> None:
    before = settings_of(terminal)
    answer = terminal.type(
        "namespace", "set", "orders", "step_timout=7m", "retry.max_attempts=0", "on_full=explode"
    )

    assert answer.exit_code == 1
    for told in ("3 faults", "step_timout: unknown; did you mean step_timeout?", "on_full: "):
        assert told in answer.stderr
    assert "retry.max_attempts: 0 is not a whole number from 1 to 1000000" in answer.stderr
    assert settings_of(terminal) == before


def test_a_day_that_there_is_not_is_told_as_it_was_typed(terminal: Any) -> None:
    answer = terminal.type("namespace", "set", "orders", "retention=2027-02-29")

    assert answer.exit_code == 1
    assert "retention: '2027-02-29' is not a duration" in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["retry.jitter=0", "retry=null"],
        ["retry=null", "retry.jitter=0"],
        ["retry={jitter: 0}", "retry.max_attempts=5"],
        ["concurrency=1", "concurrency=2"],
        ["retry.jitter=0", "on_full=refuse", "retry.jitter=0.5"],
    ],
)
def test_two_changes_of_the_same_are_refused_and_both_told(terminal: Any, words: list[str]) -> None:
    before = settings_of(terminal)
    answer = terminal.type("namespace", "set", "orders", *words)

    assert answer.exit_code == 2
    assert f"'{words[0]}' and '{words[-1]}' change the same" in " ".join(answer.stderr.split())
    assert settings_of(terminal) == before


def test_two_keys_of_a_section_are_changed_together(terminal: Any) -> None:
    terminal.type("namespace", "set", "orders", "retry.jitter=0", "retry.max_attempts=5")

    retry = settings_of(terminal)["retry"]
    assert (retry["jitter"], retry["max_attempts"]) == (0, 5)


@pytest.mark.parametrize("words", [["step_timeout"], ["=5"]])
def test_what_is_no_setting_is_a_fault_of_the_command_line(terminal: Any, words: list[str]) -> None:
    assert terminal.type("namespace", "set", "orders", *words).exit_code == 2


def test_a_dry_run_shows_what_would_change_and_changes_nothing(terminal: Any) -> None:
    told = terminal.json("namespace", "set", "orders", "step_timeout=7m", "--dry-run")

    assert told == {
        "namespace": "orders",
        "from_version": 1,
        "version": None,
        "differences": [{"path": "step_timeout", "before": "30s", "after": "7m"}],
    }
    assert settings_of(terminal)["step_timeout"] == "30s"


def test_a_change_from_a_version_that_has_moved_is_refused(terminal: Any) -> None:
    terminal.type("namespace", "set", "orders", "step_timeout=7m", "--version", "1")
    answer = terminal.type("namespace", "set", "orders", "step_timeout=8m", "--version", "1")

    assert answer.exit_code == 1
    assert "the settings of orders are at version 2, not 1" in answer.stderr


def test_keys_that_only_a_newer_pgprog_knows_are_kept(
    terminal: Any, sql: psycopg.Connection[Any], configured: Any
) -> None:
    newer = '{"colour": "blue", "retry": {"mood": 1}}'
    sql.execute("select pgprog.set_settings('orders', %s)", (newer,))
    terminal.type("namespace", "set", "orders", "step_timeout=7m")
    after_set = settings_of(terminal)
    terminal.type("namespace", "apply", configured())
    after_apply = settings_of(terminal)

    for found in (after_set, after_apply):
        assert (found["colour"], found["retry"]["mood"]) == ("blue", 1)
        assert found["step_timeout"] == "7m"


def test_apply_gives_namespaces_what_the_file_and_the_code_say(
    terminal: Any, configured: Any
) -> None:
    terminal.type("namespace", "set", "orders", "retention=1d")
    shown = terminal.type("namespace", "apply", configured("on_full: drop_lowest")).stdout

    assert "namespace orders is at version 3:\n" in shown
    assert "  retention: 1d -> 30d\n" in shown
    assert "namespace parcels is at version 1:\n" in shown
    found = settings_of(terminal)
    assert (found["step_timeout"], found["concurrency"]) == ("7m", 4)
    assert terminal.type("namespace", "apply", configured("on_full: drop_lowest")).stdout == (
        "nothing differs\n"
    )


def test_a_file_with_faults_changes_no_namespace(terminal: Any, configured: Any) -> None:
    answer = terminal.type("namespace", "apply", configured("on_full: explode, max_queue: 0"))

    assert answer.exit_code == 1
    assert "2 faults" in answer.stderr
    assert [row["namespace"] for row in terminal.json("namespace", "list")] == ["orders"]


def test_a_dry_run_of_apply_is_the_difference(terminal: Any, configured: Any) -> None:
    told = terminal.json("namespace", "apply", configured(), "--dry-run")

    assert [(each["namespace"], each["from_version"], each["version"]) for each in told] == [
        ("orders", 1, None),
        ("parcels", 0, None),
    ]
    assert {"path": "concurrency", "before": None, "after": 4} in told[0]["differences"]
    assert settings_of(terminal)["step_timeout"] == "30s"


def test_the_history_tells_who_changed_what_when_and_why(terminal: Any) -> None:
    terminal.type("namespace", "set", "orders", "step_timeout=7m", "--reason", "slow bank")
    rows = terminal.json("namespace", "history", "orders")
    shown = terminal.type("namespace", "history", "orders").stdout.splitlines()

    assert [row["settings_version"] for row in rows] == [2, 1]
    assert rows[0]["differences"] == [{"path": "step_timeout", "before": "30s", "after": "7m"}]
    assert (rows[0]["reason"], rows[1]["reason"]) == ("slow bank", "created")
    assert shown[1].endswith("slow bank  step_timeout: 30s -> 7m")
    assert shown[2].split()[-2:] == ["created", "-"]


def test_a_history_that_is_cut_off_still_tells_what_its_last_version_changed(
    terminal: Any,
) -> None:
    for minutes in (7, 8):
        terminal.type("namespace", "set", "orders", f"step_timeout={minutes}m")

    [row] = terminal.json("namespace", "history", "orders", "--limit", "1")

    assert row["differences"] == [{"path": "step_timeout", "before": "7m", "after": "8m"}]


def test_a_rollback_takes_the_last_change_back_and_another_one_the_rollback(
    terminal: Any,
) -> None:
    terminal.type("namespace", "set", "orders", "step_timeout=7m")

    back = terminal.json("namespace", "rollback", "orders")
    assert back["version"] == 3
    assert settings_of(terminal)["step_timeout"] == "30s"
    terminal.type("namespace", "rollback", "orders")
    assert settings_of(terminal)["step_timeout"] == "7m"
    assert terminal.json("namespace", "history", "orders")[0]["reason"] == "rollback to version 2"


def test_a_rollback_goes_to_any_version_and_shows_first_what_it_would_do(terminal: Any) -> None:
    for minutes in (7, 8):
        terminal.type("namespace", "set", "orders", f"step_timeout={minutes}m")

    told = terminal.json("namespace", "rollback", "orders", "--to", "1", "--dry-run")

    assert told["differences"] == [{"path": "step_timeout", "before": "8m", "after": "30s"}]
    assert settings_of(terminal)["step_timeout"] == "8m"
    answer = terminal.type("namespace", "rollback", "orders", "--to", "9")
    assert answer.exit_code == 1
    assert "namespace orders has no settings of version 9, it is at 3" in answer.stderr


@pytest.mark.parametrize(
    "words", [["set", "ordres", "step_timeout=7m"], ["history", "ordres"], ["rollback", "ordres"]]
)
def test_a_namespace_that_is_not_there_is_named(terminal: Any, words: list[str]) -> None:
    answer = terminal.type("namespace", *words)

    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: no namespace ordres")


def test_workers_are_told_of_changed_settings_at_once(terminal: Any, session: Any) -> None:
    listening = session()
    listening.execute("listen pgprog_due")

    terminal.type("namespace", "set", "orders", "step_timeout=7m")
    terminal.type("namespace", "rollback", "orders")

    heard = [note.payload for note in listening.notifies(timeout=5, stop_after=2)]
    assert heard == ["orders", "orders"]
