"""What the workers of a supervisor have counted, while one of them goes."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.daemon.monitor import Fleet, line
from pgprog.daemon.monitor.line import Near
from pgprog.metrics import Metrics, merged

if TYPE_CHECKING:
    from collections.abc import Coroutine

PID = 17


class Here:
    """Stands for the thread of the supervisor: what it runs is run beside the test."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.ensure_future(work))


async def counted(fleet: Fleet) -> float:
    """Return how many tasks have ended by what is shown."""
    states = await fleet.states()
    samples = merged([*(state.samples for state in states), fleet.others()])
    return sum(each.value for each in samples if each.name == "pgprog_tasks_total")


@pytest.mark.parametrize("ends_first", [True, False])
async def test_what_a_worker_has_counted_is_shown_once_while_it_goes(
    monkeypatch: pytest.MonkeyPatch, ends_first: bool
) -> None:
    monkeypatch.setattr(line, "_PATIENCE_SECONDS", 0.2)
    here, fleet, metrics = Here(), Fleet(1), Metrics()
    metrics.tasks.add("shop", "call", "finished")
    ours, theirs = socket.socketpair()
    near = Near(theirs, metrics)
    await near.open()
    fleet.open(here)  # type: ignore[arg-type]
    fleet.add(PID, ours)
    await here.tasks[0]
    before = await counted(fleet)
    if ends_first:
        await near.close()
        listening = fleet._lines[PID]._task
        assert listening is not None
        await listening  # then who asks gets no answer, and it is buried meanwhile
        asking = asyncio.create_task(counted(fleet))
        await asyncio.sleep(0)
        fleet.remove(PID)
    else:
        fleet.remove(PID)  # the line is open: another program has it, too
        await asyncio.sleep(0)
        asking = asyncio.create_task(counted(fleet))
    while_it_goes = await asking
    await here.tasks[1]
    after = await counted(fleet)
    if not ends_first:
        await near.close()

    assert (before, while_it_goes, after) == (1, 1, 1)
