"""The processes that are asked: counters that read their state, write it, an event and an answer.

State 200 bytes, args 100, event 100, answer 50, as in the notes that the targets come from.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pgprog import Intent, Namespace, Step
from pgprog.store.engine_store import EngineStore
from pgprog.store.rows import Completion, NewEvent, Outcome, RawRequest, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from pgprog.store.rows import Claimed

NAMESPACE: Final = "bench"
NOTE: Final = "a" * 84
ARGS: Final = b'{"note":"%b"}' % NOTE.encode()
STATE: Final = b'{"count":1,"filling":"%b"}' % (b"s" * 170)
EVENT: Final = b'{"counted":"%b"}' % NOTE.encode()
RESPONSE: Final = b'{"count":1,"filling":"%b"}' % (b"r" * 25)

_BATCH = 1000


@dataclass(frozen=True)
class Counter:
    """The state of a process."""

    count: int = 0
    filling: str = "s" * 170


def counters(name: str = NAMESPACE) -> Namespace[Counter]:
    """Return the namespace, under another name where there are several."""
    counting = Namespace(name, state=Counter)

    @counting.call
    async def count(step: Step[Counter], note: str) -> Intent[Counter, dict[str, str | int]]:
        number = step.state.count + 1
        return Intent(
            state=Counter(number),
            events=[{"counted": note}],
            response={"count": number, "filling": "r" * 25},
        )

    @counting.init
    async def begin(step: Step[Counter], note: str) -> Intent[Counter, dict[str, str | int]]:
        response: dict[str, str | int] = {"count": step.attempt, "filling": "r" * 25}
        return Intent(state=Counter(), events=[{"began": note}], response=response)

    @counting.timeout
    async def expire(step: Step[Counter]) -> Intent[Counter]:
        return Intent(state=Counter(step.state.count), events=[{"expired": step.attempt}])

    return counting


def process_ids(count: int) -> list[str]:
    """Return the ids of that many processes."""
    return [process_id(number) for number in range(count)]


def process_id(number: int) -> str:
    """Return the id of one of them."""
    return f"counter-{number:08}"


def call_of(process_id: str) -> RawRequest:
    """Return a call as the store takes it."""
    return RawRequest("call", NAMESPACE, process_id, args=ARGS, name="count")


def begin_of(process_id: str) -> RawRequest:
    """Return an init as the store takes it."""
    return RawRequest("init", NAMESPACE, process_id, args=ARGS)


def finished(claimed: Claimed) -> Completion:
    """Return what the handler of a call comes to."""
    return Completion(
        claimed=claimed,
        outcome=Outcome.FINISHED,
        state=STATE,
        response=RESPONSE,
        events=[NewEvent(EVENT, None)],
    )


@contextlib.asynccontextmanager
async def registered(dsn: str) -> AsyncIterator[tuple[EngineStore, int]]:
    """Give a store and the id of a worker that is nothing but registered."""
    store = EngineStore(dsn, name="bench")
    try:
        serves = {NAMESPACE: Served(b"{}")}
        yield store, await store.register_worker("bench", serves, timedelta(hours=1))
    finally:
        await store.close()


def load(dsn: str, *, processes: int, calls: int = 0) -> None:
    """Make processes, and queue *calls* for one after another of them."""
    asyncio.run(_load(dsn, ids=process_ids(processes), calls=calls))


def load_calls(dsn: str, *, ids: Sequence[str]) -> None:
    """Queue a call for each of these processes, which are there."""
    asyncio.run(_load_calls(dsn, ids))


async def _load_calls(dsn: str, ids: Sequence[str]) -> None:
    async with registered(dsn) as (store, worker_id):
        for part in _parts([call_of(process_id) for process_id in ids]):
            await store.start(None, 0, part)
        await store.deregister_worker(worker_id)


def load_inits(dsn: str, *, processes: int) -> None:
    """Queue the inits of processes that are not there yet."""
    asyncio.run(_load_inits(dsn, ids=process_ids(processes)))


async def _load_inits(dsn: str, *, ids: Sequence[str]) -> None:
    async with registered(dsn) as (store, worker_id):
        for part in _parts([begin_of(process_id) for process_id in ids]):
            await store.start(None, 0, part)
        await store.deregister_worker(worker_id)


async def _load(dsn: str, *, ids: Sequence[str], calls: int) -> None:
    async with registered(dsn) as (store, worker_id):
        for part in _parts([RawRequest("init", NAMESPACE, process_id) for process_id in ids]):
            started = await store.start(worker_id, len(part), part)
            batch = [
                Completion(claimed=each.claimed, outcome=Outcome.FINISHED, state=STATE)
                for each in started
                if each.claimed is not None
            ]
            await store.complete(worker_id, batch, chains=[False] * len(batch))
        for part in _parts([call_of(ids[number % len(ids)]) for number in range(calls)]):
            await store.start(None, 0, part)
        await store.deregister_worker(worker_id)


def _parts(requests: Sequence[RawRequest]) -> Iterator[Sequence[RawRequest]]:
    return (requests[start : start + _BATCH] for start in range(0, len(requests), _BATCH))
