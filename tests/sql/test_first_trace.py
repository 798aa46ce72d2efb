"""The trace of the first attempt of a task, which its retries link to."""

from __future__ import annotations

from typing import Any


def test_the_first_trace_is_that_of_the_first_attempt_that_told_one(app: Any) -> None:
    attempts = [
        ("lost", None),
        ("retry", '{"error_type": "StepTimeout"}'),
        ("retry", '{"error_type": "StepTimeout", "traceparent": "first"}'),
        ("retry", '{"error_type": "StepTimeout", "traceparent": "second"}'),
    ]
    for number, (outcome, error) in reversed([*enumerate(attempts, 1)]):
        app.execute(
            "insert into pgprog_data.attempts"
            " (task_id, claim_id, attempt, outcome, ended_at, error)"
            " values (-1, %s, %s, %s, now(), %s)",
            (number, number, outcome, error),
        )

    asked = "select pgprog_engine.first_trace(-1), pgprog_engine.first_trace(-2)"

    assert app.execute(asked).fetchone() == ("first", None)
