"""How many waiting jobs a second does one worker end, also where nothing dead can be removed?

The time is from the begin of the first job to the moment that the database shows nothing left to
do.  Who is not through after a while is cut there, and what has ended by then counts: exact to one
batch.  For the last question a snapshot is held open before many jobs came and went: by hand, in
rows as the peer leaves them, or where its rows are too intricate, by running them.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import psycopg

from bench.measure import Meter
from bench.peers.job import BY_HAND, NO_OP, OWN
from bench.peers.running import Program, execute, installed, load
from bench.peers.shared import SharedQuestion
from bench.question import NoAnswerError
from bench.server import pinned

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Sample, Sizes
    from bench.server import Arena

_LOOK_SECONDS = 0.01
_AGING_SECONDS = 15.0
_ENDLESS_SECONDS = 120.0
_AGED_AT_ONCE = 10_000
_SETTLE = (b"vacuum analyze", b"checkpoint")


def _ask(arena: Arena, sizes: Sizes, *, peer: Peer, kind: str) -> Sample:
    with installed(arena, peer, sizes) as dsn:
        return _drain(peer, dsn, sizes, kind=kind)


def _ask_pinned(arena: Arena, sizes: Sizes, *, peer: Peer) -> Sample:
    with installed(arena, peer, sizes) as dsn, pinned(dsn):
        aged = _age(peer, dsn, sizes)
        return _drain(peer, dsn, sizes, kind=NO_OP, before=aged)


def _drain(peer: Peer, dsn: str, sizes: Sizes, *, kind: str, before: int = 0) -> Sample:
    """Drain; *before* are the jobs that have ended before these."""
    load(peer, dsn, count=sizes.jobs)
    _settle(dsn)
    count = execute(dsn, peer.left, count=before + sizes.jobs)
    if count < sizes.jobs:
        msg = f"{peer.name}: {count} of {sizes.jobs} jobs wait"
        raise NoAnswerError(msg)
    meter = Meter(dsn)
    with Program(peer, "work", dsn, kind=kind, count=count) as worker:
        worker.hear("ready")
        with meter:
            worker.say("go")
            first = float(worker.hear("first")["first"])
            worker.hear_within("last", seconds=sizes.cut_seconds)
            left = _wait_ended(peer, dsn, count=before + count, until=first + sizes.cut_seconds)
            seconds = time.monotonic() - first
        worker.say("tell")
        began = len(worker.hear("began_at")["began_at"])
    ended = count - left
    figures = {"ended": ended, "begun": began} | ({"dead before": before} if before else {})
    return meter.sample(max(1, ended), seconds=seconds, figures=figures)


def _wait_ended(peer: Peer, dsn: str, *, count: int, until: float) -> int:
    """Return how many are left: none, or those there are when the time is up."""
    while (left := execute(dsn, peer.left, count=count)) > 0 and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    return left


def _age(peer: Peer, dsn: str, sizes: Sizes) -> int:
    """Let jobs come and go; return how many did in the time that there is for it."""
    if not peer.age:
        return _run_aged(peer, dsn, sizes)
    if peer.clone:
        load(peer, dsn, count=1)  # some clone what waits
    aged, until = 0, time.monotonic() + _AGING_SECONDS
    while aged < sizes.aged and time.monotonic() < until:
        count = min(_AGED_AT_ONCE, sizes.aged)
        for statement in peer.age:
            execute(dsn, statement, count=count)
        aged += count
    return aged


def _run_aged(peer: Peer, dsn: str, sizes: Sizes) -> int:
    with Program(peer, "work", dsn, kind=NO_OP, count=sizes.aged) as worker:
        worker.hear("ready")
        worker.say("go")
        aged, until = 0, time.monotonic() + 2 * _AGING_SECONDS
        while aged < sizes.aged and time.monotonic() < until:
            load(peer, dsn, count=min(sizes.jobs, sizes.aged))
            aged += min(sizes.jobs, sizes.aged)
            # To the end: what a killed worker holds waits for its lease.
            if _wait_ended(peer, dsn, count=aged, until=time.monotonic() + _ENDLESS_SECONDS):
                msg = f"{peer.name}: {aged} jobs did not end within {_ENDLESS_SECONDS:.0f} s"
                raise NoAnswerError(msg)
    return aged


def _settle(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in _SETTLE:
            connection.execute(statement)


_PLAIN = tuple(
    SharedQuestion(f"drain, {what}", "jobs", functools.partial(_ask, kind=kind), kind=kind)
    for what, kind in (
        ("no-op jobs", NO_OP),
        ("jobs with state and event of its own", OWN),
        ("jobs with state and event by hand", BY_HAND),
    )
)
SHARED = (*_PLAIN, SharedQuestion("drain, no-op jobs under a pinned xmin", "jobs", _ask_pinned))
