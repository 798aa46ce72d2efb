"""Databases with many processes and long histories, for `bench.scale`: rows made by scale.sql."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.server import TEMPLATE
from bench.workload import ARGS, EVENT, NAMESPACE, RESPONSE, STATE, load, process_id

if TYPE_CHECKING:
    from bench.server import Arena

FULL_PROCESSES: Final = 10_000_000
EVENTS_EACH: Final = 5
FULL_TIMERS: Final = 1_000_000
FULL_TASKS: Final = 1_000_000

_AT_ONCE = 250_000
_NAME = re.compile(r"^-- (processes|events|tasks|timers):", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Databases that stay: *small* with the *hot* processes alone, *large* with *size* of them.

    *claims* are templates of small ones by what lies in them besides.
    """

    small: str
    large: str
    claims: dict[str, str]
    hot: int
    size: int

    def on(self, arena: Arena) -> Scaled:
        """Return the same databases where their server has been started again."""

        def moved(dsn: str) -> str:
            return make_conninfo(arena.dsn, dbname=conninfo_to_dict(dsn)["dbname"])

        return replace(self, small=moved(self.small), large=moved(self.large))

    @property
    def hot_set(self) -> list[str]:
        """Processes of the large one, spread evenly among all."""
        gap = self.size // self.hot
        return [process_id(number * gap) for number in range(self.hot)]


def fill_all(arena: Arena, *, size: float, hot: int) -> Scaled:
    """Make the databases at a share *size* of the full one; at least the *hot* processes."""
    processes = max(hot, int(size * FULL_PROCESSES))
    timers, tasks = int(size * FULL_TIMERS), int(size * FULL_TASKS)
    names = {
        what: f"bench_{what}_{os.getpid()}"
        for what in ("small", "large", "alone", "timers", "tasks")
    }
    with contextlib.ExitStack() as stack:
        made = {
            what: stack.enter_context(arena.made(name, template=TEMPLATE))
            for what, name in names.items()
        }
        fill(made["small"], processes=hot)
        fill(made["alone"], processes=hot)
        # One each: a claim looks at the timers of its own process.
        fill(made["timers"], processes=max(hot, timers), timers=timers, events=0)
        fill(made["tasks"], processes=hot, tasks=tasks)
        fill(made["large"], processes=processes, timers=timers, tasks=processes)
    return Scaled(
        small=made["small"],
        large=made["large"],
        claims={
            "nothing": names["alone"],
            "later timers": names["timers"],
            "ended tasks": names["tasks"],
        },
        hot=hot,
        size=processes,
    )


def fill(
    dsn: str, *, processes: int, tasks: int = 0, timers: int = 0, events: int = EVENTS_EACH
) -> None:
    """Make the rows, and vacuum; events in the order of time, not of processes."""
    load(dsn, processes=0)  # makes the namespace and the partitions
    _make(dsn, "processes", processes)
    for event_id in range(1, events + 1):
        _make(dsn, "events", processes, event_id=event_id)
    _make(dsn, "tasks", tasks, processes=processes)
    _make(dsn, "timers", timers, processes=processes)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("vacuum (freeze, analyze)")


def _make(dsn: str, what: str, count: int, **more: int) -> None:
    began_at = time.monotonic()
    values: dict[str, object] = {
        "namespace": NAMESPACE,
        "events": EVENTS_EACH,
        "state": STATE.decode(),
        "event": EVENT.decode(),
        "args": ARGS.decode(),
        "response": RESPONSE.decode(),
        **more,
    }
    statement = _statements()[what]
    for start in range(0, count, _AT_ONCE):
        values |= {"start": start, "stop": min(count, start + _AT_ONCE)}
        with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
            cursor.execute(statement, values)
    if count > _AT_ONCE:
        print(f"{count} {what} made in {time.monotonic() - began_at:.0f} s", flush=True)


def _statements() -> dict[str, bytes]:
    parts = _NAME.split(Path(__file__).with_name("scale.sql").read_text())[1:]
    return {
        name: f"--{statement}".encode()
        for name, statement in zip(parts[::2], parts[1::2], strict=True)
    }
