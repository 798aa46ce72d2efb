"""The 21 cases of the reference system's suite, played through the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

CASES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("progressor.yaml").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_case_of_the_reference_system_holds(play: Callable[..., Any], case: str) -> None:
    play(CASES[case]).run()


def test_each_case_of_the_reference_system_is_there() -> None:
    assert len(CASES) == 21
