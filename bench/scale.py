"""What do ten million processes with fifty million events cost those that are at work?

python -m bench.scale [--size SHARE] [--rounds N] [--only WORD ...] [--buffers SIZE ...]

The large database has an ended task of each process and a million timers of later days, too; its
events were written in the order of time, so that those of one process lie far apart.

| question | what is asked |
| --- | --- |
| small database | calls of 20 000 processes, one each, where there are no others |
| hot set | the same of 20 000 that are spread evenly among all |
| hot set after a checkpoint | the same when each page that it touches goes whole into the WAL |
| uniform | of as many drawn at random from all, others each time: most pages come from disk |
| claims | only claiming, 200 at a time, in small databases beside nothing, timers, ended tasks |

A drain is that of drain.py, by one worker.  The small database and the hot set are drained twice;
the second time counts, for checkpoints lie between the samples.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from bench import pgbench
from bench.asking import ask_all, chosen, keep, machine_of
from bench.ceiling import BATCH
from bench.drain import drained
from bench.measure import Meter, spread
from bench.question import FULL, Question
from bench.report import pairs
from bench.scaled import fill_all
from bench.server import SETTINGS, durable_server
from bench.workload import load_calls, process_id, process_ids, registered
from pgprog import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.question import Sample, Sizes
    from bench.report import Rounds
    from bench.scaled import Scaled
    from bench.server import Arena

SMALL = "small database"
_SMALL_CLAIMS = "claims beside nothing"
# What the others are compared with.
_ALWAYS = (pgbench.YARDSTICK, SMALL, _SMALL_CLAIMS)
_FULL_GIGABYTES = 45
_LEAST_CPU = 0.01  # what the kernel can tell
_SEED = 20261128


def main() -> None:
    """Load, ask, print and keep."""
    given = _arguments()
    logs.configure(level="error")
    _check_room(given.size)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)  # the server has another account where we are root
        scale: Scaled | None = None
        for buffers in given.buffers:
            with durable_server(
                datadir=Path(directory, "data"), settings={"shared_buffers": buffers}
            ) as arena:
                if scale is None:
                    scale = fill_all(arena, size=given.size, hot=FULL.many_processes)
                scale = scale.on(arena)
                _ask(arena, scale, given)


def _ask(arena: Arena, scale: Scaled, given: argparse.Namespace) -> None:
    machine = machine_of(arena, FULL) | {"size": given.size}
    asked = chosen(questions(scale), given.only, always=_ALWAYS)
    rounds = ask_all(arena, asked, sizes=FULL, rounds=given.rounds)
    keep(rounds, machine, name="scale")
    print(summary(rounds))


def questions(scale: Scaled) -> list[Question]:
    """Return what is asked, pgbench among it."""
    asked: dict[str, Callable[[Arena, Sizes], Sample]] = {
        SMALL: functools.partial(_drain_warm, dsn=scale.small, ids=lambda: process_ids(scale.hot)),
        "hot set": functools.partial(_drain_warm, dsn=scale.large, ids=lambda: scale.hot_set),
        "hot set after a checkpoint": functools.partial(
            _drain_cold, dsn=scale.large, ids=lambda: scale.hot_set
        ),
        "uniform": functools.partial(_drain, dsn=scale.large, ids=_drawn(scale)),
    }
    for what, template in scale.claims.items():
        asked[f"claims beside {what}"] = functools.partial(_claim, scale=scale, template=template)
    yardsticks = [q for q in pgbench.QUESTIONS if q.name == pgbench.YARDSTICK]
    return yardsticks + [Question(name, "tasks", ask) for name, ask in asked.items()]


def summary(rounds: Rounds) -> str:
    """Return how each compares with what it is like in a small database, round by round."""
    lines = ["Beside the same in a small database:"]
    for name, samples in rounds.items():
        beside = pairs(samples, rounds[_SMALL_CLAIMS if name.startswith("claims") else SMALL])
        if name != pgbench.YARDSTICK and beside:
            rate = _shown([each.rate / other.rate for each, other in beside])
            cpu = _shown([_postgres_cpu(each) / _postgres_cpu(other) for each, other in beside])
            lines.append(f"{name}: {rate} as fast, {cpu} of the CPU of PostgreSQL")
    return "\n".join(lines)


def _shown(ratios: list[float]) -> str:
    found = spread(ratios)
    return f"{found.median:.2f} ({found.least:.2f} to {found.greatest:.2f})"


def _postgres_cpu(sample: Sample) -> float:
    return max(sample.postgres_cpu, _LEAST_CPU) / sample.count


def _drain(_arena: Arena, _sizes: Sizes, *, dsn: str, ids: Callable[[], Sequence[str]]) -> Sample:
    chosen = ids()
    load_calls(dsn, ids=chosen)
    return asyncio.run(drained(dsn, count=len(chosen), concurrency=100))


def _drain_warm(
    arena: Arena, sizes: Sizes, *, dsn: str, ids: Callable[[], Sequence[str]]
) -> Sample:
    """Drain twice: the second time the pages are in the cache, and whole in the WAL already."""
    _drain(arena, sizes, dsn=dsn, ids=ids)
    return _drain(arena, sizes, dsn=dsn, ids=ids)


def _drain_cold(
    arena: Arena, sizes: Sizes, *, dsn: str, ids: Callable[[], Sequence[str]]
) -> Sample:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("checkpoint")
    return _drain(arena, sizes, dsn=dsn, ids=ids)


def _claim(arena: Arena, _sizes: Sizes, *, scale: Scaled, template: str) -> Sample:
    """Claim all of the hot processes in a database of its own, and complete nothing."""
    with arena.database(template=template) as dsn:
        load_calls(dsn, ids=process_ids(scale.hot))
        return asyncio.run(_claimed(dsn, count=scale.hot))


async def _claimed(dsn: str, *, count: int) -> Sample:
    async with registered(dsn) as (store, worker_id):
        left, meter = count, Meter(dsn)
        with meter:
            while left > 0:
                left -= len((await store.claim(worker_id, BATCH, held={})).tasks)
    return meter.sample(count)


def _drawn(scale: Scaled) -> Callable[[], list[str]]:
    draws = random.Random(_SEED)
    return lambda: [process_id(each) for each in draws.sample(range(scale.size), scale.hot)]


def _check_room(size: float) -> None:
    needed = size * _FULL_GIGABYTES
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < needed:
        msg = f"{needed:.0f} GB are needed for temporary files, {free:.0f} are free: set TMPDIR"
        raise RuntimeError(msg)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="the share of the full size")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds")
    parser.add_argument(
        "--buffers",
        nargs="+",
        default=[SETTINGS["shared_buffers"]],
        help="shared_buffers of the server, which asks all again with each",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="only questions with one of these in their name"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
