"""Handlers that keep a log of their own: what ran where, and when, whatever was committed."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from pgprog import Intent, Namespace, Step

ledger = Namespace("ledger", step_timeout="60s")


def _log(step: Step[Any], what: str) -> None:
    line = {
        "what": what,
        "pid": os.getpid(),
        "process_id": step.process_id,
        "task_id": step.task_id,
        "attempt": step.attempt,
    }
    with open(os.environ["LEDGER_LOG"], "ab", buffering=0) as log:  # noqa: PTH123 - one write, appended whole
        log.write(json.dumps(line).encode() + b"\n")


@ledger.init
async def begin(step: Step[Any]) -> Intent[Any]:
    """Begin at zero."""
    return Intent(state=0, events=["began"])


@ledger.call
async def add(step: Step[Any], amount: int) -> Intent[Any, int]:
    """Add and answer the sum."""
    _log(step, "start")
    total = step.state + amount
    _log(step, "end")
    return Intent(state=total, events=[{"added": amount}], response=total)


@ledger.call
def kill(step: Step[Any]) -> None:
    """Kill the worker at once, as a fault in a C extension would."""
    os.kill(os.getpid(), signal.SIGKILL)
