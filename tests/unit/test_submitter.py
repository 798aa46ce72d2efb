"""Requests on their way, whose batch meets a stranger's lock or loses its answer."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from pgprog.client.many import Part
from pgprog.client.submitter import Submitter
from pgprog.engine.deadlines import Deadlines
from pgprog.errors import InvalidArgument, Overloaded, SchemaMismatch, StoreUnavailable
from pgprog.store.columns import Columns
from pgprog.store.faults import DataFault, LockTimeout, Unreachable
from pgprog.store.rows import RawRequest, Submitted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from pgprog.store.engine_store import RequestLane


class Sender:
    """Fails the first round trip, and so many again, with *error*, and answers the others."""

    def __init__(self, error: Exception | None, *, again: int = 0) -> None:
        self.error = error
        self.again = again
        self.answered = asyncio.Event()
        self.answered.set()
        self.sent: list[tuple[RequestLane, int]] = []
        self.processes: list[str] = []

    async def __call__(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        self.sent.append((lane, len(requests)))
        self.processes += [request.process_id for request in requests]
        if self.error is not None and self.again >= 0:
            self.again -= 1
            raise self.error
        await self.answered.wait()
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


@asynccontextmanager
async def submitting(sender: Sender) -> AsyncIterator[Submitter]:
    submitter = Submitter(sender, deadlines=Deadlines())
    run = asyncio.create_task(submitter.run())
    try:
        async with asyncio.timeout(5):
            yield submitter
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run  # raises what has ended it


def calls(count: int) -> list[Part]:
    made = [RawRequest("call", "shop", str(number)) for number in range(count)]
    return [Part(Columns.of(made[at : at + 100]), {}) for at in range(0, count, 100)]


async def test_what_is_asked_at_once_goes_in_great_batches_beside_the_others() -> None:
    sender = Sender(None)
    sender.answered.clear()
    async with submitting(sender) as submitter:
        asking = asyncio.create_task(submitter.submit_many(calls(4100), seconds=3))
        while len(submitter._many) < 40:
            await asyncio.sleep(0)
        single = asyncio.create_task(submitter.submit(RawRequest("call", "s", "s"), seconds=3))
        await asyncio.sleep(0)
        sender.answered.set()
        outcomes = [*await asking, await single]

    assert sorted(sender.sent) == [("batches", 1), ("many", 100), ("many", 2000), ("many", 2000)]
    assert [outcome for outcome in outcomes if not isinstance(outcome, Submitted)] == []


async def test_a_great_batch_that_meets_a_strangers_lock_goes_with_the_others_then() -> None:
    sender = Sender(LockTimeout("a stranger"))
    async with submitting(sender) as submitter:
        outcomes = await submitter.submit_many(calls(100), seconds=3)

    assert sender.sent == [("many", 100), ("batches", 64), ("batches", 36)]
    assert all(isinstance(outcome, Submitted) for outcome in outcomes)


async def test_faults_among_many_requests_keep_their_places() -> None:
    fault = InvalidArgument("no such type")
    [part] = calls(2)
    faulty = part._replace(faults={1: fault})
    async with submitting(Sender(None)) as submitter:
        outcomes = await submitter.submit_many([*calls(1), faulty], seconds=3)

    assert [isinstance(outcome, Submitted) for outcome in outcomes] == [True, True, False, True]
    assert outcomes[2] is fault


async def test_of_many_requests_that_were_not_sent_in_time_nothing_was_done() -> None:
    sender = Sender(Unreachable("no server"), again=1000)
    async with submitting(sender) as submitter:
        outcomes = await submitter.submit_many(calls(2), seconds=0.05)

    assert [type(outcome) for outcome in outcomes] == [Overloaded, Overloaded]


class Losing(Sender):
    """Loses its first answer."""

    async def __call__(
        self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
    ) -> list[Submitted]:
        if not self.sent:
            self.sent.append((lane, len(requests)))
            msg = "the answer was lost"
            raise StoreUnavailable(msg)
        return await super().__call__(requests, lane=lane)


@pytest.mark.parametrize("error", [Unreachable("no server"), LockTimeout("it still runs")])
async def test_of_a_request_whose_answer_was_lost_nobody_is_told_that_nothing_was_done(
    error: Exception,
) -> None:
    sender = Losing(error, again=1_000_000)
    request = RawRequest("call", "shop", "s", idempotency_key="a")
    async with submitting(sender) as submitter:
        single = submitter.submit(request, seconds=0.1)
        [outcome] = await asyncio.gather(single, return_exceptions=True)

    assert len(sender.sent) > 1
    assert type(outcome) is StoreUnavailable
    assert outcome.hint == "repeat it with the same idempotency key"


@pytest.mark.parametrize("error", [SchemaMismatch("no such function"), DataFault("no number")])
async def test_a_repeat_that_is_refused_tells_nothing_of_a_request_whose_answer_was_lost(
    error: Exception,
) -> None:
    request = RawRequest("call", "shop", "s", idempotency_key="a")
    async with submitting(Losing(error)) as submitter:
        with pytest.raises(StoreUnavailable, match=f"the outcome is unknown.*{error}"):
            await submitter.submit(request, seconds=3)


@pytest.mark.parametrize("error", [Unreachable("no server"), LockTimeout("it still runs")])
async def test_of_many_requests_whose_answer_was_lost_nobody_is_told_so_either(
    error: Exception,
) -> None:
    sender = Losing(error, again=1_000_000)
    requests = [RawRequest("call", "shop", "s", idempotency_key=key) for key in ("a", "b")]
    async with submitting(sender) as submitter:
        many = [Part(Columns.of(requests), {})]
        outcomes = await submitter.submit_many(many, seconds=0.1)

    assert len(sender.sent) > 1
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]


async def test_of_many_requests_without_an_answer_in_time_the_outcome_is_unknown() -> None:
    sender = Sender(None)
    sender.answered.clear()
    async with submitting(sender) as submitter:
        outcomes = await submitter.submit_many(calls(2), seconds=0.05)

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]


async def test_of_many_requests_that_are_made_too_slowly_none_is_waited_for() -> None:
    sender = Sender(None)
    sender.answered.clear()
    ends_at = asyncio.get_running_loop().time() + 0.05

    def made_slowly() -> Iterator[Part]:
        yield from calls(1)
        while asyncio.get_running_loop().time() < ends_at:
            pass
        yield from calls(500)

    async with submitting(sender) as submitter:
        outcomes = await submitter.submit_many(made_slowly(), seconds=0.01)

    assert len(outcomes) == 501
    assert {type(outcome) for outcome in outcomes} <= {Overloaded, StoreUnavailable}


async def test_of_many_whose_answer_is_lost_only_those_with_a_key_are_repeated() -> None:
    sender = Sender(StoreUnavailable("the answer was lost"))
    requests = [RawRequest("call", "shop", "s", idempotency_key=key) for key in ("a", None)]
    async with submitting(sender) as submitter:
        many = [Part(Columns.of(requests), {})]
        keyed, unkeyed = await submitter.submit_many(many, seconds=3)

    assert sender.sent == [("many", 2), ("batches", 1)]
    assert isinstance(keyed, Submitted)
    assert isinstance(unkeyed, StoreUnavailable)


async def test_many_great_requests_go_in_order_in_batches_that_are_not_too_great() -> None:
    sender = Sender(None)
    requests = [RawRequest("call", "shop", str(number), b"1" * 3_000_000) for number in range(5)]
    async with submitting(sender) as submitter:
        outcomes = await submitter.submit_many([Part(Columns.of(requests), {})], seconds=3)

    assert sender.sent == [("many", 2), ("many", 1), ("many", 2)]
    assert sender.processes == list("01234")
    assert len(outcomes) == 5


async def test_who_waits_for_many_is_told_when_the_client_closes_and_who_comes_too() -> None:
    sender = Sender(None)
    sender.answered.clear()
    closed = StoreUnavailable("closed")
    async with submitting(sender) as submitter:
        waiting = asyncio.create_task(submitter.submit_many(calls(2), seconds=3))
        while not sender.sent:
            await asyncio.sleep(0)
        submitter.close(closed)
        late = await submitter.submit_many(calls(1), seconds=3)

    assert await waiting == [closed, closed]
    assert [type(outcome) for outcome in late] == [StoreUnavailable]


async def test_who_gives_up_on_many_requests_leaves_no_error_behind() -> None:
    sender = Sender(StoreUnavailable("the answer was lost"), again=1_000_000)
    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    requests = [RawRequest("call", "shop", "s", idempotency_key=key) for key in ("a", None)]
    async with submitting(sender) as submitter:
        many = [Part(Columns.of(requests), {})]  # together, or the second would not be sent
        waiting = asyncio.create_task(submitter.submit_many(many, seconds=3))
        while len(sender.sent) < 2:  # one has its error by now, and what has a key is repeated
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    del waiting, submitter
    sender.error = None  # whose traceback has all of it
    gc.collect()

    assert heard == []


async def test_a_fault_among_many_whose_caller_gave_up_ends_nothing() -> None:
    class Late(Sender):
        async def __call__(
            self, requests: Sequence[RawRequest], *, lane: RequestLane = "batches"
        ) -> list[Submitted]:
            await self.answered.wait()
            return await super().__call__(requests, lane=lane)

    sender = Late(DataFault("it cannot be stored"))
    sender.answered.clear()
    async with submitting(sender) as submitter:
        asking = asyncio.create_task(submitter.submit_many(calls(1), seconds=3))
        while not submitter._many._flights:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        sender.answered.set()
        later = await submitter.submit(RawRequest("call", "shop", "later"), seconds=2)

    assert later.outcome == "queued"


async def test_what_refuses_a_whole_batch_is_told_to_all_in_it_and_ends_nothing() -> None:
    sender = Sender(SchemaMismatch("there is no such function"), again=1)
    request = RawRequest("call", "shop", "s")
    async with submitting(sender) as submitter:
        single = submitter.submit(request, seconds=2)
        [refused] = await asyncio.gather(single, return_exceptions=True)
        among_many = await submitter.submit_many(calls(2), seconds=2)
        later = await submitter.submit(request, seconds=2)

    assert [type(each) for each in [refused, *among_many]] == [SchemaMismatch] * 3
    assert later.outcome == "queued"


async def test_what_callers_give_up_takes_no_memory_while_nothing_is_answered() -> None:
    sender = Sender(None)
    sender.answered.clear()
    request = RawRequest("call", "shop", "s")
    async with submitting(sender) as submitter:
        single = [submitter.submit(request, seconds=0.05) for _ in range(1000)]
        many = [submitter.submit_many(calls(100), seconds=0.05) for _ in range(100)]
        await asyncio.gather(*single, *many, return_exceptions=True)
        left = len(submitter._batches) + len(submitter._many)
        sender.answered.set()
        later = await submitter.submit(request, seconds=3)

    assert left == 0
    assert sender.sent == [("batches", 64), ("many", 2000), ("batches", 1)]
    assert later.outcome == "queued"


async def test_what_cancelled_callers_asked_for_takes_no_memory_either() -> None:
    sender = Sender(None)
    sender.answered.clear()
    async with submitting(sender) as submitter:
        asking = [
            asyncio.create_task(submitter.submit(RawRequest("call", "shop", "s"), seconds=3))
            for _ in range(1000)
        ]
        while not sender.sent:
            await asyncio.sleep(0)
        for each in asking[100:]:
            each.cancel()
        await asyncio.wait(asking[100:])
        left = len(submitter._batches)
        sender.answered.set()
        outcomes = await asyncio.gather(*asking[:100])

    assert left == 36
    assert len(outcomes) == 100


async def test_what_is_left_of_many_that_met_a_lock_takes_no_memory_once_given_up() -> None:
    sender = Sender(LockTimeout("a stranger"), again=1)
    sender.answered.clear()
    async with submitting(sender) as submitter:
        await submitter.submit_many(calls(200), seconds=0.1)
        left = len(submitter._batches), len(submitter._alone)

    assert sorted(sender.sent) == [("alone", 1), ("batches", 64), ("batches", 64), ("many", 200)]
    assert left == (0, 0)
