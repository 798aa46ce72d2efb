"""What do the SQL functions allow, without handlers, coroutines and codecs around them?

One program calls pgprog_engine.claim, complete and start by hand, with packed arrays and ready-made
payloads.  `plain.py` is the ceiling of a design without guards.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final

from bench.measure import Meter
from bench.question import Question
from bench.workload import call_of, finished, load, process_ids, registered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bench.question import Sample, Sizes
    from bench.server import Arena
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed

    # Ends so many tasks.
    Drain = Callable[["_Raw", int], Awaitable[None]]

BATCH: Final = 200


class _Raw:
    """A worker by hand."""

    def __init__(self, store: EngineStore, worker_id: int) -> None:
        self._store = store
        self._worker_id = worker_id

    async def by_turns(self, count: int) -> None:
        """Claim, complete, claim again."""
        while count > 0:
            claimed = await self._claimed()
            count -= len(claimed)
            await self._completed(claimed, chain=False)

    async def in_chains(self, count: int) -> None:
        """Do the same, and go on with what follows in each process."""
        while count > 0:
            claimed = await self._claimed()
            while claimed:
                count -= len(claimed)
                claimed = await self._completed(claimed, chain=True)

    async def at_once(self, count: int) -> None:
        """Claim the next batch while one is completed."""
        batches: asyncio.Queue[Sequence[Claimed]] = asyncio.Queue(2)
        await asyncio.gather(self._claim_into(batches, count), self._complete_from(batches, count))

    async def calls(self, count: int) -> None:
        """Start and complete a call of each process."""
        ids = process_ids(count)
        for start in range(0, count, BATCH):
            requests = [call_of(process_id) for process_id in ids[start : start + BATCH]]
            submitted = await self._store.start(self._worker_id, BATCH, requests)
            claimed = [each.claimed for each in submitted if each.claimed is not None]
            await self._completed(claimed, chain=False)

    async def _claim_into(self, batches: asyncio.Queue[Sequence[Claimed]], count: int) -> None:
        while count > 0:
            claimed = await self._claimed()
            count -= len(claimed)
            await batches.put(claimed)

    async def _complete_from(self, batches: asyncio.Queue[Sequence[Claimed]], count: int) -> None:
        while count > 0:
            claimed = await batches.get()
            count -= len(claimed)
            await self._completed(claimed, chain=False)

    async def _claimed(self) -> Sequence[Claimed]:
        return (await self._store.claim(self._worker_id, BATCH, held={})).tasks

    async def _completed(self, claimed: Sequence[Claimed], *, chain: bool) -> Sequence[Claimed]:
        """Return what follows; a completion that is busy is given again, as a worker does."""
        following: list[Claimed] = []
        while claimed:
            batch = [finished(each) for each in claimed]
            completed = await self._store.complete(
                self._worker_id, batch, chains=[chain] * len(batch)
            )
            following += [each.next_ for each in completed if each.next_ is not None]
            claimed = [
                each
                for each, done in zip(claimed, completed, strict=True)
                if done.outcome != "done"
            ]
        return following


def _many(arena: Arena, sizes: Sizes, *, drain: Drain) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes, calls=sizes.tasks)
        return asyncio.run(_drain(dsn, drain, count=sizes.tasks))


def _few(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.few_processes, calls=sizes.tasks)
        return asyncio.run(_drain(dsn, _Raw.in_chains, count=sizes.tasks))


def _calls(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        return asyncio.run(_drain(dsn, _Raw.calls, count=sizes.many_processes))


async def _drain(dsn: str, drain: Drain, *, count: int) -> Sample:
    async with registered(dsn) as (store, worker_id):
        meter = Meter(dsn)
        with meter:
            await drain(_Raw(store, worker_id), count)
    return meter.sample(count)


QUESTIONS = (
    Question(
        "raw claim and complete by turns", "tasks", functools.partial(_many, drain=_Raw.by_turns)
    ),
    Question(
        "raw claim and complete at once", "tasks", functools.partial(_many, drain=_Raw.at_once)
    ),
    Question("raw claim and complete, chains of 20", "tasks", _few),
    Question("raw start and complete by turns", "calls", _calls),
)
