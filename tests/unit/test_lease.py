"""What a renewal tells, and what it does not."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.claims import make_claim

from pgprog.config import WorkerConfig
from pgprog.engine.heartbeat import Heartbeat
from pgprog.engine.holdings import Holdings
from pgprog.engine.lease import Lease
from pgprog.store.engine_store import EngineStore


class Renewals:
    """Renews, and holds nothing."""

    def __init__(self) -> None:
        self.count = 0

    def renew_worker(
        self, worker_id: int, lease: timedelta, begun: list[int]
    ) -> list[tuple[int, int]]:
        self.count += 1
        return []

    def close(self) -> None:
        pass


class Owner:
    """A worker that notes how long its steps may run."""

    until = 0.0

    def safe_until(self, until: float) -> None:
        self.until = until


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


@pytest.fixture
async def lease(holdings: Holdings) -> Lease:
    """A lease of incarnation 2, not begun yet."""
    fakes: Any = {"store": EngineStore("", name=""), "renewals": Renewals(), "owner": Owner()}
    lease = Lease(
        **fakes,
        name="w",
        serves={},
        config=WorkerConfig(),
        holdings=holdings,
    )
    lease.worker_id = 2
    return lease


def test_a_claim_taken_after_a_renewal_was_sent_is_not_lost_by_it(holdings: Holdings) -> None:
    asked_at = time.monotonic()
    held = holdings.add(make_claim(1), since=0)

    assert holdings.drop_lost([], asked_at=asked_at) == []
    assert holdings.drop_lost([], asked_at=held.taken_at + 1) == [held]


def test_a_step_that_ends_is_not_lost_by_a_renewal(holdings: Holdings) -> None:
    held = holdings.add(make_claim(1), since=0)
    held.ends = True

    assert holdings.drop_lost([], asked_at=held.taken_at + 1) == []


def test_a_claim_whose_number_was_given_before_a_promotion_is_another(holdings: Holdings) -> None:
    before = holdings.add(make_claim(1), since=0)
    after = holdings.add(make_claim(1, task_id=2), since=0)

    assert holdings.drop_lost([(2, 1)], asked_at=after.taken_at + 1) == [before]
    assert (len(holdings), holdings.by_namespace["shop"]) == (1, 1)


async def test_a_renewal_of_an_earlier_incarnation_says_nothing_of_this_one(
    lease: Lease, holdings: Holdings
) -> None:
    held = holdings.add(make_claim(1), since=0)
    lease.renewed(1, [], held.taken_at + 1)

    assert not lease.is_held
    assert not held.is_dropped


async def test_a_renewal_sent_before_a_step_began_does_not_report_it(lease: Lease) -> None:
    before = time.monotonic() - 1
    reporting = asyncio.create_task(lease.report_begun())
    await asyncio.sleep(0)

    lease.renewed(2, [], before)
    await asyncio.sleep(0)
    assert not reporting.done()

    lease.renewed(2, [], time.monotonic())
    async with asyncio.timeout(5):
        await reporting


async def test_a_worker_whose_loop_hangs_is_not_renewed(lease: Lease) -> None:
    renewals = Renewals()
    fake: Any = renewals
    heartbeat = Heartbeat(
        lease,
        renewals=fake,
        lease=timedelta(seconds=10),
        every=timedelta(seconds=1),
        loop=asyncio.get_running_loop(),
    )
    lease.ticked_at = time.monotonic() - 6
    assert (heartbeat._beat(), renewals.count) == (False, 0)

    lease.ticked_at = time.monotonic() - 4
    assert (heartbeat._beat(), renewals.count) == (True, 1)


async def test_a_loop_that_was_busy_before_the_lease_began_does_not_hang(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def register() -> None:
        return

    monkeypatch.setattr(lease, "_register", register)
    lease.ticked_at = time.monotonic() - 60
    await lease.begin()
    lease._heartbeat.stop()

    assert time.monotonic() - lease.ticked_at < 5
