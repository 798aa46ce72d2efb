"""What metrics show of a cache and of the stream that keeps it true."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pgprog.metrics import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgprog.cache.fence import Cache


def cache_samples(
    cache: Cache,
    *,
    counts: Mapping[tuple[str, str], int],
    connections: int,
    began_at: float,
) -> list[Sample]:
    """Return the figures; *counts* are reads by namespace and result, but for hits.

    The lag counts from *began_at* as long as the stream has told nothing; it has no bytes while
    there is no stream.
    """
    as_of = max(cache.lease.last_as_of, began_at)
    found = [
        Sample("pgprog_replication_lag_seconds", (), max(0.0, time.monotonic() - as_of)),
        Sample("pgprog_replication_reconnects_total", (), float(max(0, connections - 1))),
    ]
    if (behind := cache.lease.lag_bytes) is not None:
        found.append(Sample("pgprog_replication_lag_bytes", (), float(behind)))
    for name, shelf in cache.shelves.items():
        found += [
            Sample("pgprog_cache_bytes", (name,), float(shelf.bytes)),
            Sample("pgprog_cache_entries", (name,), float(len(shelf.entries))),
            Sample("pgprog_cache_requests_total", (name, "hit"), float(shelf.hits)),
        ]
        found += [
            Sample(
                "pgprog_cache_requests_total", (name, result), float(counts.get((name, result), 0))
            )
            for result in ("wait", "miss", "bypass")
        ]
    return found
