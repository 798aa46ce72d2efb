"""The next task of a process as the rows of pgprog_engine.complete tell it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pgprog.store.completions import results
from pgprog.store.rows import Claimed, Completion, Outcome

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "written", "version"),
    [(None, None, 2), (None, b"{}", 2), (b"{}", None, 1), (b"{}", b"[]", 2)],
)
def test_the_next_step_has_the_version_of_the_state_that_is_there(
    before: bytes | None, written: bytes | None, version: int
) -> None:
    claimed = Claimed(
        1, 1, 1, "orders", "o-1", "call", None, 1, NOW, NOW, None, None, "running", 1, before,
        None, 0, 7,
    )  # fmt: skip
    done = Completion(claimed, Outcome.FINISHED, state=written, state_version=2)
    row = (1, "next", 8, 2, 2, "call", None, 1, NOW, NOW, None, None, NOW)

    [completed] = results([done], [row])

    assert completed.next_ is not None
    assert completed.next_.state_version == version
