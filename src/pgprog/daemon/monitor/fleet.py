"""The workers of a supervisor, as one to those who ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pgprog.daemon.monitor.line import Far
from pgprog.metrics import Metrics, Sample, merged
from pgprog.metrics.parts import Component
from pgprog.metrics.samples import lasting

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pgprog.client.loop_thread import LoopThread
    from pgprog.daemon.monitor.state import WorkerState

_SILENT = Component("worker", "critical", "it does not say how it is")


class Fleet:
    """Asks every worker when somebody looks; *metrics* are the supervisor's own.

    What a worker has counted stays in the sums when it is gone, but for what it counted after it
    was last asked, if it was killed.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.metrics = Metrics()
        self._lines: dict[int, Far] = {}
        self._gone: list[Sample] = []
        self._thread: LoopThread | None = None

    def open(self, thread: LoopThread) -> None:
        """Serve the lines in a thread from here on."""
        self._thread = thread

    def add(self, pid: int, line: socket.socket) -> None:
        """Ask a worker that was started; called by the supervisor."""
        if self._thread is None:
            line.close()
        else:
            self._thread.run(self._add(pid, line))

    def remove(self, pid: int) -> None:
        """Keep what a worker has counted whose program has ended; called by the supervisor."""
        if self._thread is not None:
            self._thread.run(self._remove(pid))

    async def states(self) -> Sequence[WorkerState]:
        """Return how all are; of one that does not answer what it told last.

        Each is here or among the `others`, which are asked for before anything else is waited for.
        """
        lines = [*self._lines.items()]
        answers = await asyncio.gather(*(line.ask() for _, line in lines))
        states = []
        for (pid, line), is_new in zip(lines, answers, strict=True):
            state = line.state
            if state is not None and self._lines.get(pid) is line:
                states.append(
                    state if is_new else replace(state, components=[*state.components, _SILENT])
                )
        return states

    def others(self) -> Sequence[Sample]:
        """Return what was counted by workers that are gone, and by the supervisor."""
        return merged([self._gone, self.metrics.samples()])

    async def _add(self, pid: int, line: socket.socket) -> None:
        far = self._lines[pid] = Far(line)
        await far.open()

    async def _remove(self, pid: int) -> None:
        far = self._lines.get(pid)
        if far is not None:
            await far.close()
            del self._lines[pid]  # at once with what follows: a sum that falls passes for a restart
            if far.state is not None:
                self._gone = merged([self._gone, lasting(far.state.samples)])
