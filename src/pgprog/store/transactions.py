"""Transactions in which a handler works and its step ends, in one commit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import psycopg
from psycopg import AsyncCursor, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool

from pgprog.errors import InvalidArgument, PgprogError, StoreUnavailable
from pgprog.store import completions, packing
from pgprog.store.faults import Unreachable, idling_rolls_back, translated
from pgprog.store.pool import (
    CLOSE_SECONDS,
    RECONNECT_SECONDS,
    AsyncPool,
    close_blocking,
    conninfo,
    pool_samples,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from psycopg.pq.abc import PGconn

    from pgprog.encryption import Encryption
    from pgprog.metrics import Sample
    from pgprog.store.rows import Completed, Completion

C = TypeVar("C", bound=psycopg.AsyncConnection | psycopg.Connection)
P = TypeVar("P")

_BEGIN = "begin isolation level read committed"
# The worker's row is locked from here to the commit, and no collector can end the worker: when it
# stands still for a lease, PostgreSQL ends the session.
_WITHIN = "set_config('idle_in_transaction_session_timeout', %s, true)"
_COMPLETE: Final = f"select c.* from {_WITHIN}, ({completions.COMPLETE}) as c"  # noqa: S608
# `discard all` without `discard plans`: to plan the engine's functions anew for each step costs
# PostgreSQL more than all the rest of it.
_RESET: Final = """
close all; set session authorization default; reset all; deallocate all; unlisten *;
select pg_advisory_unlock_all(); discard temp; discard sequences
"""
_CONNECTION = {"autocommit": True, "prepare_threshold": None}


class StepTransactions:
    """Two bounded pools: for async handlers, and for sync ones, which block their thread.

    Neither holds a connection before its first transaction.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: int,
        lease: timedelta,
        name: str,
        encryption: Encryption | None = None,
    ) -> None:
        self._encryption = encryption
        self._conninfo = conninfo(dsn, name=f"{name} transaction")
        self._size = size
        self._lease = lease
        self._pool: AsyncPool | None = None
        self._blocking_pool: ConnectionPool | None = None
        self._making = threading.Lock()

    def samples(self) -> list[Sample]:
        """Return what metrics show of the pools; any thread may ask."""
        blocking = pool_samples("transactions_sync", self._blocking_pool, size=self._size)
        return [*pool_samples("transactions", self._pool, size=self._size), *blocking]

    async def begin(self, *, patience: timedelta) -> StepTransaction:
        """Begin a transaction for an async handler.

        Raises:
            Overloaded: No connection was free within *patience*.
            StoreUnavailable: There is no database.
        """
        if self._pool is None:
            self._pool = AsyncPool(
                self._conninfo,
                min_size=0,
                max_size=self._size,
                kwargs=_CONNECTION,
                reset=_reset,
                reconnect_timeout=RECONNECT_SECONDS,
                open=False,
            )
            await self._pool.open()
        with translated():
            connection = await self._pool.getconn(patience.total_seconds())
            try:
                await connection.execute(_BEGIN)
            except BaseException:
                await self._pool.putconn(connection)
                raise
        return StepTransaction(
            connection, self._pool, lease=self._lease, encryption=self._encryption
        )

    def begin_blocking(self, *, patience: timedelta) -> BlockingTransaction:
        """Begin one for a sync handler, in its thread; raises as `begin` does."""
        with self._making:
            if self._blocking_pool is None:
                self._blocking_pool = ConnectionPool(
                    self._conninfo,
                    min_size=0,
                    max_size=self._size,
                    kwargs=_CONNECTION,
                    reset=_reset_blocking,
                    reconnect_timeout=RECONNECT_SECONDS,
                    open=True,
                )
        with translated():
            connection = self._blocking_pool.getconn(patience.total_seconds())
            try:
                connection.execute(_BEGIN)
            except BaseException:
                self._blocking_pool.putconn(connection)
                raise
        return BlockingTransaction(
            connection, self._blocking_pool, lease=self._lease, encryption=self._encryption
        )

    async def close(self) -> None:
        """Close both pools; open transactions are rolled back."""
        ends = [] if self._pool is None else [self._pool.close(CLOSE_SECONDS)]
        if self._blocking_pool is not None:
            ends.append(close_blocking(self._blocking_pool))
        await asyncio.gather(*ends)


class _Transaction(Generic[C, P]):
    """What both colours share: an open transaction, ended once, by `commit` or by `rollback`.

    *blocks* is how many blocks of the handler are inside it; those that are still when it ends find
    its connection closed, for no other step may have it then.  Between `complete` and `commit` it
    may stand still for a *lease* at most; then nothing will be committed.
    """

    def __init__(
        self,
        connection: C,
        pool: P,
        *,
        lease: timedelta,
        encryption: Encryption | None,
    ) -> None:
        self._encryption = encryption
        self.connection = connection
        self.blocks = 0
        self._is_over = False
        self._pool = pool
        self._lease = lease

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, and the transaction with it."""
        return self.connection.closed

    def _parameters(
        self, worker_id: int, completion: Completion, *, chain: bool
    ) -> tuple[object, ...]:
        """Return those of the statement that ends the step, which can end in this transaction.

        Raises:
            InvalidArgument: The handler ended the transaction by itself, or left it failed.
        """
        _check_open(self.connection.pgconn)
        parameters = completions.parameters(
            worker_id, [completion], chains=[chain], encryption=self._encryption
        )
        return (_milliseconds(self._lease), *parameters)


class StepTransaction(_Transaction[psycopg.AsyncConnection, AsyncPool]):
    """One for an async handler."""

    async def complete(self, worker_id: int, completion: Completion, *, chain: bool) -> Completed:
        """End the step in this transaction; nothing is committed yet.

        Raises:
            InvalidArgument: The handler ended the transaction by itself, left it failed, or as
                no step can end in it: read-only, or under a role without rights.
            DataFault, RolledBack, StoreUnavailable: Nothing will be committed.
        """
        values = self._parameters(worker_id, completion, chain=chain)
        with _refused():
            # The connection's own factories are the handler's.
            async with AsyncCursor(self.connection, row_factory=tuple_row) as cursor:
                packing.register(cursor, encryption=self._encryption)
                await cursor.execute(_COMPLETE, values, binary=True)
                [completed] = completions.results([completion], await cursor.fetchall())
        return completed

    async def commit(self) -> None:
        """Commit all.

        Raises:
            DataFault, InvalidArgument: A deferred constraint or trigger refused it; nothing was
                committed.
            RolledBack: Nothing was; the worker may have stood still for a lease since `complete`.
            StoreUnavailable: The outcome is unknown.
        """
        self._is_over = True
        try:
            with _refused_at_commit(), idling_rolls_back():
                await self.connection.execute("commit")
        finally:
            await self._end()

    async def rollback(self) -> None:
        """Undo all; never fails, for a connection that is gone has nothing to undo.

        For a block that was left behind when it ended, there is nothing to undo either.
        """
        if self._is_over:
            return
        self._is_over = True
        try:
            with contextlib.suppress(psycopg.Error):
                await self.connection.execute("rollback")
        finally:
            await self._end()

    async def _end(self) -> None:
        if self.blocks:
            await self.connection.close()
        await self._pool.putconn(self.connection)


class BlockingTransaction(_Transaction[psycopg.Connection, ConnectionPool]):
    """The same for the thread of a sync handler, and any thread after it."""

    def complete(self, worker_id: int, completion: Completion, *, chain: bool) -> Completed:
        """End the step in this transaction, as `StepTransaction.complete` does."""
        values = self._parameters(worker_id, completion, chain=chain)
        with _refused(), Cursor(self.connection, row_factory=tuple_row) as cursor:
            packing.register(cursor, encryption=self._encryption)
            cursor.execute(_COMPLETE, values, binary=True)
            [completed] = completions.results([completion], cursor.fetchall())
        return completed

    def commit(self) -> None:
        """Commit all; raises as `StepTransaction.commit` does."""
        self._is_over = True
        try:
            with _refused_at_commit(), idling_rolls_back():
                self.connection.execute("commit")
        finally:
            self._end()

    def rollback(self) -> None:
        """Undo all; never fails."""
        if self._is_over:
            return
        self._is_over = True
        try:
            with contextlib.suppress(psycopg.Error):
                self.connection.execute("rollback")
        finally:
            self._end()

    def _end(self) -> None:
        if self.blocks:
            self.connection.close()
        self._pool.putconn(self.connection)


class InThread:
    """A blocking transaction for the engine's loop, which never blocks."""

    def __init__(self, transaction: BlockingTransaction) -> None:
        self._transaction = transaction

    async def complete(self, worker_id: int, completion: Completion, *, chain: bool) -> Completed:
        """End the step in it, in a thread."""
        return await asyncio.to_thread(
            self._transaction.complete, worker_id, completion, chain=chain
        )

    async def commit(self) -> None:
        """Commit all, in a thread."""
        await asyncio.to_thread(self._transaction.commit)

    async def rollback(self) -> None:
        """Undo all, in a thread."""
        await asyncio.to_thread(self._transaction.rollback)


async def _reset(connection: psycopg.AsyncConnection) -> None:
    """Leave nothing of a handler's on its connection: settings, role, locks, row factory."""
    connection.row_factory = tuple_row
    connection.cursor_factory = AsyncCursor
    await connection.execute(_RESET)


def _reset_blocking(connection: psycopg.Connection) -> None:
    connection.row_factory = tuple_row
    connection.cursor_factory = Cursor
    connection.execute(_RESET)


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration.total_seconds() * 1000))


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Translate errors; what is none of pgprog's comes of what the handler did before."""
    try:
        with translated():
            yield
    except (psycopg.Error, Unreachable) as e:  # it was made read-only
        msg = f"the step cannot end in the transaction as its handler left it: {e}"
        raise InvalidArgument(msg) from e


@contextlib.contextmanager
def _refused_at_commit() -> Iterator[None]:
    """Translate errors; one that is pgprog's own comes of what a deferred trigger asked for."""
    try:
        with _refused():
            yield
    except (InvalidArgument, StoreUnavailable):
        raise
    except PgprogError as e:
        msg = f"a deferred trigger failed: {e}"
        raise InvalidArgument(msg, hint=e.hint) from e


def _check_open(pgconn: PGconn) -> None:
    status = TransactionStatus(pgconn.transaction_status)
    if status is TransactionStatus.INERROR:
        msg = "the transaction of the step failed, and the handler went on as if it had not"
        raise InvalidArgument(msg, hint="let the error out of the handler, or use a savepoint")
    if status is TransactionStatus.IDLE:
        msg = "the handler ended the transaction of the step by itself"
        raise InvalidArgument(msg, hint="leave commit and rollback to the engine")
