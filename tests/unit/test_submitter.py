"""Requests on their way, whose batch meets a stranger's lock or loses its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgprog.client.submitter import Submitter
from pgprog.engine.deadlines import Deadlines
from pgprog.errors import StoreUnavailable
from pgprog.store.faults import LockTimeout
from pgprog.store.rows import RawRequest, Submitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.store.engine_store import RequestLane


class Sender:
    """Fails the first round trip with *error*."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.sent: list[tuple[RequestLane, int]] = []

    async def __call__(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        self.sent.append((lane, len(requests)))
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [Submitted("queued", None, 1, None) for _ in requests]


async def submit(sender: Sender, *keys: str | None) -> list[Submitted | BaseException]:
    submitter = Submitter(sender, deadlines=Deadlines())
    run = asyncio.create_task(submitter.run())
    requests = [RawRequest("call", "shop", "s", idempotency_key=key) for key in keys]
    async with asyncio.timeout(5):
        submitting = [submitter.submit(request, seconds=3) for request in requests]
        outcomes = await asyncio.gather(*submitting, return_exceptions=True)
    run.cancel()
    return outcomes


async def test_what_meets_a_strangers_lock_goes_one_by_one() -> None:
    sender = Sender(LockTimeout("a stranger"))
    outcomes = await submit(sender, "a", "b", "c")

    assert sender.sent == [("batches", 3), ("alone", 1), ("alone", 1), ("alone", 1)]
    assert all(isinstance(outcome, Submitted) for outcome in outcomes)


async def test_only_requests_with_a_key_are_repeated_after_a_lost_answer() -> None:
    sender = Sender(StoreUnavailable("the answer was lost"))
    keyed, unkeyed = await submit(sender, "a", None)

    assert sender.sent == [("batches", 2), ("batches", 1)]
    assert isinstance(keyed, Submitted)
    assert isinstance(unkeyed, StoreUnavailable)
