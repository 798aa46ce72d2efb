"""The page that the last night wrote has every scene, and each of them in all five windows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.chaos.fleet import ROOT
from tests.night import scenes

PAGE = (ROOT / "docs/operations/night.md").read_text()
PARTS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
WINDOWS = ("metrics", "alerts", "log", "`top`", "`doctor`")


def titles() -> list[str]:
    tree = ast.parse(Path(scenes.__file__).read_text())
    return [
        ast.literal_eval(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "title"
    ]


def test_the_page_of_the_night_has_every_scene_and_its_proof() -> None:
    assert [*PARTS] == [*titles(), "In the morning"]
    assert "no breach" in PARTS["In the morning"]


@pytest.mark.parametrize("title", titles())
def test_a_scene_of_the_night_is_seen_in_five_windows(title: str) -> None:
    for window in WINDOWS:
        assert f" | {window} | " in PARTS[title]
