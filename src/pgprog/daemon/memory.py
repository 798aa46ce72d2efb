"""How much memory this program holds, and a limit to it."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path
from typing import Final

_LOOK_SECONDS = 1.0
_STATM: Final = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the memory that this program holds: on Linux at present, elsewhere at most so far."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


async def wait_over(limit: int | None) -> int:
    """Return how much is held once that is more than *limit*; without one never."""
    if limit is None:
        await asyncio.Event().wait()
        return 0
    while (held := resident_bytes()) <= limit:  # noqa: ASYNC110 - memory has no event
        await asyncio.sleep(_LOOK_SECONDS)
    return held
