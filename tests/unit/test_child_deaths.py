"""What a worker makes of the death of a child process, or of its errors, without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.claims import make_claim

from pgprog.engine.children import wire
from pgprog.engine.children.apart import Apart, ChildTransaction
from pgprog.engine.holdings import Held
from pgprog.store.faults import RolledBack


class Engine:
    """The store, the lease, the holdings and the owner of a worker: says what was done."""

    worker_id = 1

    def __init__(self, held: Held, *, stood_still: bool) -> None:
        self.done: list[str] = []
        self._held = held
        self._stood_still = stood_still

    def check(self) -> None:
        self._held.is_dropped = self._stood_still

    async def report_crash(self, _worker_id: int, **_claim: int) -> bool:
        self.done.append("counted as a crash")
        return True

    def remove(self, _held: Held) -> None:
        self.done.append("let go")

    def wake(self) -> None:
        self.done.append("looked for the next")


@pytest.mark.parametrize(
    ("stood_still", "done"),
    [(False, ["counted as a crash", "let go", "looked for the next"]), (True, [])],
)
async def test_a_child_that_ended_because_its_worker_stood_still_is_no_crash(
    stood_still: bool, done: list[str]
) -> None:
    held = Held(claimed=make_claim(1))
    engine: Any = Engine(held, stood_still=stood_still)
    apart = Apart(
        {},
        children=engine,
        store=engine,
        holdings=engine,
        lease=engine,
        endings=engine,
        owner=engine,
    )
    child: Any = SimpleNamespace(has_begun=True, exit_code=-9)

    await apart._lost(held, child)

    assert engine.done == done


async def test_a_lock_that_a_child_waited_for_in_vain_is_no_fault_of_its_step() -> None:
    async def answered(_: object) -> wire.Answered:
        return wire.Answered(error="LockTimeout", detail="a stranger holds it")

    async def dies() -> None:
        pytest.fail("it lives")

    child: Any = SimpleNamespace(ask=answered)
    transaction = ChildTransaction(child, on_death=dies)

    with pytest.raises(RolledBack, match="a stranger holds it"):
        await transaction.commit()
