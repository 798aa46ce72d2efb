"""A handler that nothing ends: it starts, says so, and waits, cancelled or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from pgprog import Namespace, Step

stubborn = Namespace("stubborn", step_timeout="10m")


@stubborn.init
async def begin(step: Step[Any]) -> None:
    """Never return."""
    os.write(1, b"started\n")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
