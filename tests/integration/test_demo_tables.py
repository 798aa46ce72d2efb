"""The statements of the demo's handlers and searches, on a real server."""

from __future__ import annotations

import itertools
import random
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgprog.demo.discover import everything_below
from pgprog.demo.handlers import accept, forget, index, read
from pgprog.demo.parsers.prose import BODY_BYTES
from pgprog.demo.report import Failure, fetch_failures, fetch_indexed
from pgprog.demo.search import search
from pgprog.demo.tables import tables_sql
from pgprog.model import ProcessStatus, Step, TaskId, TaskType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Connection = psycopg.Connection[tuple[Any, ...]]

PARTS = [
    "".join(letters) for letters in itertools.product("bcdfghjklmnpqrstvwxz0123456789", repeat=3)
]


class Access:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def history(self, **_: object) -> object:
        raise NotImplementedError

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._connection.transaction():
            yield self._connection


@pytest.fixture
def connection(fresh_db: str) -> Iterator[Connection]:
    """A connection to a database with the demo's tables."""
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        for _ in range(2):  # a second time changes nothing
            connection.execute(tables_sql().encode())
        yield connection


def run(connection: Connection, file: Path) -> None:
    """Take a file through all its steps."""
    [found] = everything_below(file).documents
    args: dict[str, Any] = found.args
    accepted = accept(step_of(None, connection, found.process_id), **args)
    parsed = read(step_of(accepted.state, connection, found.process_id))
    index(step_of(parsed.state, connection, found.process_id))


def step_of(state: object, connection: Connection, process_id: str = "p") -> Step[Any]:
    return Step(
        namespace="documents",
        process_id=process_id,
        task_id=TaskId(1),
        type=TaskType.TIMEOUT,
        name=None,
        args=None,
        context=None,
        attempt=1,
        state=state,
        metadata=None,
        status=ProcessStatus.RUNNING,
        last_event_id=0,
        version=1,
        deadline=datetime(2030, 1, 1, tzinfo=UTC),
        _access=Access(connection),
    )


def test_an_indexed_document_is_found_by_its_words(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Locks\n\nTwo transactions are waiting, each for the other.")
    (tmp_path / "b.md").write_text("# Clocks\n\nNo two of them agree.")
    for name in ("a.md", "b.md"):
        run(connection, tmp_path / name)

    hits = search(connection, "waited transaction")

    assert hits.total == 1
    assert hits.best[0].title == "Locks"
    assert "[waiting]" in hits.best[0].headline
    assert search(connection, "transactions -waiting").total == 0
    assert hits.best[0].format_ == "markdown"
    assert sorted(document.words for document in fetch_indexed(connection)) == [6, 9]


def test_a_new_version_takes_the_place_of_the_old(connection: Connection, tmp_path: Path) -> None:
    for text in ("the first version", "the second version"):
        (tmp_path / "a.txt").write_text(text)
        run(connection, tmp_path / "a.txt")

    assert connection.execute("select body from demo.texts").fetchall() == [("the second version",)]


def test_the_table_does_not_hide_a_second_insert(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same document")
    for _ in range(2):
        run(connection, tmp_path / "a.txt")

    twice = connection.execute(
        "select count(*) from demo.texts group by document having count(*) <> 1"
    ).fetchall()
    assert twice == [(2,)]


def test_a_removal_takes_the_text_of_a_file_that_is_gone(
    connection: Connection, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("soon gone")
    run(connection, tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()

    forget(step_of(None, connection), path=str(tmp_path / "a.txt"))

    assert fetch_indexed(connection) == []


@pytest.mark.parametrize("mark", ["-", "/", " ", "."])
def test_the_worst_text_that_is_kept_can_be_indexed(
    connection: Connection, tmp_path: Path, mark: str
) -> None:
    chance = random.Random(1)
    words = [mark.join(chance.choices(PARTS, k=4)) for _ in range(20_000)]
    (tmp_path / "a.txt").write_text(" ".join(words)[:BODY_BYTES])

    run(connection, tmp_path / "a.txt")

    assert len(fetch_indexed(connection)) == 1


def test_failures_are_those_of_the_processes_in_error(connection: Connection) -> None:
    connection.execute(
        "insert into pgprog_data.processes"
        " (namespace, process_id, incarnation, status, detail, state_version, created_at,"
        " changed_at, status_changed_at, version)"
        " select 'documents', s || '.pdf@1', n, s, 'damaged: cut off', 1,"
        " now(), now(), now(), n from (values (1, 'error'), (2, 'running')) as v(n, s)"
    )

    assert fetch_failures(connection) == [
        Failure(document="error.pdf@1", detail="damaged: cut off")
    ]
