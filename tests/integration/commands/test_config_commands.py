"""`pgprog config check` and `show`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

FILE = """
dsn: postgresql://me:sesame@db.invalid/shop
worker: {concurrency: 7}
namespaces:
  a.b/orders: {handlers: "shelf:orders", retry: {max_attempts: 5}}
profiles:
  dev: {worker: {lease: 20s}}
"""
SHELF = """
from pgprog import Namespace
orders = Namespace("a.b/orders", concurrency=4)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a configuration and its handlers, where commands are typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf.py").write_text(SHELF)
    (tmp_path / "pgprog.yaml").write_text(FILE)
    yield tmp_path
    sys.modules.pop("shelf", None)
    sys.path[:] = [each for each in sys.path if each != str(tmp_path)]


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, ["config", *words])


def test_every_value_is_shown_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPROG_WORKER_POLL_EVERY", "2s")
    rows = json.loads(typed("show", "--profile", "dev", "--json").stdout)
    found = {row["path"]: (row["value"], row["origin"]) for row in rows}

    assert found["worker.concurrency"] == (7, "pgprog.yaml")
    assert found["worker.lease"] == ("20s", "profile dev")
    assert found["worker.poll_every"] == ("2s", "PGPROG_WORKER_POLL_EVERY")
    assert found["worker.heartbeat_every"] == ("2s", "default")
    assert found["direct_dsn"] == (None, "default")
    assert found["namespaces.a.b/orders.retry.max_attempts"] == (5, "pgprog.yaml")
    assert found["namespaces.a.b/orders.handlers"] == ("shelf:orders", "pgprog.yaml")


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPROG_DIRECT_DSN", "host=db password='open sesame' sslpassword=sesame")
    shown, plain = typed("show"), typed("show", "--json")

    for answer in (shown, plain):
        assert answer.exit_code == 0
        assert "sesame" not in answer.output
        assert "db.invalid" in answer.output


@pytest.mark.parametrize(
    "file",
    [
        "dsn: {password: sesame}",
        "dsn: postgresql://me:sesame@db/shop: [",
        "dsn: [postgresql://me:sesame@db/shop\nworker: {",
        "dsn: 'postgresql://me:sesame@db/shop'\ndsn: 'postgresql://me:sesame@db/shop'",
    ],
)
def test_a_fault_is_told_without_the_password_beside_it(place: Path, file: str) -> None:
    (place / "pgprog.yaml").write_text(file)
    answer = typed("check")

    assert answer.exit_code == 1
    assert "sesame" not in answer.output


def test_a_configuration_without_faults_is_told_so() -> None:
    answer = typed("check")

    assert (answer.exit_code, answer.stdout) == (0, "pgprog.yaml has no faults\n")
    assert json.loads(typed("check", "--json").stdout) == {"faults": []}


def test_all_faults_are_told_at_once_also_those_of_other_profiles(place: Path) -> None:
    (place / "pgprog.yaml").write_text(
        "worker: {concurrency: 0, leese: 5s}\nprofiles: {dev: {pool: {api: 0}}}"
    )
    answer, plain = typed("check"), typed("check", "--json")

    assert (answer.exit_code, plain.exit_code) == (1, 1)
    faults = json.loads(plain.stdout)["faults"]
    assert len(faults) == 3
    for path in ("worker.concurrency: 0", "worker.leese: unknown", "pool.api (from profile dev)"):
        assert path in answer.stderr
        assert any(path in fault for fault in faults)


def test_handlers_that_cannot_be_imported_are_a_fault_unless_they_are_left_out(
    place: Path,
) -> None:
    (place / "shelf.py").write_text("import nowhere")

    assert "No module named 'nowhere'" in typed("check").stderr
    assert typed("check", "--without-handlers").exit_code == 0


def test_the_differences_are_those_that_apply_would_take_over(
    db: str, monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    monkeypatch.setenv("PGPROG_DSN", db)
    terminal.type("namespace", "apply")
    terminal.type("namespace", "set", "a.b/orders", "concurrency=9")

    assert json.loads(typed("show", "--differences", "--json").stdout) == [
        {
            "namespace": "a.b/orders",
            "path": "concurrency",
            "database": 9,
            "configuration": 4,
        }
    ]
    terminal.type("namespace", "apply")
    assert typed("show", "--differences").stdout == "none\n"
