"""Keep a replication stream open: what ended is opened again, later and later."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.errors import ReplicationLost, ReplicationRefused
from pgprog.replication.messages import Lost
from pgprog.replication.opening import MAX_BYTES, open_stream
from pgprog.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pgprog.replication.messages import FeedEvent
    from pgprog.replication.published import Published

log = logs.get(__name__)

_RECONNECT = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), max_attempts=1_000_000, jitter=0.5
)
_SECONDS_TO_SETTLE = 10.0


async def follow(
    dsn: str,
    published: Published,
    *,
    name: str = "pgprog reader",
    reconnect: timedelta = timedelta(seconds=5),
    max_bytes: int = MAX_BYTES,
) -> AsyncGenerator[FeedEvent, None]:
    """Yield what happens to what is published, for ever; use it in `contextlib.aclosing`.

    After each `Connected` come the transactions of one stream, then `Lost`; further `Lost` may
    follow, for each time that it cannot be opened, after a tenth of a second at first and at most
    *reconnect*.  An event counts as dealt with when the next one is asked for.  Nobody need hurry
    to do that: a consumer that pauses makes the server wait, which hears of us meanwhile.

    The rest is as for `open_stream`.  No error of replication is raised.

    Raises:
        ConfigError: The DSN cannot be read.
    """
    attempts = _Attempts(reconnect)
    while True:
        try:
            async with open_stream(dsn, published, name=name, max_bytes=max_bytes) as stream:
                attempts.succeeded()
                yield stream.connected
                while True:
                    yield await stream.next()
        except ReplicationLost as e:
            attempts.failed(e)
            yield Lost(e)
        await asyncio.sleep(attempts.delay())


class _Attempts:
    """Counts failures, and says each once."""

    def __init__(self, longest: timedelta) -> None:
        self._policy = replace(_RECONNECT, max_interval=longest)
        self._failures = 0
        self._opened_at: float | None = None
        self._said = ""

    def succeeded(self) -> None:
        self._opened_at = time.monotonic()
        if self._said:
            log.info("replication_connected")
        self._said = ""

    def failed(self, error: ReplicationLost) -> None:
        """Count; a stream that was open for a while begins the count again."""
        opened_at, self._opened_at = self._opened_at, None
        if opened_at is not None and time.monotonic() - opened_at > _SECONDS_TO_SETTLE:
            self._failures = 0
        self._failures += 1
        if str(error) != self._said:
            refused = isinstance(error, ReplicationRefused)
            event = "replication_refused" if refused else "replication_lost"
            log.warning(event, detail=str(error), hint=error.hint)
        self._said = str(error)

    def delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        wait = self._policy.next_delay(
            failures=min(self._failures, 1000), error_type="", code=None, random=random.random()
        )
        return (wait or self._policy.max_interval).total_seconds()
