"""Reads a page of the documentation as its reader does, and does what it says.

Blocks count by their language: `python` and `yaml` that begin with `# name` are files, `sql` is
executed, and of `console` the lines after `$ ` are, with what they print below them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from click.testing import CliRunner

from pgprog.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", flags=re.DOTALL)
_FILE = re.compile(r"# ([\w.-]+)\n")
# What only looks may be repeated until it shows what the page shows.
_LOOKS = {"explain", "get", "history", "list", "show", "trace"}
_PATIENCE_SECONDS = 20


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each block."""
    yield from _BLOCK.findall((DOCS / page).read_text())


def is_like(expected: str, printed: str) -> bool:
    """Tell whether this was printed, but for the width of columns; dots stand for anything."""
    expected, printed = (re.sub(" +", " ", text) for text in (expected, printed))
    parts = re.split(r" ?\.\.\.[ \n]?", expected)
    return re.fullmatch(".*?".join(map(re.escape, parts)), printed, flags=re.DOTALL) is not None


class Reader:
    """Follows a page in a directory of its own, with `pgprog` on the path."""

    def __init__(self, place: Path, dsn: str = "") -> None:
        self._place = place
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environ = {**os.environ, "PATH": path}
        if dsn:
            self._environ["PGPROG_DSN"] = dsn

    def follow(self, page: str) -> None:
        """Do everything that the page says, from its beginning to its end."""
        for language, text in blocks(page):
            match language:
                case "python" | "yaml":
                    self._write(text)
                case "sql":
                    self._execute(text)
                case "console":
                    for command, expected in _commands(text):
                        self._type(command, expected)
                case _:
                    pass

    def _write(self, text: str) -> None:
        if name := _FILE.match(text):
            (self._place / name[1]).write_text(text)

    def _execute(self, text: str) -> None:
        with psycopg.connect(self._environ["PGPROG_DSN"], autocommit=True) as connection:
            for statement in filter(str.strip, text.split(";")):
                connection.execute(statement.encode())

    def _type(self, command: str, expected: str) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not is_like(expected, printed := self._run(command)):
            words = set(command.split()[:3])
            assert words & _LOOKS, f"{command} printed:\n{printed}"
            assert time.monotonic() < until, f"{command} printed at last:\n{printed}"

    def _run(self, command: str) -> str:
        if command.startswith("pgprog ") and not set(command) & set("&|<>"):
            # In this program, which has imported everything already.
            words = shlex.split(command)[1:]
            return CliRunner().invoke(main, words, env=self._environ).output
        if command.startswith("export "):
            name = command.split()[1].partition("=")[0]
            self._environ[name] = self._shell(f'{command}; echo "${name}"').strip()
            return ""
        return self._shell(command)

    def _shell(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._place,
            env=self._environ,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.stdout


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for each in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = each.partition("\n")
        yield command, printed
