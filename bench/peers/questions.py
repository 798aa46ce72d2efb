"""All that pgprog and its peers are asked alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers import bursts, drains, enqueueing, idle, latency
from bench.peers.known import OTHERS, PGPROG

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Question

_SHARED = (
    *enqueueing.SHARED,
    *drains.SHARED,
    *latency.SHARED,
    *bursts.SHARED,
    *idle.SHARED,
)
FIGURES = {shared.name: shared.figures for shared in _SHARED}


def _to(*peers: Peer) -> tuple[Question, ...]:
    return tuple(
        shared.to(peer)
        for shared in _SHARED
        for peer in peers
        if not shared.kind or shared.kind in peer.kinds
    )


OURS = _to(PGPROG)
# With pgprog among them, so that who stands beside whom is asked soon after.
ALL = _to(PGPROG, *OTHERS)
