"""Where does the time of a question go, in PostgreSQL and in Python?

python -m bench.profiling QUESTION [--tasks N]

One sample for each of three looks: the statements of PostgreSQL with those within functions
(pg_stat_statements, which makes them slower by a tenth and more), the functions of all programs
(`perf record`, where there is perf and a kernel that lets us), and the functions of Python
(`py-spy`, if it is installed beside this Python).  The load of the sample is not looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg import sql

from bench.__main__ import QUESTIONS
from bench.measure import Meter
from bench.question import FULL
from bench.server import durable_server
from pgprog import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.question import Question, Sizes
    from bench.server import Arena

    Around = Callable[[str], contextlib.AbstractContextManager[object]]
    # Of a statement: µs a task, calls, whether it is no other's part, and its text.
    Row = tuple[float, int, bool, str]

_MOST: Final = 30
_WIDEST: Final = 120
_STATEMENTS: Final[LiteralString] = """
select (1000 * s.total_exec_time / %(count)s)::float8, s.calls, s.toplevel, s.query
from pg_stat_statements as s
join pg_database as d on d.oid = s.dbid
where d.datname = current_database()
order by s.total_exec_time desc
limit %(most)s
"""


def main() -> None:
    """Ask three times, and print what was seen."""
    given = _arguments()
    logs.configure(level="error")
    [question] = [each for each in QUESTIONS if each.name == given.question]
    sizes = replace(FULL, tasks=given.tasks, many_processes=given.tasks)
    with durable_server() as arena, tempfile.TemporaryDirectory() as directory:
        _statements(arena, question, sizes)
        if perf := shutil.which("perf"):
            _machine(arena, question, sizes, perf=perf, file=f"{directory}/perf")
        if spy := shutil.which("py-spy", path=str(Path(sys.executable).parent)):
            _python(arena, question, sizes, spy=spy, file=Path(directory, "stacks"))


def _statements(arena: Arena, question: Question, sizes: Sizes) -> None:
    rows: list[Row] = []

    @contextlib.contextmanager
    def counted(dsn: str) -> Iterator[None]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create extension if not exists pg_stat_statements")
            connection.execute("select pg_stat_statements_reset()")
            yield
            found = connection.execute(_STATEMENTS, {"count": sizes.tasks, "most": _MOST})
            rows.extend(found.fetchall())

    _track(arena, "all")
    sample = _ask(arena, question, sizes, counted)
    _track(arena, "none")
    print(f"## Statements, µs a task ({sample})\n")
    print("\n".join(map(line_of, rows)))


def line_of(row: Row) -> str:
    """Return a statement with what it takes on a line."""
    microseconds, calls, is_top, query = row
    shown = re.sub(r"\s+", " ", query)[:_WIDEST]
    return f"{microseconds:8.2f} {calls:8} {'top' if is_top else '   '} {shown}"


def _machine(arena: Arena, question: Question, sizes: Sizes, *, perf: str, file: str) -> None:
    @contextlib.contextmanager
    def recorded(_dsn: str) -> Iterator[None]:
        with _beside([perf, "record", "--all-cpus", "--freq=997", "--output", file]):
            yield

    sample = _ask(arena, question, sizes, recorded)
    for keys in ("comm,dso", "comm,dso,symbol"):
        command = [perf, "report", "--stdio", "--input", file, f"--sort={keys}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
        print(f"\n## By {keys}, of all cores ({sample})\n")
        print("\n".join(lines[:_MOST]))


def _python(arena: Arena, question: Question, sizes: Sizes, *, spy: str, file: Path) -> None:
    @contextlib.contextmanager
    def recorded(_dsn: str) -> Iterator[None]:
        asked = ["--format", "raw", "--rate", "500", "--duration", "3600", "--nonblocking"]
        with _beside([spy, "record", "--pid", str(os.getpid()), *asked, "--output", str(file)]):
            yield

    sample = _ask(arena, question, sizes, recorded)
    alone, within = seen(file.read_text().splitlines())
    for title, found in (("by itself", alone), ("with what it calls", within)):
        print(f"\n## Python, share of a function {title} ({sample})\n")
        print("\n".join(shares(found, total=alone.total())))


def shares(found: Counter[str], *, total: int) -> list[str]:
    """Return a line for each function, those seen most often first."""
    return [f"{count / total:6.1%} {name}" for name, count in found.most_common(_MOST)]


def seen(stacks: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """Return how often each function was seen by itself, and with what it calls.

    A stack is a line of frames, `name (file:line)` from the outermost to the innermost, with the
    number of times it was seen.
    """
    alone, within = Counter[str](), Counter[str]()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        names = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        alone[names[-1]] += int(count)
        for name in set(names):
            within[name] += int(count)
    return alone, within


def _ask(arena: Arena, question: Question, sizes: Sizes, around: Around) -> str:
    Meter.around = staticmethod(around)
    sample = question.ask(arena, sizes)
    return f"{sample.rate:.0f} {question.what}/s"


@contextlib.contextmanager
def _beside(command: Sequence[str]) -> Iterator[None]:
    """Run a program that records, and let it write what it has."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as recording:
        yield
        recording.send_signal(signal.SIGINT)


def _track(arena: Arena, what: str) -> None:
    """Say what sessions to come count."""
    with psycopg.connect(arena.dsn, autocommit=True) as connection:
        setting = sql.SQL("alter role current_user set pg_stat_statements.track = {}")
        connection.execute(setting.format(what))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.profiling", description=__doc__)
    parser.add_argument("question", help="the name of a question of `python -m bench`")
    parser.add_argument("--tasks", type=int, default=100_000, help="how many, 100 000")
    return parser.parse_args()


if __name__ == "__main__":
    main()
