"""What a job does wherever it runs; needs psycopg alone, which every environment has."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg_pool import AsyncConnectionPool, ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Args = Mapping[str, Any]

NO_OP: Final = "no-op"
OWN: Final = "own"
BY_HAND: Final = "by hand"

# One statement, and so one commit: the least that whoever has no state of its own must do.
WRITE: Final = (
    "with written as (update by_hand.states set state = %s::jsonb where number = %s)"
    " insert into by_hand.events (number, payload) values (%s, %s::jsonb)"
)
_CONNECTIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Payloads:
    """What jobs carry and write, as JSON."""

    note: str
    state: str
    event: str


class Job:
    """Notes when each job began, and tells when the first and the last of *count* did.

    *kind* says what else a job does: nothing (no-op), write a state and an event with what its peer
    has for that (own), or write them on a connection of its own (by hand).
    """

    def __init__(
        self,
        kind: str,
        *,
        count: int,
        payloads: Payloads,
        dsn: str,
        tell: Callable[[dict[str, object]], None],
    ) -> None:
        self.kind = kind
        self.payloads = payloads
        self.began_at: list[tuple[int, float]] = []
        self._count = count
        self._dsn = dsn
        self._tell = tell
        self._lock = threading.Lock()
        self._pool: AsyncConnectionPool | None = None
        self._blocking_pool: ConnectionPool | None = None

    def begin(self, args: Args) -> None:
        """Note the time, by the monotonic clock of the machine."""
        now = time.monotonic()
        with self._lock:
            self.began_at.append((args["i"], now))
            number = len(self.began_at)
        if number == 1:
            self._tell({"first": now})
        if number == self._count:
            self._tell({"last": now})

    async def open(self) -> None:
        """Connect, where jobs write by hand."""
        if self.kind == BY_HAND:
            self._pool = AsyncConnectionPool(
                self._dsn,
                min_size=_CONNECTIONS,
                max_size=_CONNECTIONS,
                open=False,
                kwargs={"autocommit": True, "prepare_threshold": 0},
            )
            await self._pool.open(wait=True)

    def open_blocking(self) -> None:
        """Connect for jobs that run in threads."""
        if self.kind == BY_HAND:
            self._blocking_pool = ConnectionPool(
                self._dsn,
                min_size=_CONNECTIONS,
                max_size=_CONNECTIONS,
                open=True,
                kwargs={"autocommit": True, "prepare_threshold": 0},
            )
            self._blocking_pool.wait()

    async def run(self, args: Args) -> None:
        """Do what a job does, but for what only its peer can."""
        self.begin(args)
        if self._pool is not None:
            async with self._pool.connection() as connection:
                await connection.execute(WRITE, self.values(args))

    def run_blocking(self, args: Args) -> None:
        """Do the same in a thread."""
        self.begin(args)
        if self._blocking_pool is not None:
            with self._blocking_pool.connection() as connection:
                connection.execute(WRITE, self.values(args))

    def values(self, args: Args) -> tuple[object, ...]:
        """Return what `WRITE` takes."""
        number = args["i"]
        return self.payloads.state, number, number, self.payloads.event
