"""What does an open snapshot cost a worker while half a million tasks come and go?

The first tasks are ended without it; the snapshot is then held open, and tasks are queued and
ended piece by piece: the queue itself stays short, its dead rows stay.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.drain import drained
from bench.question import Question, Sample
from bench.server import pinned
from bench.workload import load, load_calls, process_ids

if TYPE_CHECKING:
    from bench.question import Sizes
    from bench.server import Arena

_FIRST_SHARE = 5


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    ids = process_ids(sizes.many_processes)
    with arena.database() as dsn:
        load(dsn, processes=len(ids))
        free = _drain(dsn, ids)
        with pinned(dsn):
            pieces = [_drain(dsn, ids) for _ in range(max(1, sizes.pinned // len(ids)))]
    share = max(1, len(pieces) // _FIRST_SHARE)
    figures = {
        "a second unpinned": free.rate,
        "first fifth x unpinned": _rate(pieces[:share]) / free.rate,
        "last fifth x unpinned": _rate(pieces[-share:]) / free.rate,
    }
    return Sample(
        count=sum(piece.count for piece in pieces),
        seconds=sum(piece.seconds for piece in pieces),
        postgres_cpu=sum(piece.postgres_cpu for piece in pieces),
        client_cpu=sum(piece.client_cpu for piece in pieces),
        wal_bytes=sum(piece.wal_bytes for piece in pieces),
        load=pieces[-1].load,
        figures=figures,
    )


def _drain(dsn: str, ids: list[str]) -> Sample:
    load_calls(dsn, ids=ids)
    return asyncio.run(drained(dsn, count=len(ids), concurrency=100))


def _rate(pieces: list[Sample]) -> float:
    return sum(piece.count for piece in pieces) / sum(piece.seconds for piece in pieces)


QUESTIONS = (Question("half a million tasks under a pinned xmin", "tasks", _ask, is_long=True),)
