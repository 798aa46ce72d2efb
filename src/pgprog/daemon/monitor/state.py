"""How one worker is: what it tells its supervisor, or shows itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

from pgprog.metrics.parts import Component, Phase
from pgprog.metrics.samples import Sample

if TYPE_CHECKING:
    from pgprog.metrics import Metrics


class WorkerState(Struct, frozen=True):
    """One worker at one moment."""

    pid: int
    phase: Phase
    components: list[Component]
    samples: list[Sample]

    @property
    def hindrance(self) -> str:
        """Why it takes no tasks, an empty text if it does."""
        if self.phase != "running":
            return f"the worker is {self.phase}"
        return next((_told(each) for each in self.components if _hinders(each)), "")

    @property
    def death(self) -> str:
        """Why it has to be started anew, an empty text if it need not be."""
        return next((_told(c) for c in self.components if c.name == "loop" and c.reason), "")


def state_of(metrics: Metrics) -> WorkerState:
    """Return how this program is; any thread may ask."""
    return WorkerState(
        os.getpid(), metrics.parts.phase, metrics.parts.components(), metrics.samples()
    )


def _hinders(component: Component) -> bool:
    return component.is_needed and component.status == "critical"


def _told(component: Component) -> str:
    return f"{component.name}: {component.reason}"
