"""One run of the demo: an engine that carries all documents that were found, and its report."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from pgprog.client import Engine
from pgprog.config import PoolConfig, WorkerConfig
from pgprog.demo import report, search
from pgprog.demo.ends import fetch_ends, queue
from pgprog.demo.handlers import documents, removals
from pgprog.demo.progress import Progress
from pgprog.model import Request, TaskType
from pgprog.store.pool import connect, connect_blocking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from pgprog.demo.ends import End
    from pgprog.demo.found import Found
    from pgprog.demo.report import Failure, Indexed
    from pgprog.demo.search import Hits
    from pgprog.store.bound import AsyncConnection

# Parsing is bound to the two cores' one GIL: four threads are no quicker and take more memory.
# After a kill -9 the next run takes the tasks over when the lease has passed.
_WORKER = WorkerConfig(
    concurrency=2,
    lease=timedelta(seconds=2),
    heartbeat_every=timedelta(seconds=0.5),
    stop_timeout=timedelta(seconds=10),
)
_POOL = PoolConfig(engine=2, api=2, transactions=2)
_BATCH = 200
# Beyond that the finding of documents waits for the carrying of them.
_MOST_QUEUED = 5000
_MOST_LOOKED_AT = 1000
_LOOK_SECONDS = 0.2


class Audience(Protocol):
    """Who is told how far a run is."""

    def show(self, progress: Progress) -> None:
        """Take the news, several times a second."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What there is in the end, of this run and those before it."""

    indexed: list[Indexed]
    failures: list[Failure]
    searches: list[Hits]


@contextlib.asynccontextmanager
async def serving(dsn: str) -> AsyncIterator[Engine]:
    """Serve the demo's namespaces for as long as the block lasts."""
    async with Engine(dsn, [documents, removals], worker=_WORKER, pool=_POOL) as engine:
        yield engine


async def carry(
    engine: Engine, dsn: str, found: Sequence[Found], *, stop: asyncio.Event, audience: Audience
) -> Progress:
    """Carry documents until all have ended, or *stop* is set, and return how far it came.

    Documents of a run before this one are left as they are when they have ended, and awaited
    when not.
    """
    async with connect(dsn, name="pgprog demo") as connection:
        run = _Run(engine, connection, total=len(found))
        for start in range(0, len(found), _BATCH):
            if stop.is_set():
                break
            await run.queue(found[start : start + _BATCH])
            await _until(run, most_queued=_MOST_QUEUED, stop=stop, audience=audience)
        await _until(run, most_queued=0, stop=stop, audience=audience)
        return run.progress


def fetch_report(dsn: str) -> Report:
    """Return what is in the database; blocks."""
    with connect_blocking(dsn, name="pgprog demo") as connection:
        return Report(
            indexed=report.fetch_indexed(connection),
            failures=report.fetch_failures(connection),
            searches=[search.search(connection, words) for words in search.SEARCHES],
        )


def init_of(found: Found) -> Request:
    """Return the request that begins the process of a document."""
    return Request(TaskType.INIT, documents.name, found.process_id, found.args)


@dataclass(slots=True)
class _Run:
    """The documents that are queued, and what became of the others."""

    engine: Engine
    connection: AsyncConnection
    total: int
    open: dict[str, None] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    before: int = 0
    began_at: float = field(default_factory=time.monotonic)

    @property
    def progress(self) -> Progress:
        return Progress(
            found=self.total,
            queued=len(self.open),
            ended=self.ended.total(),
            before=self.before,
            failed=self.ended["error"],
            seconds=time.monotonic() - self.began_at,
        )

    async def queue(self, batch: Iterable[Found]) -> None:
        requests = [init_of(found) for found in batch]
        known = await queue(self.engine, requests)
        self.open.update(dict.fromkeys(request.process_id for request in requests))
        if known:
            self.before += await self.look(known)

    async def look(self, process_ids: Sequence[str]) -> int:
        """Take the ends of some documents, and return how many have ended."""
        ends = await fetch_ends(self.connection, documents.name, process_ids)
        self._close(ends)
        return len(ends)

    async def look_at_oldest(self) -> None:
        """Take the ends of those that were queued first, and so end first."""
        await self.look([*self.open][:_MOST_LOOKED_AT])

    def _close(self, ends: Iterable[End]) -> None:
        for end in ends:
            del self.open[end.process_id]
            self.ended[end.status] += 1


async def _until(run: _Run, *, most_queued: int, stop: asyncio.Event, audience: Audience) -> None:
    """Look for ends until only *most_queued* are under way, or *stop* is set."""
    audience.show(run.progress)
    while len(run.open) > most_queued and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
        await run.look_at_oldest()
        audience.show(run.progress)
