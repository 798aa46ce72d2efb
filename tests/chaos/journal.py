"""Logs that survive kill -9: one JSON object a line, one write a line, appended whole."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Line = dict[str, Any]


class Journal:
    """Appends lines to a file; any thread may write.

    Each line has the times of its writing: *mono*, which all processes of a machine share, and
    *wall*, which is the clock of the database too.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, what: str, **fields: object) -> None:
        line = {"what": what, "mono": time.monotonic(), "wall": time.time(), **fields}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")


class Tail:
    """Reads what was appended since it was read last; half a line waits for its other half."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> Iterator[Line]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)


def read_all(place: Path, pattern: str) -> list[Line]:
    """Return the lines of all files of that pattern, by time."""
    lines = [line for path in sorted(place.glob(pattern)) for line in Tail(path).lines()]
    return sorted(lines, key=lambda line: float(line["mono"]))
