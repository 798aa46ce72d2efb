"""Scenarios of the specification's fourth section, and the delays of its retry policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = Path(__file__).with_name("specification.yaml")
SCENARIOS: dict[str, Any] = yaml.safe_load(_FILE.read_text())

# Hours between the end of an attempt and the next, in the namespace `slow`: one hour, doubled with
# each failure, no longer than three, ± 10 % for the jitter, which never goes above the cap.
DELAYS = [(0.9, 1.1), (1.8, 2.2), (2.7, 3), (2.7, 3)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_of_the_specification_holds(play: Callable[..., Any], scenario: str) -> None:
    play(SCENARIOS[scenario]).run()


def test_the_delay_between_attempts_doubles_up_to_its_cap_and_the_last_breaks_the_process(
    play: Callable[..., Any],
) -> None:
    failing = {"step": "notify", "raises": ["ValueError", "broken"]}
    again = [
        action
        for steps in range(3, 7)
        for action in ({"do": "retry"}, {"do": "wait", "steps": steps})
    ]
    scene = play(
        {
            "in": "slow",
            "replies": [{"step": "init"}, *[failing] * 5],
            "when": [
                {"do": "init"},
                {"do": "notify", "as": "task"},
                {"do": "wait", "steps": 2},
                *again,
                {"do": "answer", "of": "task", "raises": "StepFailed"},
            ],
            "then": {"status": "error", "detail": "broken"},
        }
    )
    scene.run()

    attempts = [t for t in scene.client.trace(*scene.names) if t.type == "notify"]
    assert [t.attempt for t in attempts] == [1, 2, 3, 4, 5]
    waited = [(t.retry_at - t.ended_at).total_seconds() / 3600 for t in attempts[:-1]]
    assert all(least <= w <= most for w, (least, most) in zip(waited, DELAYS, strict=True)), waited
