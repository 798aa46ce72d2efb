"""Connections to PostgreSQL.

Every long-lived connection has time-outs of its own: without them a network that drops packets is
noticed when the kernel gives up, after a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgprog.errors import ConfigError
from pgprog.metrics import Sample
from pgprog.store import packing
from pgprog.store.faults import translated, translated_denials
from pgprog.store.own_loop import check_loop
from pgprog.texts import text_fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import timedelta

    from psycopg_pool._acompat import AQueue
    from psycopg_pool.pool_async import MaintenanceTask

    from pgprog.encryption import Encryption

_TIMEOUTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# Arrays are packed as UTF-8: in the encoding of a role or of a database ids would become others.
_ALWAYS = {"client_encoding": "UTF8"}
# For so long a lost connection is tried again, less and less often; then by who needs one.  By the
# pool's own five minutes it came back as long after the server as that had been away.
RECONNECT_SECONDS: Final = 5.0
# How long the end of a program waits for what its pools do by themselves.
CLOSE_SECONDS: Final = 1.0
_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret"})
_HIDDEN = "***"
# Behind an @ or a / of a password that is not quoted libpq finds a host, and errors tell it.
_AMBIGUOUS = re.compile(r"postgres(?:ql)?://[^@/]*(?:@|/)[^?]*@")


def conninfo(dsn: str, *, name: str) -> str:
    """Return *dsn* with time-outs and an application name, where it says nothing of them.

    The encoding is UTF-8, whatever it says.

    Raises:
        ConfigError: It cannot be read; the message repeats nothing of it, for a password's sake.
    """
    if (character := text_fault(dsn)) is not None:  # of a NUL libpq would take what stands before
        msg = f"the DSN holds {character}"
        raise ConfigError(msg)
    given = _parsed(dsn)
    if given is None:
        msg = "the DSN cannot be read"
        hint = "postgresql://user@host:port/database or host=… dbname=…; quote @ / % & and spaces"
        raise ConfigError(msg, hint=hint)
    _check_hosts(given.get("host"))
    defaults = {**_TIMEOUTS, "application_name": name}
    return make_conninfo(dsn, **{k: v for k, v in defaults.items() if k not in given}, **_ALWAYS)


def _parsed(dsn: str) -> dict[str, Any] | None:
    """Return the parts of a DSN, None where it cannot be told which they are."""
    if _AMBIGUOUS.match(dsn) or text_fault(dsn) is not None:
        return None
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its message has the whole DSN
        return None


def _check_hosts(hosts: object) -> None:
    """Check what Python refuses of the name of a host by an error that is none of psycopg."""
    for host in str(hosts or "").split(","):
        if not host.startswith(("/", "@")):
            try:
                host.encode("idna")
            except UnicodeError as e:
                msg = f"the DSN names no host: {host}"
                raise ConfigError(msg, hint="a part between dots has 1 to 63 letters") from e


def without_password(dsn: str) -> str:
    """Return *dsn* as people may see it."""
    given = _parsed(dsn)
    if given is None:
        return "(it cannot be read)"
    return make_conninfo("", **{k: _HIDDEN if k in _SECRETS else v for k, v in given.items()})


def place_of(dsn: str) -> str:
    """Return which database a DSN means, in short: `orders on db`."""
    given = conninfo_to_dict(conninfo(dsn, name=""))
    return f"{given.get('dbname') or 'the database'} on {given.get('host') or 'this machine'}"


class AsyncPool(AsyncConnectionPool[psycopg.AsyncConnection[Any]]):
    """A pool in which no cancellation is lost.

    `asyncio.wait_for` of Python 3.11, by which a pool waits that is full or ends, forgets the
    cancellation where that and the end of the wait come in the same turn of the loop.

    It belongs to the event loop in which it was opened.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    async def open(self, wait: bool = False, timeout: float = 30.0) -> None:  # noqa: FBT001, FBT002 - the parent's
        """Open it, as the parent does."""
        self._loop = asyncio.get_running_loop()
        await super().open(wait, timeout)

    @classmethod
    async def worker(cls, q: AQueue[MaintenanceTask]) -> None:
        """Open connections, as the parent does, but end when cancelled.

        The parent takes a cancellation of what it does for an error of that and waits for more to
        do: `asyncio.run` would wait for ever where nobody has closed the pool.
        """
        await super().worker(_UntilCancelled(q))  # type: ignore[arg-type] # it only gets

    def _start_workers(self) -> None:
        self._sched._event = _Event()  # type: ignore[assignment] # noqa: SLF001 - none is taken from outside
        super()._start_workers()

    async def close(self, timeout: float = 5.0) -> None:
        """Close all connections, as the parent does."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        await super().close(timeout)
        if task and task.cancelling() > before:
            raise asyncio.CancelledError

    async def getconn(self, timeout: float | None = None) -> psycopg.AsyncConnection[Any]:
        """Take a connection, as the parent does; the caller puts it back.

        Raises:
            RuntimeError: Another event loop runs here.
        """
        check_loop(self._loop)
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        connection = await super().getconn(timeout)
        if task and task.cancelling() > before:
            await self.putconn(connection)
            raise asyncio.CancelledError
        return connection

    @asynccontextmanager
    async def connection(
        self, timeout: float | None = None
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend a connection; none to a standby stays, for the next may lead to a primary."""
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except psycopg.errors.ReadOnlySqlTransaction:
                await self.drain()
                raise


class _Event(asyncio.Event):
    """What wakes the scheduler of a pool, whose wait would forget a cancellation, too."""

    async def wait_timeout(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                return await self.wait()
        except TimeoutError:
            return False


class _UntilCancelled:
    """What a pool shall do, for a worker of its that may have been cancelled since."""

    def __init__(self, queue: AQueue[MaintenanceTask]) -> None:
        self._queue = queue

    async def get(self) -> MaintenanceTask:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise asyncio.CancelledError
        return await self._queue.get()


async def close_blocking(pool: ConnectionPool) -> None:
    """Close the pool of other threads, as far as that can be done in time.

    In a thread of its own: those of the event loop may all wait for a server that does not answer.
    """
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        pool.close(CLOSE_SECONDS)
        with suppress(RuntimeError):  # the loop is closed: nobody is interested
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, name="pgprog pool end", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(2 * CLOSE_SECONDS):
            await closed.wait()


@asynccontextmanager
async def connect(dsn: str, *, name: str = "pgprog") -> AsyncIterator[psycopg.AsyncConnection]:
    """Open one autocommit connection for as long as the block lasts.

    Raises:
        StoreUnavailable: The database cannot be reached.
    """
    connection = await open_connection(dsn, name=name)
    async with connection:
        yield connection


@contextmanager
def connect_blocking(dsn: str, *, name: str = "pgprog") -> Iterator[psycopg.Connection]:
    """Open one autocommit connection for programs without an event loop.

    PostgreSQL's errors in the block are translated.

    Raises:
        StoreUnavailable: The database cannot be reached.
    """
    with (
        translated_denials(),
        translated(),
        psycopg.connect(
            conninfo(dsn, name=name), autocommit=True, prepare_threshold=None
        ) as connection,
    ):
        yield connection


async def open_connection(
    dsn: str, *, name: str, encryption: Encryption | None = None
) -> psycopg.AsyncConnection:
    """Open one autocommit connection that speaks packed arrays; the caller closes it."""
    with translated():
        connection = await psycopg.AsyncConnection.connect(
            conninfo(dsn, name=name), autocommit=True
        )
    await _configure(connection, encryption=encryption)
    return connection


async def is_pooled(connection: psycopg.AsyncConnection) -> bool:
    """Return whether a pooler stands between: it has given us another session than the server has.

    LISTEN is lost there, and worse: what it makes a shared session hear piles up, unread, in
    whatever connection has that session when it comes.
    """
    with translated():
        cursor = await connection.execute("select pg_catalog.pg_backend_pid()")
        [[pid]] = await cursor.fetchall()
    return bool(pid != connection.info.backend_pid)


def make_pool(
    dsn: str,
    *,
    size: int,
    checkout_timeout: timedelta,
    name: str,
    encryption: Encryption | None = None,
) -> AsyncPool:
    """Return a closed pool of autocommit connections; the caller opens and closes it."""
    return AsyncPool(
        conninfo(dsn, name=name),
        min_size=1,
        max_size=size,
        timeout=checkout_timeout.total_seconds(),
        kwargs={"autocommit": True},
        configure=partial(_configure, encryption=encryption),
        reset=_leave,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
    )


def pool_samples(
    name: str, pool: AsyncConnectionPool | ConnectionPool | None, *, size: int
) -> list[Sample]:
    """Return what metrics show of a pool of so many connections, None before its first use."""
    stats = {} if pool is None else pool.get_stats()
    figures = {
        "pgprog_pool_max": size,
        "pgprog_pool_size": stats.get("pool_size", 0),
        "pgprog_pool_available": stats.get("pool_available", 0),
        "pgprog_pool_waiting": stats.get("requests_waiting", 0),
        "pgprog_pool_timeouts_total": stats.get("requests_errors", 0),
    }
    return [Sample(metric, (name,), float(value)) for metric, value in figures.items()]


async def _leave(_: psycopg.AsyncConnection) -> None:
    """Reset nothing: a pool that resets gives the return of a connection to a task of its own.

    Without, who is cancelled while it returns one takes it out of the pool for ever.
    """


async def _configure(connection: psycopg.AsyncConnection, *, encryption: Encryption | None) -> None:
    # A transaction pooler gives each statement another server: nothing may be prepared there.
    connection.prepare_threshold = None
    packing.register(connection, encryption=encryption)
