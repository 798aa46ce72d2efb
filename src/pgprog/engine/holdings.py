"""The claims that this worker holds in memory, and the round trips that may bring others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgprog.metrics import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pgprog.store.rows import Claimed
    from pgprog.tracing.otel import StepSpan

# With fewer claims than these every batch is short.  An eighth of them is few.
_MANY = 64
_FEW_OF = 8
# Who has come once comes again: what it would meet then must be short before it is here.
_SHARED_SECONDS = 1.0


@dataclass(slots=True, eq=False, kw_only=True)
class Held:
    """A claim, from the answer that brought it to the answer that ended it.

    *chained* counts the steps of its chain before it; *chain_began_at* and *taken_at* are
    monotonic.  *runs* is True from the start of its handler, *ends* from the decision how it ends;
    *is_dropped* says that it was given up: nothing of it may be committed any more.  *carried*
    travels with its step, from its start; *span* is there where the program has set up tracing.
    """

    claimed: Claimed
    chained: int = 0
    chain_began_at: float = field(default_factory=time.monotonic)
    taken_at: float = field(default_factory=time.monotonic)
    runs: bool = False
    ends: bool = False
    is_dropped: bool = False
    step: asyncio.Task[None] | None = None
    carried: Mapping[str, str] | None = None
    span: StepSpan | None = None


class Holdings:
    """What the worker holds, by claim; *drops* counts how often all was given up.

    *namespaces* are shown as idle from the start.
    """

    def __init__(self, namespaces: Iterable[str] = ()) -> None:
        self.drops = 0
        self._held: dict[tuple[int, int], Held] = {}
        self._in: Counter[str] = Counter()
        self._shared_until = 0.0
        self._seen = {*namespaces}  # a gauge that is left out would keep its last value
        self._trips: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        """Return how many claims are held."""
        return len(self._held)

    @property
    def by_namespace(self) -> Mapping[str, int]:
        """How many claims are held of each namespace that has any."""
        return self._in

    @property
    def is_shared(self) -> bool:
        """Whether claims of several namespaces are held, or were a moment ago."""
        return time.monotonic() < self._shared_until

    @property
    def few(self) -> int:
        """Up to how many claims of a namespace are few beside all the others; 0: none are."""
        has_neighbours = len(self._seen) > 1
        return len(self._held) // _FEW_OF if has_neighbours and len(self._held) >= _MANY else 0

    def is_few(self, namespace: str) -> bool:
        """Return whether what is held of a namespace is little beside all the rest."""
        return self._in[namespace] <= self.few

    def add(self, claimed: Claimed, *, since: int) -> Held:
        """Take a claim that begins a chain; it was asked for when *drops* was *since*.

        It is dropped at once when all was given up while it was on its way.
        """
        return self._add(Held(claimed=claimed), since=since)

    def add_next(self, claimed: Claimed, *, after: Held, since: int) -> Held:
        """Take a claim that goes on with the chain of *after*."""
        held = Held(claimed=claimed, chained=after.chained + 1, chain_began_at=after.chain_began_at)
        return self._add(held, since=since)

    def remove(self, held: Held) -> None:
        """Forget a claim: it was ended, lost or given up."""
        if self._held.pop(_key(held.claimed), None) is None:
            return
        name = held.claimed.namespace
        self._in[name] -= 1
        if not self._in[name]:
            del self._in[name]

    def begun(self) -> list[int]:
        """Return the tasks whose handlers have started; any thread may ask."""
        return [held.claimed.task_id for held in list(self._held.values()) if held.runs]

    def busy(self) -> list[Sample]:
        """Return how many handlers run, by namespace; any thread may ask."""
        running = Counter(
            held.claimed.namespace
            for held in list(self._held.values())
            if held.runs and not held.ends
        )
        self._seen.update(running)
        return [Sample("pgprog_steps_busy", (name,), running[name]) for name in self._seen]

    def drop(self) -> list[Held]:
        """Give up all that has not come to its end or is on its way, and return what is here."""
        self.drops += 1
        return self._drop(held for held in self._held.values() if not held.ends)

    def drop_lost(self, claims: Sequence[tuple[int, int]], *, asked_at: float) -> list[Held]:
        """Give up what the database no longer has of what was ours when it was asked.

        Somebody removed the process, or took the claim away: nothing of the step can be committed.
        """
        had = {*claims}
        return self._drop(
            held
            for claim, held in self._held.items()
            if claim not in had and held.taken_at < asked_at and not held.ends
        )

    @contextmanager
    def trip(self) -> Iterator[None]:
        """Embrace a round trip that may bring claims, with the taking of what it brought."""
        trip: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._trips.add(trip)
        try:
            yield
        finally:
            self._trips.discard(trip)
            trip.set_result(None)

    async def strangers(self, claims: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return those of (task_id, claim_id) that are nobody's, once all trips have ended.

        A claim that the database has and we do not know may be on its way to us.
        """
        unknown = self._unknown(claims)
        if unknown and self._trips:
            await asyncio.wait(self._trips)
            unknown = self._unknown(unknown)
        return unknown

    def _drop(self, chosen: Iterable[Held]) -> list[Held]:
        dropped = [*chosen]
        for held in dropped:
            held.is_dropped = True
            self.remove(held)
            if held.step is not None:
                held.step.cancel()
        return dropped

    def _add(self, held: Held, *, since: int) -> Held:
        held.is_dropped = since != self.drops
        if not held.is_dropped:
            self._held[_key(held.claimed)] = held
            self._in[held.claimed.namespace] += 1
            if len(self._in) > 1:
                self._shared_until = held.taken_at + _SHARED_SECONDS
        return held

    def _unknown(self, claims: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [claim for claim in claims if claim not in self._held]


def _key(claimed: Claimed) -> tuple[int, int]:
    """Return what tells claims apart, also where a promoted standby counts them from before."""
    return claimed.task_id, claimed.claim_id
