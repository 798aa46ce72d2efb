"""How the parts of a worker are: when each last did its work, and what keeps it from that."""

from __future__ import annotations

import math
import time
from typing import Literal

from msgspec import Struct

Phase = Literal["starting", "running", "draining"]


class Component(Struct, frozen=True):
    """One part, as people and probes see it; *age_seconds* counts from its last success."""

    name: str
    status: Literal["passing", "critical"]
    reason: str
    age_seconds: float | None = None
    is_needed: bool = True


class Part:
    """One part: it has to succeed every *patience* seconds; a failure counts at once.

    *is_needed* says that without it the worker is not ready.
    """

    __slots__ = ("_is_needed", "_patience", "_reason", "_succeeded_at")

    def __init__(self, *, patience: float = math.inf, is_needed: bool = True) -> None:
        self._patience = patience
        self._is_needed = is_needed
        self._succeeded_at = time.monotonic()
        self._reason = ""

    def succeeded(self) -> None:
        """Note that the part has done its work."""
        self._succeeded_at = time.monotonic()
        self._reason = ""

    def failed(self, reason: str) -> None:
        """Note what keeps the part from its work."""
        self._reason = reason

    def seen(self, name: str) -> Component:
        """Return how it is; any thread may ask."""
        age = time.monotonic() - self._succeeded_at
        reason = self._reason
        if not reason and age > self._patience:
            reason = f"nothing was done for {age:.0f} s"
        status: Literal["passing", "critical"] = "critical" if reason else "passing"
        return Component(name, status, reason, round(age, 3), self._is_needed)


class Parts:
    """The parts of one worker by name; *phase* is how far it has come."""

    def __init__(self) -> None:
        self.phase: Phase = "starting"
        self._parts: dict[str, Part] = {}

    def watch(self, name: str, *, patience: float = math.inf, is_needed: bool = True) -> Part:
        """Begin to watch a part."""
        part = self._parts[name] = Part(patience=patience, is_needed=is_needed)
        return part

    def components(self) -> list[Component]:
        """Return how all parts are; any thread may ask."""
        return [part.seen(name) for name, part in self._parts.copy().items()]
