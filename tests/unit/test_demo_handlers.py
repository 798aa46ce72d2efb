"""The handlers of the demo, called as the functions that they are."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.demo.discover import everything_below
from pgprog.demo.handlers import Document, accept, documents, forget, index, read, removals
from pgprog.errors import PermanentError, Reject
from pgprog.model import Finish, Intent, ProcessStatus, Step, TaskId, TaskType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Transaction:
    """A connection that notes what it is told, and the access of a step that gives it."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, dict[str, Any]]] = []

    def execute(self, query: str, params: dict[str, Any]) -> None:
        self.statements.append((query, params))

    def history(self, **_: object) -> object:
        raise NotImplementedError

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        yield self

    @property
    def changes(self) -> list[str]:
        """The first word of each statement."""
        return [query.split()[0] for query, _ in self.statements]


@pytest.fixture
def transaction() -> Transaction:
    return Transaction()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "guide.md"
    path.write_text("# A guide\n\nto *everything*.")
    return path


def step_of(state: Document | None, transaction: Transaction) -> Step[Any]:
    return Step(
        namespace="documents",
        process_id="guide.md@1",
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
        _access=transaction,
    )


def accepted(file: Path, transaction: Transaction) -> Intent[Document]:
    [found] = everything_below(file).documents
    args: dict[str, Any] = found.args
    return accept(step_of(None, transaction), **args)


def state_of(intent: Intent[Document] | None) -> Document:
    assert intent is not None
    assert isinstance(intent.state, Document)
    return intent.state


def test_a_document_goes_through_all_steps_into_the_table(
    file: Path, transaction: Transaction
) -> None:
    begun = accepted(file, transaction)
    parsed = read(step_of(state_of(begun), transaction))
    done = index(step_of(state_of(parsed), transaction))

    assert [timer.name for timer in (*begun.timers, *parsed.timers)] == ["parse", "index"]
    assert done.then == Finish()
    assert transaction.changes == ["select", "delete", "insert"]
    row = transaction.statements[-1][1]
    assert (row["document"], row["title"], row["words"]) == ("guide.md@1", "A guide", 4)
    assert row["body"] == "A guide\nto everything."


def test_the_text_does_not_stay_in_the_state(file: Path, transaction: Transaction) -> None:
    parsed = read(step_of(state_of(accepted(file, transaction)), transaction))

    done = index(step_of(state_of(parsed), transaction))

    assert state_of(parsed).body
    assert not state_of(done).body


def test_the_timers_of_a_step_find_their_handlers() -> None:
    assert documents.resolve(TaskType.TIMEOUT, "parse") is read
    assert documents.resolve(TaskType.TIMEOUT, "index") is index
    assert documents.resolve(TaskType.INIT, None) is accept
    assert removals.resolve(TaskType.INIT, None) is forget


def test_an_init_takes_what_a_found_file_tells(file: Path, transaction: Transaction) -> None:
    [found] = everything_below(file).documents

    assert accept.arguments(**found.args) == found.args  # type: ignore[arg-type] # by name


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0", "unsupported"),
        (b"x" * ((8 << 20) + 1), "oversized"),
    ],
)
def test_a_file_of_no_use_fails_before_it_is_read(
    tmp_path: Path, raw: bytes, code: str, transaction: Transaction
) -> None:
    (tmp_path / "picture").write_bytes(raw)

    with pytest.raises(PermanentError) as raised:
        accepted(tmp_path / "picture", transaction)

    assert raised.value.code == code
    assert str(raised.value).startswith(f"{code}: ")


def test_a_damaged_document_fails_for_good(tmp_path: Path, transaction: Transaction) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 cut off")
    document = state_of(accepted(tmp_path / "a.pdf", transaction))

    with pytest.raises(PermanentError, match=r"^damaged: "):
        read(step_of(document, transaction))


def test_a_file_that_vanished_before_the_init_has_no_process(
    tmp_path: Path, transaction: Transaction
) -> None:
    with pytest.raises(Reject):
        accept(step_of(None, transaction), path=f"{tmp_path}/gone", digest="", changed_ns=0)


def test_a_file_that_vanished_or_changed_is_not_read(file: Path, transaction: Transaction) -> None:
    document = state_of(accepted(file, transaction))

    file.write_text("# Another guide")
    changed = read(step_of(document, transaction))
    file.unlink()
    gone = read(step_of(document, transaction))

    assert changed.then == gone.then == Finish()
    assert not changed.timers
    assert not gone.timers


def test_a_file_that_changed_after_it_was_read_is_not_indexed(
    file: Path, transaction: Transaction
) -> None:
    parsed = read(step_of(state_of(accepted(file, transaction)), transaction))

    file.write_text("# Another guide")
    outdated = index(step_of(state_of(parsed), transaction))

    assert outdated.then == Finish()
    assert transaction.changes == ["select"]


def test_the_text_of_a_file_that_is_gone_is_removed(file: Path, transaction: Transaction) -> None:
    kept = forget(step_of(None, transaction), path=str(file))
    file.unlink()
    removed = forget(step_of(None, transaction), path=str(file))

    assert kept.then == removed.then == Finish()
    assert transaction.changes == ["select", "select", "delete"]
