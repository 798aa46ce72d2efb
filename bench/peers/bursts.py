"""How late do jobs begin that are all due at one moment?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.measure import Meter, percentile
from bench.peers.job import NO_OP
from bench.peers.running import Program, enqueue, installed, start
from bench.peers.shared import SharedQuestion
from bench.question import NoAnswerError

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Sample, Sizes
    from bench.server import Arena

_SHORTEST_LEAD_SECONDS = 1.0
_FULL = 5_000
_LONGEST_SECONDS = 10.0
_TRIES = 3


def _ask(arena: Arena, sizes: Sizes, *, peer: Peer) -> Sample:
    """Ask again with twice the time to load where that was too short."""
    count = min(sizes.timers, peer.timers_at_most)
    lead = max(_SHORTEST_LEAD_SECONDS, peer.lead_seconds * count / _FULL)
    for _ in range(_TRIES):
        sample = _burst(arena, sizes, peer=peer, count=count, lead=lead)
        if sample is not None:
            return sample
        lead *= 2
    msg = f"{peer.name}: {count} jobs were not enqueued within {lead / 2:.0f} s"
    raise NoAnswerError(msg)


def _burst(arena: Arena, sizes: Sizes, *, peer: Peer, count: int, lead: float) -> Sample | None:
    with (
        installed(arena, peer, sizes) as dsn,
        Program(peer, "work", dsn, kind=NO_OP, count=1 + count) as worker,
    ):
        start(worker, peer, dsn)
        enqueued = enqueue(peer, dsn, count=count, lead=lead)
        due_at = enqueued["due_at"]
        if enqueued["over_at"] > due_at:
            return None
        monotonic_due_at = due_at - time.time() + time.monotonic()
        time.sleep(max(0.0, due_at - time.time()))
        meter = Meter(dsn)
        with meter:
            worker.hear_within("last", seconds=_LONGEST_SECONDS)
        worker.say("tell")
        began_at = [at for _, at in worker.hear("began_at")["began_at"][1:]]
    if not began_at:
        msg = f"{peer.name}: none of {count} jobs began within {_LONGEST_SECONDS:.0f} s"
        raise NoAnswerError(msg)
    waits = [at - monotonic_due_at for at in began_at]
    # Those that did not begin are at least as late as the wait was long.
    waits += [_LONGEST_SECONDS] * (count - len(began_at))
    figures = {
        "p50 ms": 1000 * percentile(waits, 0.5),
        "p99 ms": 1000 * percentile(waits, 0.99),
        "earliest ms": 1000 * min(waits),
        "timers": count,
        "begun": len(began_at),
    }
    return meter.sample(len(began_at), figures=figures)


SHARED = (SharedQuestion("jobs due at one moment", "jobs", _ask, figures=("p50 ms", "p99 ms")),)
