"""What metrics show of the database, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

BROKEN = '{"detail": "out of stock"}'
HOUR = 3_600_000_000
GAUGES = (
    "select namespace, waiting, blocked, running, errors, workers, is_paused, oldest_due_age"
    " from pgprog_engine.gauges()"
)


def test_gauges_are_what_stats_count(app: Any, worker: Any, make_processes: Any) -> None:
    make_processes(5)
    ask = "select pgprog.{}('orders', '{}')"
    for number in range(4):
        app.execute(ask.format("notify", f"q{number}"))
    one, two, three, _ = worker.claim()
    worker.complete(one, outcome=4, error=BROKEN)
    worker.complete(two, outcome=3, retry_after=HOUR)
    worker.complete(three, timers={"t": HOUR}, then=0)
    app.execute(ask.format("call", "q3"))
    worker.claim()
    app.execute(ask.format("call", "q4"))
    app.execute("select pgprog.pause('orders')")
    app.execute("update pgprog_data.queue set due_at = now() - interval '1 min' where status = 'w'")

    [gauges] = app.execute(GAUGES).fetchall()
    [stats] = app.execute(
        "select namespace, waiting, blocked, running, errors, workers, is_paused,"
        " extract(epoch from oldest_due_age)::float from pgprog.stats()"
    ).fetchall()

    assert gauges[:-1] == stats[:-1] == ("orders", 2, 1, 1, 1, 1, True)
    assert gauges[-1] == pytest.approx(60, abs=5)
    assert stats[-1] == pytest.approx(60, abs=5)


@pytest.mark.parametrize("needs_version", [None, 2])
def test_a_timer_that_is_due_has_an_age_and_one_to_come_has_none(
    app: Any, worker: Any, process: str, needs_version: int | None
) -> None:
    app.execute("select pgprog.notify('orders', %s)", (process,))
    worker.complete(worker.claim()[0], timers={"t": HOUR})
    [before] = app.execute(GAUGES).fetchall()
    app.execute(
        "update pgprog_data.timers set created_at = created_at - interval '1 hour',"
        " due_at = now() - interval '1 min', needs_version = %s",
        (needs_version,),
    )
    [after] = app.execute(GAUGES).fetchall()

    assert before[-1] == 0
    assert after[-1] == pytest.approx(60, abs=5)
    assert after[1:4] == (0, 0, 0)
