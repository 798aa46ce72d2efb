"""Tables on a terminal, by rich, which is an extra: `pip install 'pgprog[cli]'`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from pgprog.cli.output import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.cli.overview import Table

_STYLES = {
    "error": "red",
    "running": "green",
    "paused": "yellow",
    "finished": "dim",
    "cancelled": "dim",
}
_ALARM = "bold red"


def print_grid(names: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print rows on the terminal, as wide as it is; what does not fit goes on below."""
    Console(highlight=False).print(_grid(names, lines))


def frame(heading: str, tables: Sequence[Table], *, trouble: str | None) -> Group:
    """Return what fills the screen: a heading, what is in the way, and tables."""
    parts: list[Text | Grid] = [Text(heading, style="bold")]
    if trouble is not None:
        parts.append(Text(trouble, style=_ALARM))
    for table in tables:
        lines = [[shown(cell).replace("\n", " ") for cell in row] for row in table.rows]
        if lines:
            parts += [Text(), _grid(table.names, lines, alarms=table.alarms)]
        else:
            parts += [Text(), Text(f"no {table.title}", style="dim")]
    return Group(*parts)


def _grid(
    names: Sequence[str], lines: Sequence[Sequence[str]], *, alarms: frozenset[int] = frozenset()
) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, name in enumerate(names):
        is_number = all(line[number].replace(".", "").isdecimal() for line in lines)
        grid.add_column(
            name.upper(), justify="right" if is_number else "left", overflow="fold", min_width=3
        )
    for number, line in enumerate(lines):
        cells = (Text(cell, style=_STYLES.get(cell, "")) for cell in line)
        grid.add_row(*cells, style=_ALARM if number in alarms else None)
    return grid
