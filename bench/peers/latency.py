"""How long after its arrival does a job begin in an idle worker?

Jobs arrive at random moments of a fixed seed, 25 a second, whether those before them are through or
not; the time is from the moment that one should have been sent to the first line of its handler.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.measure import Meter, percentile
from bench.peers.job import NO_OP
from bench.peers.running import Program, installed
from bench.peers.shared import SharedQuestion
from bench.question import NoAnswerError

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Sample, Sizes
    from bench.server import Arena

_ARRIVALS_A_SECOND = 25.0
_SEED = 20261128


def _ask(arena: Arena, sizes: Sizes, *, peer: Peer) -> Sample:
    options = {"count": sizes.arrivals, "rate": _ARRIVALS_A_SECOND, "seed": _SEED}
    with (
        installed(arena, peer, sizes) as dsn,
        Program(peer, "work", dsn, kind=NO_OP, count=0) as worker,
        Program(peer, "arrive", dsn, **options) as producer,
    ):
        worker.hear("ready")
        worker.say("go")
        producer.hear("ready")
        worker.hear("first")  # it is up: it runs the producer's warm-ups
        time.sleep(sizes.settle_seconds)
        meter = Meter(dsn)
        with meter:
            producer.say("go")
            due_at = producer.hear("due_at", seconds=600)["due_at"]
            time.sleep(sizes.grace_seconds)
        worker.say("tell")
        began_at = dict(reversed(worker.hear("began_at")["began_at"]))  # the first, if it ran twice
    waits = [began_at[number] - at for number, at in enumerate(due_at) if number in began_at]
    if not waits:
        msg = f"{peer.name}: none of {len(due_at)} jobs began"
        raise NoAnswerError(msg)
    figures = {
        "p50 ms": 1000 * percentile(waits, 0.5),
        "p99 ms": 1000 * percentile(waits, 0.99),
        "not begun": len(due_at) - len(waits),
    }
    return meter.sample(len(waits), figures=figures)


SHARED = (
    SharedQuestion("enqueue to start, idle worker", "jobs", _ask, figures=("p50 ms", "p99 ms")),
)
