"""What is answered to /live, /ready, /health and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pgprog.daemon.monitor.server import Answer, text
from pgprog.metrics import merged
from pgprog.metrics.exposition import CONTENT_TYPE, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.daemon.monitor.state import WorkerState
    from pgprog.metrics import Sample
    from pgprog.metrics.parts import Component
    from pgprog.store.gauges import Gauges

_PATHS = "/live /ready /health /metrics"


class Workers(Protocol):
    """The workers that are shown: this one, or those of a supervisor."""

    @property
    def places(self) -> int:
        """How many there should be."""
        ...

    async def states(self) -> Sequence[WorkerState]:
        """Return how those are that there are."""
        ...

    def others(self) -> Sequence[Sample]:
        """Return what was counted by workers that are gone, and by who keeps them."""
        ...


class Pages:
    """Answers by path; *gauges* are those of the database.

    Live: the program need not be started anew.  Ready: one worker at least takes tasks.
    """

    def __init__(self, workers: Workers, gauges: Gauges) -> None:
        self._workers = workers
        self._gauges = gauges

    async def answer(self, path: str) -> Answer:
        """Return what is to be sent."""
        match path:
            case "/live":
                return await self._live()
            case "/ready":
                return await self._ready()
            case "/health":
                return await self._health()
            case "/metrics":
                return await self._metrics()
            case _:
                return text(404, f"there is {_PATHS}")

    async def _live(self) -> Answer:
        if self._workers.places > 1:
            return text(200, "live")  # a supervisor, which answers: who hangs below it is its care
        deaths = [state.death for state in await self._workers.states()]
        return text(503, deaths[0]) if any(deaths) else text(200, "live")

    async def _ready(self) -> Answer:
        await self._gauges.refresh()
        states = await self._workers.states()
        hindrances = [state.hindrance for state in states]
        down = [c for c in self._gauges.components if c.is_needed and c.status == "critical"]
        if down:
            return text(503, f"{down[0].name}: {down[0].reason}")
        if not states:
            return text(503, "no worker runs")
        if all(hindrances):
            return text(503, hindrances[0])
        return text(200, f"{hindrances.count('')} of {self._workers.places} workers are ready")

    async def _health(self) -> Answer:
        await self._gauges.refresh()
        states = await self._workers.states()
        workers = [_worker(state) for state in states]
        missing = self._workers.places - len(states)
        found: dict[str, Any] = {
            "status": "passing",
            "components": [_component(each) for each in self._gauges.components],
            "workers": workers,
        }
        if missing:
            reason = f"{missing} of {self._workers.places} workers do not run"
            found["components"].append(
                {"name": "processes", "status": "critical", "reason": reason, "age_seconds": None}
            )
        parts = [*found["components"], *(part for each in workers for part in each["components"])]
        if any(part["status"] == "critical" for part in parts):
            found["status"] = "critical"
        body = msgspec.json.format(msgspec.json.encode(found), indent=2)
        return Answer(
            200 if found["status"] == "passing" else 503, body + b"\n", "application/json"
        )

    async def _metrics(self) -> Answer:
        await self._gauges.refresh()
        states = await self._workers.states()
        parts = [*(state.samples for state in states), self._workers.others(), self._gauges.samples]
        return Answer(200, text_of(merged(parts)), CONTENT_TYPE)


def _worker(state: WorkerState) -> dict[str, Any]:
    return {
        "pid": state.pid,
        "phase": state.phase,
        "components": [_component(each) for each in state.components],
    }


def _component(component: Component) -> dict[str, Any]:
    return {
        "name": component.name,
        "status": component.status,
        "reason": component.reason,
        "age_seconds": component.age_seconds,
    }
