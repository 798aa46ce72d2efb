"""Handlers that a child process never has: to import them there takes for ever."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from pgprog import Namespace, Step

unready = Namespace("unready", isolation="process")


@unready.init
def begin(step: Step[Any]) -> None:
    """Never come to be called."""


if sys.argv[0] == "-c":  # as a worker starts its child processes
    os.write(1, b"importing\n")
    threading.Event().wait()
