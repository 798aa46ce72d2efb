"""What a worker makes of the death of a child process, or of its errors, without one."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.claims import make_claim
from tests.waiting import until_on_loop

from pgprog import Namespace, Step
from pgprog.engine.children import wire
from pgprog.engine.children.apart import Apart, ChildTransaction
from pgprog.engine.children.main import _Child
from pgprog.engine.holdings import Held
from pgprog.store.faults import RolledBack
from pgprog.store.rows import Claimed


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


class Worker:
    """The socket to a worker, and what tells whether it lives: notes what a child says."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def write(self, packed: bytes) -> None:
        said = wire.from_child.decode(packed[wire._LENGTH.size :])
        self.heard.append(type(said).__name__)

    def begin(self) -> None: ...

    def over(self) -> None: ...


async def test_a_child_in_which_a_thread_goes_on_says_nothing_and_waits_to_be_killed() -> None:
    shop: Namespace[Any] = Namespace("shop", step_timeout="20ms")
    gate = threading.Event()

    @shop.call
    def hold(step: Step[Any]) -> None:
        gate.wait(5)

    worker: Any = Worker()
    level = logging.getLogger("pgprog").getEffectiveLevel()
    hello = wire.Hello("", timedelta(seconds=10), {}, "console", level, None)
    child = _Child(hello, {"shop": shop}, worker, worker)
    at = datetime.now(UTC)
    process = ("shop", "s", "call", "hold", 1, at, at, b"{}", None, "running", 1, b"{}", None, 0, 1)
    claimed = Claimed(1, 1, 1, *process)
    settings = json.dumps(shop.settings.to_json()).encode()
    child.hear(wire.Run(claimed, settings, level, 1, {}))
    await until_on_loop(lambda: child._runner.stragglers)
    await child._runner.wait_idle()
    gate.set()

    assert worker.heard == ["Begun"]
