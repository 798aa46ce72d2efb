"""Handlers that hang until a file appears, and print what began where."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from pgprog import Intent, Namespace, Step

hanging = Namespace("hanging", step_timeout="10m")
_PLACE = Path(os.environ.get("HANGING_PLACE", "."))


@hanging.init
async def begin(step: Step[Any]) -> Intent[Any]:
    """Begin at zero."""
    return Intent(state=0)


@hanging.call
async def add(step: Step[Any], amount: int) -> Intent[Any, int]:
    """Add and answer the sum."""
    total = step.state + amount
    return Intent(state=total, events=[{"added": amount}], response=total)


@hanging.call
async def hang(step: Step[Any]) -> Intent[Any, int]:
    """Answer with the attempt, the first one only when it is released."""
    _log(step)
    while step.attempt == 1 and not (_PLACE / "released").exists():
        await asyncio.sleep(0.01)
    return Intent(response=step.attempt)


def _log(step: Step[Any]) -> None:
    line = {"pid": os.getpid(), "process_id": step.process_id, "attempt": step.attempt}
    os.write(1, json.dumps(line).encode() + b"\n")
