"""Events that come with a claim: the newest, of the claim's own snapshot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

CALL = "select pgprog.call('orders', 'p1')"
CLAIM = """
select c.task_id, c.last_event_id,
  pgprog_engine.newest_events(c.incarnation, c.last_event_id, 10) as events
from pgprog_engine.claim(%s, 10) as c
"""
WRITE = """
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select p.incarnation, n, 1, now(), %s from pgprog_data.processes as p, generate_series(2, %s) as n
"""


def newest(app: Any, last: int, most: int) -> Any:
    [found] = app.execute(
        "select pgprog_engine.newest_events(incarnation, %s, %s) from pgprog_data.processes",
        (last, most),
    ).fetchone()
    return None if found is None else [event["event_id"] for event in found]


def test_the_newest_events_come_ascending_up_to_the_last(app: Any, process: str) -> None:
    app.execute(WRITE, ("1", 8))

    assert newest(app, 7, 3) == [5, 6, 7]
    assert newest(app, 7, 100) == [1, 2, 3, 4, 5, 6, 7]
    assert newest(app, 7, 0) == []
    assert newest(app, 0, 3) == []
    assert newest(app, 7, None) is None  # type: ignore[arg-type] # a namespace without preload


def test_no_more_than_4_mib_of_events_come(app: Any, process: str) -> None:
    app.execute(WRITE, ('"' + "x" * 1_000_000 + '"', 8))

    assert newest(app, 8, 100) == [5, 6, 7, 8]


def test_events_that_are_committed_while_a_claim_waits_come_with_it(
    app: Any, session: Any, worker: Any, make_worker: Any, process: str, wait_for_lock: Any
) -> None:
    other = make_worker()
    app.execute(CALL)
    [running] = other.claim()
    app.execute(CALL)
    stranger = session()
    with ThreadPoolExecutor(1) as threads:
        with stranger.transaction():
            stranger.execute(
                "select from pgprog_data.workers where worker_id = %s for update",
                (worker.worker_id,),
            )
            claiming = threads.submit(
                lambda: worker.connection.execute(CLAIM, (worker.worker_id,)).fetchall()
            )
            wait_for_lock(worker.connection)
            other.complete(running)
        (task_id, last, events), end = claiming.result()

    assert task_id
    assert last == 2
    assert [event["event_id"] for event in events] == [1, 2]
    assert end == (None, None, None)
