"""What does the same server do for pgbench?  Its simple-update at 32 clients is the yardstick."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.measure import Meter
from bench.question import Question
from bench.server import program

if TYPE_CHECKING:
    from bench.question import Sample, Sizes
    from bench.server import Arena

YARDSTICK: Final = "pgbench simple-update, 32 clients"
COMMIT: Final = "pgbench simple-update, 1 clients"

_INSERT = (
    "insert into pgbench_history (tid, bid, aid, delta, mtime, filler)"
    " values (1, 1, 1, 1, now(), repeat('x', 22));\n"
)
_SEEN = re.compile(r"number of transactions actually processed: (\d+)")


def _ask(arena: Arena, sizes: Sizes, *, clients: int, script: str | None = None) -> Sample:
    with arena.empty_database() as dsn:
        _run("-i", "-q", "-s", str(sizes.scale), dsn)
        if script is not None:
            return run_script(dsn, script, clients=clients, seconds=sizes.seconds)
        return _measured(dsn, ["-b", "simple-update"], clients=clients, seconds=sizes.seconds)


def run_script(
    dsn: str, script: str, *, clients: int, seconds: float, rate: int | None = None
) -> Sample:
    """Let pgbench run a script for some seconds, one at least; *rate* a second, or all it can."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        Path(file.name).write_text(script)
        paced = [] if rate is None else ["-R", str(rate)]
        return _measured(dsn, ["-f", file.name, *paced], clients=clients, seconds=seconds)


def _measured(dsn: str, what: list[str], *, clients: int, seconds: float) -> Sample:
    meter = Meter(dsn)
    with meter:
        said = _run(
            *(*what, "-n", "-M", "prepared"),
            *("-c", str(clients), "-j", str(min(clients, 2))),
            *("-T", str(max(1, round(seconds))), dsn),
        )
    found = _SEEN.search(said)
    return meter.sample(int(found[1]) if found else 0)


def _run(*arguments: str) -> str:
    command = [program("pgbench"), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


QUESTIONS = (
    *(
        Question(
            f"pgbench simple-update, {clients} clients",
            "transactions",
            functools.partial(_ask, clients=clients),
        )
        for clients in (1, 8, 32)
    ),
    *(
        Question(
            f"pgbench insert, {clients} clients",
            "transactions",
            functools.partial(_ask, clients=clients, script=_INSERT),
        )
        for clients in (1, 8, 32)
    ),
)
