"""What a handler may ask of the engine while it runs: history, and a transaction of its step."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pgprog.codec import Misfit
from pgprog.encryption import check_open
from pgprog.engine.events import events_of
from pgprog.errors import (
    InvalidArgument,
    LeaseLost,
    Overloaded,
    PermanentError,
    StoreUnavailable,
)
from pgprog.store.faults import is_overstayed
from pgprog.store.transactions import InThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from pgprog.model import Direction, Event
    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Claimed, Completed, Completion
    from pgprog.store.transactions import BlockingTransaction, StepTransaction, StepTransactions

_MOST_EVENTS = 100_000
# Of the time that a step has left: who finds no connection free must not be called too slow.
_PATIENT_SHARE = 0.8


class OpenTransaction(Protocol):
    """A transaction that waits for the end of its step."""

    async def complete(self, worker_id: int, completion: Completion, *, chain: bool) -> Completed:
        """End the step in it; nothing is committed yet."""
        ...

    async def commit(self) -> None:
        """Commit all."""
        ...

    async def rollback(self) -> None:
        """Undo all."""
        ...


class Access:
    """What both colours share; a step uses one of the two below.

    *is_interrupted* says that the engine, and not the handler, is to blame for what the handler
    raised: the database was gone, or no connection was free.
    """

    def __init__(
        self,
        claimed: Claimed,
        *,
        namespace: Namespace[Any],
        store: EngineStore,
        transactions: StepTransactions,
    ) -> None:
        self.is_interrupted = False
        self._claimed = claimed
        self._store = store
        self._transactions = transactions
        self._namespace = namespace
        self._seconds = namespace.settings.step_timeout.total_seconds()
        self._is_closed = False

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the time of the step begin; *loop* is the engine's."""
        self._loop = loop
        self._ends_at = loop.time() + self._seconds

    def close(self) -> None:
        """Refuse everything from here: the step is over, though its thread may still run."""
        self._is_closed = True

    def open_transaction(self) -> OpenTransaction | None:
        """Return the transaction that waits for the end of the step, if there is one."""
        raise NotImplementedError

    def _patience(self) -> timedelta:
        """Return how long the step may wait for a connection."""
        return timedelta(seconds=_PATIENT_SHARE * max(0.0, self._ends_at - self._loop.time()))

    def _check_open(self) -> None:
        if self._is_closed:
            msg = f"the step of task {self._claimed.task_id} is over"
            raise LeaseLost(msg)

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Note where the engine is to blame."""
        try:
            yield
        except (StoreUnavailable, Overloaded):
            self.is_interrupted = True
            raise

    def _judge(
        self, error: BaseException, transaction: StepTransaction | BlockingTransaction
    ) -> None:
        """Note whether the engine is to blame for what leaves a block of *transaction*.

        It may be for a read inside that failed, while the transaction is well.  It is not for a
        transaction that PostgreSQL ended for its length: it would be as long the next time.
        """
        is_ours = self.is_interrupted and isinstance(error, StoreUnavailable | Overloaded)
        is_cut = transaction.is_lost and not is_overstayed(error)
        self.is_interrupted = is_ours or is_cut

    def _preloaded(
        self, *, after: int | None, limit: int, direction: Direction
    ) -> tuple[Event, ...] | None:
        """Return events that came with the step, None where the database has to be asked."""
        self._check_open()
        if not 0 <= limit <= _MOST_EVENTS:
            msg = f"limit is {limit}, 0 to {_MOST_EVENTS} are allowed"
            raise InvalidArgument(msg)
        window = self._claimed.window
        if window is None or direction not in ("forward", "backward"):
            return None
        rows = window.read(after=after, limit=limit, direction=direction)
        return None if rows is None else self._events_of(rows)

    async def _read(
        self, *, after: int | None, limit: int, direction: Direction
    ) -> tuple[Event, ...]:
        with self._blaming():
            rows = await self._store.history(
                self._claimed, after=after, max_events=limit, direction=direction
            )
        return self._events_of(rows)

    def _events_of(self, rows: Iterable[Any]) -> tuple[Event, ...]:
        try:
            return events_of(map(_opened, rows), namespace=self._namespace)
        except Misfit as e:  # of args it would be a rejection
            msg = f"the history of process {self._claimed.process_id} cannot be read: {e}"
            raise PermanentError(msg, code="Misfit") from e


def _opened(row: Any) -> Any:  # noqa: ANN401 - a row of pgprog_engine.history
    """Return an event, if it could be opened.

    Raises:
        Misfit: It is sealed under a key that is not here.
    """
    event_id, _, _, payload, metadata, _ = row
    for raw in (payload, metadata):
        check_open(raw, what=f"event {event_id}")
    return row


class AsyncAccess(Access):
    """For async handlers."""

    _transaction: StepTransaction | None = None
    _beginning: asyncio.Lock | None = None

    def open_transaction(self) -> StepTransaction | None:
        """Return the transaction that waits for the end of the step."""
        return self._transaction

    async def history(
        self, *, after: int | None, limit: int, direction: Direction
    ) -> tuple[Event, ...]:
        """Return events, as `Step.history` says."""
        found = self._preloaded(after=after, limit=limit, direction=direction)
        if found is not None:
            return found
        return await self._read(after=after, limit=limit, direction=direction)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Give the connection; a second block of a step goes on with the same transaction.

        Blocks may be inside each other, or run at once; when the last of them is left by an
        error, the transaction is undone.
        """
        self._check_open()
        self._beginning = self._beginning or asyncio.Lock()
        async with self._beginning:
            if self._transaction is None:
                with self._blaming():
                    begun = await self._transactions.begin(patience=self._patience())
                if self._is_closed:  # meanwhile: nobody else would end it
                    await asyncio.shield(begun.rollback())
                    self._check_open()
                self._transaction = begun
            transaction = self._transaction
            transaction.blocks += 1
        try:
            yield transaction.connection
        except BaseException as e:
            self._judge(e, transaction)
            transaction.blocks -= 1
            if not transaction.blocks:
                self._transaction = None
                await asyncio.shield(transaction.rollback())
            raise
        else:
            transaction.blocks -= 1


class SyncAccess(Access):
    """For sync handlers, whose threads wait for the loop."""

    _transaction: BlockingTransaction | None = None

    def open_transaction(self) -> InThread | None:
        """Return the transaction that waits for the end of the step."""
        return None if self._transaction is None else InThread(self._transaction)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the time of the step begin; *loop* reads for the handler's thread."""
        super().begin(loop)
        self._beginning = threading.Lock()

    def history(self, *, after: int | None, limit: int, direction: Direction) -> tuple[Event, ...]:
        """Return events, as `Step.history` says."""
        found = self._preloaded(after=after, limit=limit, direction=direction)
        if found is not None:
            return found
        reading = self._read(after=after, limit=limit, direction=direction)
        return asyncio.run_coroutine_threadsafe(reading, self._loop).result()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Give the connection; a second block of a step goes on with the same transaction.

        Blocks may be inside each other, or run at once; when the last of them is left by an
        error, the transaction is undone.
        """
        self._check_open()
        with self._beginning:
            if self._transaction is None:
                with self._blaming():
                    begun = self._transactions.begin_blocking(patience=self._patience())
                if self._is_closed:  # meanwhile: nobody else might end it
                    begun.rollback()
                    self._check_open()
                self._transaction = begun
            transaction = self._transaction
            transaction.blocks += 1
        try:
            yield transaction.connection
        except BaseException as e:
            self._judge(e, transaction)
            transaction.blocks -= 1
            if not transaction.blocks:
                self._transaction = None
                transaction.rollback()
            raise
        else:
            transaction.blocks -= 1
