"""Tables on a terminal, by rich, which is an extra: `pip install 'pgprog[cli]'`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from pgprog.cli.output import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import ConsoleOptions, OverflowMethod, RenderResult

    from pgprog.cli.overview import Table

_STYLES = {
    "error": "red",
    "running": "green",
    "paused": "yellow",
    "finished": "dim",
    "cancelled": "dim",
}
_ALARM = "bold red"
# Lines: before a table, its names and the rule below them; before what says that there is none.
_AROUND_ROWS: Final = 3
_AROUND_NONE: Final = 2
_GAP: Final = 2  # between two columns
_LEAST_WIDTH: Final = 16  # of the longest column, before others are spared


def print_grid(names: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print rows on the terminal, as wide as it is; what does not fit goes on below."""
    Console(highlight=False).print(_grid(names, lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What fills the screen, however small: a heading, what is in the way, and tables.

    A row is one line, and no table takes the room of another: columns that can be spared, and rows
    behind the first, are left out, and of the rows is told how many.
    """

    heading: str
    tables: Sequence[Table]
    trouble: str | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, as rich asks for them."""
        yield Text(self.heading, style="bold", no_wrap=True, overflow="ellipsis")
        if self.trouble is not None:
            yield Text(self.trouble, style=_ALARM, no_wrap=True, overflow="ellipsis")
        room = (options.height or console.height) - (1 if self.trouble is None else 2)
        room -= sum(_AROUND_ROWS if table.rows else _AROUND_NONE for table in self.tables)
        given = shares([len(table.rows) for table in self.tables], room)
        for table, most in zip(self.tables, given, strict=True):
            yield Text()
            if table.rows:
                yield from _fitted(table, most=most, width=options.max_width)
            else:
                yield Text(f"no {table.title}", style="dim")


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """Return how many lines of *room* each gets: equally many, but none more than it wants."""
    given = [0] * len(wanted)
    smallest = sorted(range(len(wanted)), key=wanted.__getitem__)
    for done, pos in enumerate(smallest):
        given[pos] = min(wanted[pos], max(0, room - sum(given)) // (len(wanted) - done))
    return given


def _fitted(table: Table, *, most: int, width: int) -> Iterator[Text | Grid]:
    """Yield a table in so many lines and columns, and what it is without."""
    is_whole = len(table.rows) <= most
    shown_rows = table.rows if is_whole else table.rows[: max(0, most - 1)]
    lines = [[shown(cell).replace("\n", " ") for cell in row] for row in shown_rows]
    kept = list(range(len(table.names)))
    widths = [
        max(map(cell_len, (name, *(line[pos] for line in lines))))
        for pos, name in enumerate(table.names)
    ]
    spared = [table.names.index(name) for name in table.spare]
    while (over := sum(widths[pos] + _GAP for pos in kept) - _GAP - width) > 0:
        longest = max(kept, key=widths.__getitem__)
        if widths[longest] - over >= _LEAST_WIDTH or not spared:
            widths[longest] = max(3, widths[longest] - over)
            break
        kept.remove(spared.pop(0))
    names = [table.names[pos] for pos in kept]
    cut = [[_cut(line[pos], widths[pos]) for pos in kept] for line in lines]
    yield _grid(names, cut, alarms=table.alarms, overflow="ellipsis")
    if not is_whole:
        yield Text(
            f"… {len(table.rows) - len(lines)} more {table.title}", style="dim", no_wrap=True
        )


def _cut(text: str, width: int) -> str:
    """Return *text* in so many characters: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _grid(
    names: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    alarms: frozenset[int] = frozenset(),
    overflow: OverflowMethod = "fold",
) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, name in enumerate(names):
        is_number = all(line[number].replace(".", "").isdecimal() for line in lines)
        grid.add_column(
            name.upper(),
            justify="right" if is_number else "left",
            overflow=overflow,
            no_wrap=overflow != "fold",
            min_width=3,
        )
    for number, line in enumerate(lines):
        cells = (Text(cell, style=_STYLES.get(cell, "")) for cell in line)
        grid.add_row(*cells, style=_ALARM if number in alarms else None)
    return grid
