"""How many jobs a second does one program enqueue, one after another and by the call for many?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bench.measure import Meter
from bench.peers.running import Program, installed
from bench.peers.shared import SharedQuestion

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Sample, Sizes
    from bench.server import Arena


def _ask(arena: Arena, sizes: Sizes, *, peer: Peer, action: str) -> Sample:
    count = min(sizes.jobs, peer.many)
    options = {"seconds": sizes.short_seconds, "processes": sizes.jobs, "count": count}
    with installed(arena, peer, sizes) as dsn:
        meter = Meter(dsn)
        # The CPU is that of the whole program, its start included.
        with meter, Program(peer, action, dsn, **options) as program:
            found = program.hear("count", seconds=600)
        return meter.sample(found["count"], seconds=found["seconds"])


SHARED = tuple(
    SharedQuestion(name, "jobs", functools.partial(_ask, action=action))
    for name, action in (
        ("enqueue, one after another", "enqueue_one"),
        ("enqueue, many at once", "enqueue_many"),
    )
)
