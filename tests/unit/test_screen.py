"""What a screen shows when it is too small for all."""

from __future__ import annotations

import pytest
from rich.console import Console

from pgprog.cli.overview import Table
from pgprog.cli.screen import Frame, shares


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [
        ([300, 2, 1], 20, [17, 2, 1]),
        ([300, 200, 1], 21, [10, 10, 1]),
        ([3, 2, 1], 100, [3, 2, 1]),
        ([300, 0, 0], 9, [9, 0, 0]),
        ([5, 5], 0, [0, 0]),
        ([5, 5], -3, [0, 0]),
        ([], 5, []),
    ],
)
def test_lines_are_shared_and_none_gets_more_than_it_wants(
    wanted: list[int], room: int, given: list[int]
) -> None:
    assert shares(wanted, room) == given


def drawn(*tables: Table, width: int, height: int) -> list[str]:
    """Return the lines of a screen of this size."""
    console = Console(width=width, height=height)
    with console.capture() as capture:
        console.print(Frame(heading="top", tables=tables, trouble=None))
    return [line.rstrip() for line in capture.get().splitlines()]


def a_table(names: int) -> Table:
    rows = [(f"a namespace of some length {number}", number, 7) for number in range(names)]
    return Table(
        title="namespaces", names=("namespace", "waiting", "timers"), rows=rows, spare=("timers",)
    )


def test_a_screen_that_is_too_low_tells_how_many_rows_it_is_without() -> None:
    lines = drawn(a_table(30), width=80, height=10)

    assert len(lines) <= 10
    assert lines[-1] == "… 25 more namespaces"


def test_a_screen_that_is_too_narrow_spares_columns_and_cuts_names_in_the_middle() -> None:
    wide, narrow = (drawn(a_table(2), width=width, height=10) for width in (80, 28))

    assert "TIMERS" in wide[2]
    assert wide[4].split("  ")[0] == "a namespace of some length 0"
    assert narrow[2].split() == ["NAMESPACE", "WAITING"]
    assert [line.split("  ")[0] for line in narrow[4:6]] == [
        "a namespa… length 0",
        "a namespa… length 1",
    ]
    assert max(map(len, narrow)) <= 28
