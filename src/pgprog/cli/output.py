"""What all commands share: results for people, or as JSON for programs."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))

# Gives the command a keyword parameter *as_json*.
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(value: object) -> None:
    """Print one JSON document on a line; paths become strings, bytes are JSON already."""
    click.echo(msgspec.json.encode(_spliced(value), enc_hook=str))


def print_fields(fields: Mapping[str, object]) -> None:
    """Print a name and a value a line, in columns."""
    named = {printable(name): value for name, value in fields.items()}
    width = max((len(name) for name in named), default=0)
    for name, value in named.items():
        lines = shown(value).split("\n")
        click.echo(f"{name:<{width}}  " + f"\n{'':<{width}}  ".join(lines))


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns under their names; nothing but a word of it when there are no rows.

    On a terminal by rich, where that is installed: what does not fit goes on below.
    """
    listed = list(rows)
    if not listed:
        click.echo("none")
        return
    if is_terminal() and find_spec("rich") is not None:
        from pgprog.cli.screen import print_grid  # noqa: PLC0415 - an extra, slow to import

        print_grid(names, [[_on_a_line(_short_time(value)) for value in row] for row in listed])
        return
    lines = [[_on_a_line(shown(value)) for value in row] for row in listed]
    table = [[name.upper() for name in names], *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def is_terminal() -> bool:
    """Tell whether people look at what is printed, on a terminal that can do more than print."""
    has_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: closed by who started us
    return has_terminal and os.environ.get("TERM", "dumb") != "dumb"


def drop_unread() -> None:
    """Forget what could not be written to a pipe: Python tries again at its end, and complains."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by who started us
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def shown(value: object) -> str:
    """Return *value* as people read it: times in this machine's zone, payloads indented.

    It is `printable`.
    """
    match value:
        case None:
            return "-"
        case datetime():
            return value.astimezone().isoformat(timespec="seconds")
        case bytes() | msgspec.Raw():
            return printable(msgspec.json.format(bytes(value), indent=2).decode())
        case _:
            return printable(str(value))


def printable(text: str) -> str:
    """Return *text* with escapes for what would move a terminal's cursor or change its colours."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def compact(payload: bytes | None) -> str:
    """Return raw JSON on one line; null is shown as what is not there."""
    return (
        shown(None)
        if payload in (None, b"null")
        else printable(msgspec.json.format(payload, indent=0).decode())
    )


def age(since: datetime, *, now: datetime) -> str:
    """Return how long ago a time was in its greatest unit: `3m`; of one to come, `in 3m`."""
    return f"in {short(since - now)}" if since > now else short(now - since)


def short(duration: timedelta) -> str:
    """Return a duration in its greatest unit: `3m`."""
    seconds = int(duration.total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _short_time(value: object) -> str:
    """Return *value* as on a screen, where a time may break after its day and needs no zone."""
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    return shown(value)


def _spliced(value: object) -> Any:  # noqa: ANN401 - JSON
    match value:
        case bytes():
            return msgspec.Raw(value)
        case dict():
            return {key: _spliced(item) for key, item in value.items()}
        case list():
            return [_spliced(item) for item in value]
        case _:
            return value


def _on_a_line(text: str) -> str:
    return text.replace("\n", "\\n")
