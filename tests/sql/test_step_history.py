"""The history that a step reads: that of the process it was claimed of, of no later one."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import DatabaseError

HISTORY = "select event_id from pgprog_engine.history('orders', 'p1', %s, %s, %s, %s)"
ALL = None, 100, "forward"


def claimed(app: Any, worker: Any) -> Any:
    """Return a running call of p1."""
    app.execute("select pgprog.call('orders', 'p1')")
    [task] = worker.claim()
    return task


def read(app: Any, task: Any, *asked: object) -> list[int]:
    return [each for (each,) in app.execute(HISTORY, (task.incarnation, *asked)).fetchall()]


def refusal(app: Any, task: Any) -> tuple[str | None, str | None]:
    with pytest.raises(DatabaseError) as caught:
        read(app, task, *ALL)
    return caught.value.sqlstate, caught.value.diag.message_primary


def test_a_step_reads_its_process_in_both_directions(app: Any, worker: Any, process: str) -> None:
    for _ in range(3):
        worker.complete(claimed(app, worker))
    task = claimed(app, worker)

    assert read(app, task, *ALL) == [1, 2, 3, 4]
    assert read(app, task, 1, 2, "forward") == [2, 3]
    assert read(app, task, 3, 100, "backward") == [2, 1]


def test_a_step_of_a_process_that_was_removed_reads_nothing_though_there_is_another(
    app: Any, worker: Any, process: str
) -> None:
    task = claimed(app, worker)
    app.execute("select pgprog.remove('orders', 'p1')")
    gone = refusal(app, task)
    app.execute("select pgprog.init('orders', 'p1')")
    worker.complete(*worker.claim())
    replaced = refusal(app, task)

    assert gone == ("UP001", "no process p1 in namespace orders")
    why = "process p1 in namespace orders was removed, and another one made since"
    assert replaced == ("UP001", why)
    assert read(app, claimed(app, worker), *ALL) == [1]
