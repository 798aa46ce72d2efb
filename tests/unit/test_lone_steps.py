"""Steps that were lost with a worker, and that no child process can run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.unit.claims import make_claim

from pgprog.engine.holdings import Holdings
from pgprog.engine.runner import Runner

if TYPE_CHECKING:
    from pgprog.engine.holdings import Held


class Childless:
    """What runs no step in a child process."""

    def takes(self, claimed: object) -> bool:
        return False


class Slow:
    """Handlers that wait."""

    def is_quick(self, claimed: object) -> bool:
        return False


class Gated(Runner):
    """Its steps end when they are told."""

    def __init__(self, holdings: Holdings) -> None:
        nothing: Any = None
        attempts: Any = Slow()
        childless: Any = Childless()
        super().__init__(
            attempts,
            concurrency=9,
            holdings=holdings,
            lease=nothing,
            endings=nothing,
            on_free=lambda: None,
            apart=childless,
        )
        self.begun: dict[int, asyncio.Event] = {}

    async def _run(self, held: Held) -> None:
        held.runs = True
        self.begun[held.claimed.claim_id] = asyncio.Event()
        await self.begun[held.claimed.claim_id].wait()
        self._free()


async def test_a_step_that_no_child_can_run_has_the_worker_to_itself() -> None:
    holdings = Holdings()
    runner = Gated(holdings)
    begun: list[list[int]] = []
    runner.take(holdings.add(make_claim(1), since=0))
    runner.take(holdings.add(make_claim(2)._replace(alone=True), since=0))
    runner.take(holdings.add(make_claim(3), since=0))
    for claim_id in (1, 2, 3):
        for _ in range(5):
            await asyncio.sleep(0)
        begun.append([*runner.begun])
        runner.begun[claim_id].set()
    await runner.wait_idle()

    assert begun == [[1], [1, 2], [1, 2, 3]]
    assert (runner.room, runner.busy) == (9, 0)
