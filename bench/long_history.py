"""What do a call and a read of a process with a million events take, beside one with a hundred?

Both processes are asked in turn, ten rounds of each, one request after another by one caller.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter
from bench.question import Question
from bench.workload import EVENT, NAMESPACE, NOTE, counters, load, process_ids
from pgprog.client import Engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.question import Sample, Sizes
    from bench.server import Arena

_SHORT_EVENTS = 100
_ROUNDS = 10
# A million calls would take minutes: these are the rows that they leave.
_WRITE_HISTORY = """
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select p.incarnation, n, p.incarnation, now(), %(event)s
from pgprog_data.processes as p, generate_series(p.last_event_id + 1, %(events)s) as n
where p.process_id = %(process)s;
update pgprog_data.processes set last_event_id = %(events)s where process_id = %(process)s;
"""


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    short, long = process_ids(2)
    with arena.database() as dsn:
        load(dsn, processes=2)
        _write_history(dsn, {short: _SHORT_EVENTS, long: sizes.long_history})
        return asyncio.run(_measure(dsn, short=short, long=long, count=sizes.history_requests))


async def _measure(dsn: str, *, short: str, long: str, count: int) -> Sample:
    async with Engine(dsn, [counters()]) as engine:

        async def call(process_id: str) -> None:
            await engine.call(NAMESPACE, process_id, {"note": NOTE}, name="count")

        async def read(process_id: str) -> None:
            await engine.get(NAMESPACE, process_id, max_events=100, direction="backward")

        figures: dict[str, float] = {}
        meter = Meter(dsn)
        with meter:
            for name, request in (("call", call), ("get", read)):
                rounds = [
                    (
                        await _median(request, short, count=count),
                        await _median(request, long, count=count),
                    )
                    for _ in range(_ROUNDS)
                ]
                of_short, of_long = zip(*rounds, strict=True)
                ratios = sorted(after / before for before, after in rounds)
                figures |= {
                    f"{name} ms, short": 1000 * statistics.median(of_short),
                    f"{name} ms, long": 1000 * statistics.median(of_long),
                    f"{name} ratio": statistics.median(ratios),
                    f"{name} ratio, least": ratios[0],
                    f"{name} ratio, greatest": ratios[-1],
                }
        return meter.sample(4 * _ROUNDS * count, figures=figures)


async def _median(
    request: Callable[[str], Awaitable[None]], process_id: str, *, count: int
) -> float:
    """Return the median seconds of requests to one process, one after another."""
    seconds = []
    for _ in range(count):
        began_at = time.perf_counter()
        await request(process_id)
        seconds.append(time.perf_counter() - began_at)
    return statistics.median(seconds)


def _write_history(dsn: str, events: dict[str, int]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for process_id, count in events.items():
            values = {"process": process_id, "events": count, "event": EVENT.decode()}
            psycopg.ClientCursor(connection).execute(_WRITE_HISTORY, values)
        connection.execute("vacuum analyze pgprog_data.events")


QUESTIONS = (Question("requests to a long history", "requests", _ask, is_long=True),)
