"""A sync handler that never returns, in a worker that fails as soon as it has begun."""

from __future__ import annotations

import os
import threading
from typing import Any

from pgprog import Namespace, Step
from pgprog.engine.scanner import Scanner

failing = Namespace("failing", step_timeout="10m")


@failing.init
def begin(step: Step[Any]) -> None:
    """Never return."""
    Scanner._claim = _fail  # type: ignore[method-assign] # a defect that there is not
    os.write(1, b"started\n")
    threading.Event().wait()


async def _fail(self: Scanner, room: int) -> float:
    msg = "a loop broke"
    raise ZeroDivisionError(msg)
