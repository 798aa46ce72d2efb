"""Clients that read, each answer looked at and given to the oracle."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg
from tests.stress.oracle import Read, gone, rank

from pgprog.cache.gate import Gate
from pgprog.client.cached_reads import CachedReads
from pgprog.errors import CallTimeout, Overloaded, StaleRead, StoreUnavailable

if TYPE_CHECKING:
    import random

    from tests.stress.oracle import Key, Oracle

    from pgprog import AsyncClient
    from pgprog.cache.reader import Reader
    from pgprog.model import Process

MAX_LAG = 1.0
_PATIENCE_SECONDS = 60
_EPOCH = datetime(2100, 1, 1, tzinfo=UTC)
_LOOKS = 0.002
# A client may say so: the database is away, or its standby stalls.
HONEST = (StaleRead, StoreUnavailable, Overloaded, CallTimeout)
_GONE = gone((1 << 31) - 1)
_PLAIN = """
select (p.metadata ->> 'life')::bigint, p.last_event_id
from pgprog_data.processes as p where p.namespace = %s and p.process_id = %s
"""


class OpenGate(Gate):
    """Lets everything through that the stream tells, as without a synchronous standby.

    So the moment between told and visible, else microseconds, lasts as long as the standby stalls.
    """

    @property
    def is_shut(self) -> bool:
        return False

    @is_shut.setter
    def is_shut(self, is_shut: bool) -> None: ...


class Torn(Exception):  # noqa: N818 - what was seen
    """An answer whose parts are not of one moment."""


class Shown(NamedTuple):
    """What an answer shows."""

    rank: int | None
    free: int = 0
    marks: tuple[str, ...] = ()
    version: int = 0


def shown(process: Process[Any] | None, *, direction: str, max_events: int) -> Shown:
    """Return what an answer shows.

    Raises:
        Torn: Its parts do not fit each other.
    """
    if process is None or process.status == "init":
        return Shown(None)  # what is not born yet does not say of which life it is
    state, number = process.state, process.last_event_id
    metadata: Any = process.metadata
    step_at, free_at = process.timers.get("step"), process.timers.get("free")
    pairs: list[tuple[object, object]] = [
        (metadata["n"], number),
        (state["n"], metadata["state_n"]),
        (state["life"], metadata["life"]),
        (number if step_at is None else _number(step_at), number),
    ]
    marks = [metadata["mark"], state["mark"]]
    if max_events:
        ids = [event.event_id for event in process.history]
        most = min(max_events, number)
        first = number if direction == "backward" else 1
        step = -1 if direction == "backward" else 1
        pairs.append((ids, [*range(first, first + step * most, step)]))
        payloads: list[Any] = [event.payload for event in process.history]
        pairs += [(each["n"], number) for each, number in zip(payloads, ids, strict=True)]
        marks += [each["mark"] for each in payloads]
        if direction == "backward" and ids:
            pairs.append((payloads[0]["mark"], metadata["mark"]))
    if wrong := [pair for pair in pairs if pair[0] != pair[1]]:
        msg = f"{wrong} in {process}"
        raise Torn(msg)
    phase = int(step_at is None)
    free = 0 if free_at is None else _number(free_at)
    return Shown(rank(state["life"], number, phase), free, tuple(marks), process.version)


def _number(at: datetime) -> int:
    return round((at - _EPOCH).total_seconds())


class Observer:
    """Reads by one client and remembers what it saw; asks in ways that *chance* decides."""

    def __init__(
        self, name: str, client: AsyncClient, oracle: Oracle, chance: random.Random
    ) -> None:
        self.name = name
        self.client = client
        self.witness: Witness | None = None
        self.honest = 0
        self._oracle = oracle
        self._chance = chance
        self._floors: dict[Key, tuple[int, int]] = {}

    @property
    def reader(self) -> Reader:
        """What keeps the client's cache."""
        cached = self.client._cached
        assert isinstance(cached, CachedReads)
        assert cached._reader is not None
        return cached._reader

    def wrote(self, key: Key, rank: int) -> None:
        """Note that the client wrote this itself."""
        self._floors[key] = (rank, 0)

    async def read_on(
        self, namespace: str, processes: int, *, burst: int = 100, prefix: str = "p"
    ) -> None:
        """Read for ever, in bursts, which end early where memory does not answer."""
        chance = self._chance
        while True:
            place = min(int(chance.paretovariate(0.6)) - 1, processes - 1)
            left = chance.randrange(burst)
            while left > 0:
                try:
                    is_cached = await self.read((namespace, f"{prefix}-{place}"))
                except HONEST:
                    self.honest += 1
                    break
                left -= 1 if is_cached else burst // 4
            await asyncio.sleep(chance.random() * 0.002)

    async def read(self, key: Key) -> bool:
        """Read once, as chance wants it; return whether memory answered."""
        options, max_events, direction = self._options(key)
        floor, free_floor = self._floors.get(key, (0, 0))
        began_at = time.monotonic()
        process = await self.client.get(*key, max_events=max_events, direction=direction, **options)
        ended_at = time.monotonic()
        try:
            found = shown(process, direction=direction, max_events=max_events)
        except Torn as e:
            self._oracle.fault("torn", f"{self.name} {options}: {e}")
            return True
        self._oracle.add(
            Read(
                self.name,
                key,
                began_at,
                ended_at,
                process.source if process else "postgresql",
                process.lag if process else 0.0,
                options.get("max_lag", MAX_LAG),
                found.rank,
                found.marks,
                found.free,
                floor,
                free_floor,
                found.version,
                options.get("at_least", 0),
            )
        )
        self._remember(key, found, floor)
        is_cached = process is not None and process.source == "cache"
        if is_cached and self.witness and self._chance.random() < _LOOKS:
            await self.witness.check(self.name, key, found)
        return is_cached

    def _options(self, key: Key) -> tuple[dict[str, Any], int, Any]:
        dice = self._chance.random()
        options: dict[str, Any] = {}
        if dice < 0.002:
            options = {"cache": False}
        elif dice < 0.005 and key in self._oracle.versions:
            options = {"at_least": self._oracle.versions[key]}
        elif dice < 0.01:
            options = {"max_lag": self._chance.choice((0.0, 0.02, 5.0))}
        if options:
            options["timeout"] = 2.0
        if dice > 0.8:
            return options, self._chance.choice((1, 5, 60)), "backward"
        return options, 0, "forward"

    def _remember(self, key: Key, found: Shown, floor_before: int) -> None:
        floor, free = self._floors.get(key, (0, 0))
        seen = gone(floor_before >> 32) if found.rank is None else found.rank
        if seen >> 32 != floor >> 32:
            free = 0
        if seen >= floor:
            self._floors[key] = (seen, max(free, found.free))


class Witness:
    """Looks by plain SQL whether the database, too, shows what a client was shown."""

    def __init__(self, dsn: str, oracle: Oracle) -> None:
        self._dsn = dsn
        self._oracle = oracle
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()  # many ask, by one connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def check(self, client: str, key: Key, found: Shown) -> None:
        """Look now; in vain while the database is away."""
        try:
            rank = await self._rank(key)
        except psycopg.OperationalError:
            return
        self._oracle.counts["looks of a witness"] += 1
        if found.rank is not None and rank < found.rank:
            self._oracle.fault("unseen", f"{client} {key}: {found} was shown, {rank} is visible")

    async def sweep(self, observers: list[Observer], namespace: str, processes: int) -> None:
        """Compare everything, now that nobody writes any more."""
        for number in range(processes):
            key = (namespace, f"p-{number}")
            rank = await self._rank_at_last(key)
            for observer in observers:
                process = await observer.client.get(*key, max_events=5, direction="backward")
                found = shown(process, direction="backward", max_events=5)
                if (_GONE if found.rank is None else found.rank | 1) != rank:
                    self._oracle.fault("lasting", f"{observer.name} {key}: {found}, not {rank}")

    async def _rank_at_last(self, key: Key) -> int:
        """Return the rank that is visible, though the last fault has ended the session."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(psycopg.OperationalError):
                    return await self._rank(key)

    async def _rank(self, key: Key) -> int:
        """Return the rank that is visible, with its timer gone for all we know."""
        async with self._lock:
            row = await self._row(key)
        return _GONE if row is None else rank(row[0], row[1], phase=1)

    async def _row(self, key: Key) -> Any:
        try:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, connect_timeout=5
                )
            cursor = await self._connection.execute(_PLAIN, key)
            return await cursor.fetchone()
        except psycopg.OperationalError:
            if self._connection is not None:
                await self._connection.close()
            self._connection = None
            raise
