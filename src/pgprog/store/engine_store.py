"""The SQL functions of workers; a method has the name of the function it calls.

Lanes of their own for taking requests, claiming and completing, so that these overlap; three more
for claiming, completing and telling the few steps of a namespace beside the many of another; one
for requests that come many at once, one for those that wait for a stranger's transaction, one for
what handlers read, one for what is rare, one for housekeeping, which is long, one for looks at what
claims pass by, one for hints to other programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from pgprog.metrics import Metrics
from pgprog.store import completions
from pgprog.store.columns import columns_of, namespaces_of
from pgprog.store.faults import NOT_SENT, translated_failures
from pgprog.store.housekeeping import Housekeeping
from pgprog.store.lane import Lane
from pgprog.store.measuring import measure_claim, measure_completions, measure_requests, timed
from pgprog.store.packing import bigints, integers, jsonbs, texts
from pgprog.store.rows import (
    Claimed,
    Claims,
    Completed,
    Completion,
    Position,
    RawRequest,
    Served,
    Stored,
    Submitted,
)
from pgprog.store.starting import packed, submitted
from pgprog.store.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from pgprog.encryption import Encryption
    from pgprog.model import Direction

# 'many' come at once and would hold up others, 'alone' wait for a stranger's transaction.
RequestLane = Literal["batches", "many", "alone"]
# 'few' is for namespaces of which few steps are held: they do not wait for the batch of another.
CompletionLane = Literal["batches", "few"]

_CLAIM: Final = "select * from pgprog_engine.claim(%s, %s, %s, %s, %s, %s, %s)"
_CLAIM_WITH_EVENTS: Final = """
select
  pgprog_engine.newest_events(
    c.incarnation, c.last_event_id, (%s::integer[])[array_position(%s::text[], c.namespace)]),
  c.*
from pgprog_engine.claim(%s, %s, %s, %s, %s, %s, %s) as c
"""
_START: Final = "select * from pgprog_engine.start(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_START_WITH_EVENTS: Final = """
select
  pgprog_engine.newest_events(s.incarnation, s.last_event_id, (%s::integer[])[s.pos]),
  s.*
from pgprog_engine.start(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) as s
"""
_VERSION: Final = Claimed._fields.index("version")
_TOLD_AT: Final = Claimed._fields.index("due_at")
_SEEN: Final = Claimed._fields.index("created_at")
_SEEN_TASK: Final = Claimed._fields.index("claim_id")
_TOOK: Final = Claimed._fields.index("attempt")
_FROM_THE_FIRST: Final = (None, 0)


class EngineStore(Housekeeping):
    """Connections of one worker to *dsn*, which may be a transaction pooler.

    So many *completions* are in flight at once.  *metrics* are told of every round trip that has
    one there.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        completions: int = 2,
        metrics: Metrics | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        def lane(what: str) -> Lane:
            return Lane(dsn, name=f"{name} {what}", encryption=encryption)

        self.metrics = metrics or Metrics()
        self.completions = completions
        self._encryption = encryption
        self._served: Sequence[str] = ()
        self._starts: dict[RequestLane, Lane] = {
            "batches": lane("start"),
            "many": lane("start many"),
            "alone": lane("start alone"),
        }
        self._claims = lane("claim")
        self._completions = [lane("complete") for _ in range(completions)]
        self._claims_of_few = lane("claim few")
        self._completions_of_few = lane("complete few")
        self._reads = lane("read")
        self._upkeep = lane("upkeep")
        self._housekeeping = lane("housekeeping")
        self._looks = lane("look")
        self._hints = lane("hint")
        self._hints_of_few = lane("hint few")
        self._preload: Mapping[str, int] = {}

    def preload(self, most: Mapping[str, int]) -> None:
        """Claim tasks of these namespaces with their newest events from here, at most so many."""
        self._preload = most

    async def start(
        self,
        worker_id: int | None,
        max_starts: int,
        requests: Sequence[RawRequest],
        *,
        lane: RequestLane = "batches",
    ) -> list[Submitted]:
        """Take requests, and start at most *max_starts* whose process stands free.

        Without a worker all are queued.  The outcomes are in the order of *requests*.

        Raises:
            LeaseLost: Nothing was done.
            LockTimeout: Nothing was done; a stranger's open transaction holds a key or an id.
            PgprogError: The database failed; nothing was done.
        """
        on = self._starts[lane]
        parameters = (worker_id, max_starts, *packed(columns_of(requests, self._encryption)))
        began_at = time.monotonic()
        if not self._preload:
            with translated_failures():
                rows = await on.fetch(_START, parameters)
            found = [submitted(*each) for each in zip(requests, rows, strict=True)]
        else:
            most = [*map(self._preload.get, namespaces_of(requests))]
            with translated_failures():
                rows = await on.fetch(_START_WITH_EVENTS, (integers(most), *parameters))
            found = [
                _with_events(submitted(request, row), raw, most=each or 0)
                for request, (raw, *row), each in zip(requests, rows, most, strict=True)
            ]
        measure_requests(self.metrics, requests, found, seconds=time.monotonic() - began_at)
        return found

    async def claim(
        self,
        worker_id: int,
        max_tasks: int,
        *,
        held: Mapping[str, int],
        most: int | None = None,
        since: Position | None = None,
    ) -> Claims:
        """Claim up to *max_tasks* due tasks, at most one of each process.

        Where they are fewer than the namespaces, those come first of which fewest are *held*.  With
        *most* only namespaces count of which fewer than that are held, on the lane for few.  With
        *since* nothing is claimed of what is before it, but what comes due now: `first_rank`.

        Raises:
            LeaseLost: Nothing was claimed.
        """
        on = self._claims if most is None else self._claims_of_few
        held_in, counts = texts([*held]), integers([*held.values()])
        asked = (worker_id, max_tasks, held_in, counts, most, *(since or _FROM_THE_FIRST))
        began_at = time.monotonic()
        if not self._preload:
            rows = await on.fetch(_CLAIM, asked)
            last = rows.pop()
            tasks = [Claimed(*row[:-1]) for row in rows]
        else:
            names, events = texts([*self._preload]), integers([*self._preload.values()])
            rows = await on.fetch(_CLAIM_WITH_EVENTS, (events, names, *asked))
            _, *last = rows.pop()
            tasks = [self._preloaded(Claimed(*row[:-1]), raw) for raw, *row in rows]
        seconds, told_at = time.monotonic() - began_at, last[_TOLD_AT]
        measure_claim(self.metrics, tasks, served=self._served, told_at=told_at, seconds=seconds)
        seen = None if last[_SEEN] is None else Position(last[_SEEN], last[_SEEN_TASK])
        wait, took = last[-1] / 1_000_000, last[_TOOK] / 1_000_000
        return Claims(tasks, wait, last[_VERSION], seen, took, told_at)

    async def first_rank(self, since: Position) -> tuple[datetime | None, float]:
        """Return the lowest rank of what waits before *since*, or None, and the seconds it took."""
        statement = "select * from pgprog_engine.first_rank(%s, %s, %s)"
        [(rank, took)] = await self._looks.fetch(statement, (texts(self._served), *since))
        return rank, took / 1_000_000

    async def complete(
        self,
        worker_id: int,
        batch: Sequence[Completion],
        *,
        chains: Sequence[bool],
        lane: CompletionLane = "batches",
    ) -> list[Completed]:
        """End steps; *chains* says where the next task of the same process is wanted.

        Raises:
            RolledBack: Nothing was done; repeat it.
            DataFault: Nothing was done; some completion cannot be stored.
            StoreUnavailable: Repeat it: what was committed is then 'already'.
        """
        parameters = completions.parameters(
            worker_id, batch, chains=chains, encryption=self._encryption
        )
        on = self._completions_of_few
        if lane == "batches":
            on = min(self._completions, key=lambda each: each.flights)
        began_at = time.monotonic()
        rows = await on.fetch(completions.COMPLETE, parameters)
        seconds = time.monotonic() - began_at
        completed = completions.results(batch, rows)
        measure_completions(self.metrics, batch, completed, seconds=seconds)
        return completed

    async def register_worker(
        self, name: str, serves: Mapping[str, Served], lease: timedelta
    ) -> int:
        """Begin an incarnation that serves these namespaces, by their names; return its id."""
        self._served = [*serves]
        self.metrics.begin(self._served)
        [[worker_id]] = await self._upkeep.fetch(
            "select pgprog_engine.register_worker(%s, %s, %s, %s, %s)",
            (
                name,
                texts([*serves]),
                jsonbs([each.settings for each in serves.values()]),
                lease,
                integers([each.state_version for each in serves.values()]),
            ),
        )
        return int(worker_id)

    async def deregister_worker(self, worker_id: int) -> int:
        """End an incarnation; return how many claims it still held, which wait again."""
        [[count]] = await self._upkeep.fetch(
            "select pgprog_engine.deregister_worker(%s)", (worker_id,)
        )
        return int(count)

    async def hand_back(self, claims: Sequence[tuple[int, int]]) -> int:
        """Give claims, as (task_id, claim_id), back with no attempt burned; return how many."""
        task_ids, claim_ids = zip(*claims, strict=True)
        [[count]] = await self._upkeep.fetch(
            "select pgprog_engine.hand_back(%s, %s)", (bigints(task_ids), bigints(claim_ids))
        )
        return int(count)

    async def report_crash(self, worker_id: int, *, task_id: int, claim_id: int) -> bool:
        """Let a step go whose child process died of it; False where the claim is gone or locked."""
        [[done]] = await self._upkeep.fetch(
            "select pgprog_engine.report_crash(%s, %s, %s)", (worker_id, task_id, claim_id)
        )
        return bool(done)

    async def first_trace(self, task_id: int) -> str | None:
        """Return the traceparent of the first attempt of a task, None where it has told none."""
        [[traceparent]] = await self._upkeep.fetch(
            "select pgprog_engine.first_trace(%s)", (task_id,)
        )
        return None if traceparent is None else str(traceparent)

    async def history(
        self, claimed: Claimed, *, after: int | None, max_events: int, direction: Direction
    ) -> list[Any]:
        """Return (event_id, at, task_id, payload, metadata, state_version), for a step.

        Raises:
            ProcessNotFound: Its process was removed, whether there is another of that id or not.
        """
        process = claimed.namespace, claimed.process_id, claimed.incarnation
        return await self._reads.fetch(
            "select * from pgprog_engine.history(%s, %s, %s, %s, %s, %s)",
            (*process, after, max_events, direction),
        )

    async def settings(self, namespaces: Sequence[str]) -> dict[str, Stored]:
        """Return the settings that the database has for those of these namespaces that it knows."""
        rows = await self._upkeep.fetch(
            "select namespace, settings, settings_version from pgprog.namespaces"
            " where namespace = any (%s)",
            (texts(namespaces),),
        )
        return {namespace: Stored(settings, version) for namespace, settings, version in rows}

    async def schema_versions(self) -> tuple[int, int]:
        """Return the schema version of the oldest workers that are served, and that which it is."""
        query = "select pgprog_engine.oldest_served(), pgprog.schema_version()"
        [(oldest, version)] = await self._upkeep.fetch(query)
        return int(oldest), int(version)

    async def announce(
        self, channel: str, payloads: Sequence[str], *, lane: CompletionLane = "batches"
    ) -> None:
        """Notify those who listen, in a transaction of its own; what cannot be sent is lost."""
        on = self._hints if lane == "batches" else self._hints_of_few
        with contextlib.suppress(*NOT_SENT), timed(self.metrics.notification[()]):
            await on.fetch(
                "select pg_notify(%s, payload) from unnest(%s::text[]) as x(payload)",
                (channel, texts(payloads)),
            )

    def _preloaded(self, task: Claimed, raw: bytes | None) -> Claimed:
        """Return a claim with the events that came with it."""
        return task if raw is None else _windowed(task, raw, most=self._preload[task.namespace])

    async def close(self) -> None:
        """Close the connections after what is in flight has ended."""
        steps = (*self._starts.values(), self._claims, *self._completions)
        few = (self._claims_of_few, self._completions_of_few, self._hints_of_few)
        others = (self._reads, self._upkeep, self._housekeeping, self._looks, self._hints)
        await asyncio.gather(*(lane.close() for lane in (*steps, *few, *others)))


def _windowed(claimed: Claimed, raw: bytes, *, most: int) -> Claimed:
    try:
        window = Window.of(raw, most=most, last_event_id=claimed.last_event_id)
    except RecursionError:  # one event is nested too deeply: the step that reads it is told
        return claimed
    return claimed._replace(window=window)


def _with_events(submitted: Submitted, raw: bytes | None, *, most: int) -> Submitted:
    if submitted.claimed is None or raw is None:
        return submitted
    return submitted._replace(claimed=_windowed(submitted.claimed, raw, most=most))
