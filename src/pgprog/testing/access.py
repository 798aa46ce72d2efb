"""What the step of a test may ask for: events, and the test's own connection."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from pgprog.model import Direction, Event

    # Gives what `Step.transaction` opens, as psycopg.connect does: left without an error it
    # commits, else it rolls back.  For async handlers: a coroutine that gives the async form.
    Connect = Callable[[], Any]


class Reading(Protocol):
    """Gives events of the step's process, in the order of *direction*."""

    def __call__(self, *, after: int | None, limit: int, direction: Direction) -> tuple[Event, ...]:
        """Return them."""
        ...


class Access:
    """What both colours share.

    *reached* is called at each boundary inside the handler: before and after it reads history or
    opens a transaction.  A test that kills steps raises there.
    """

    def __init__(
        self, read: Reading, *, connect: Connect | None, reached: Callable[[], None]
    ) -> None:
        self._events = read
        self._connect = connect
        self._reached = reached
        self._connection: Any = None
        self._blocks = 0

    def _opened(self) -> Any:  # noqa: ANN401 - the connection of the test
        if self._connect is None:
            msg = "the handler asked for step.transaction(), and the test gives no connection"
            raise ConfigError(msg, hint="give connect=, such as lambda: psycopg.connect(dsn)")
        return self._connect()

    def _read(self, *, after: int | None, limit: int, direction: Direction) -> tuple[Event, ...]:
        self._reached()
        return self._events(after=after, limit=limit, direction=direction)


class SyncAccess(Access):
    """For sync handlers."""

    def __init__(
        self, read: Reading, *, connect: Connect | None, reached: Callable[[], None]
    ) -> None:
        super().__init__(read, connect=connect, reached=reached)
        self._open = ExitStack()

    def history(self, *, after: int | None, limit: int, direction: Direction) -> tuple[Event, ...]:
        """Return events, as `Step.history` says."""
        return self._read(after=after, limit=limit, direction=direction)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Give the connection; a second block goes on with the same transaction.

        When the last of the blocks is left by an error, the transaction is undone.
        """
        self._reached()
        if self._connection is None:
            self._connection = self._open.enter_context(self._opened())
        self._blocks += 1
        try:
            yield self._connection
        except BaseException as e:
            if self._blocks == 1:
                self.settle(e)
            raise
        finally:
            self._blocks -= 1
        self._reached()

    def settle(self, error: BaseException | None) -> None:
        """Commit what was done on the connection, or undo it because of *error*."""
        self._connection = None
        self._open.__exit__(*_exit(error))


class AsyncAccess(Access):
    """For async handlers."""

    def __init__(
        self, read: Reading, *, connect: Connect | None, reached: Callable[[], None]
    ) -> None:
        super().__init__(read, connect=connect, reached=reached)
        self._open = AsyncExitStack()

    async def history(
        self, *, after: int | None, limit: int, direction: Direction
    ) -> tuple[Event, ...]:
        """Return events, as `Step.history` says."""
        return self._read(after=after, limit=limit, direction=direction)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Give the connection; a second block goes on with the same transaction.

        When the last of the blocks is left by an error, the transaction is undone.
        """
        self._reached()
        if self._connection is None:
            self._connection = await self._open.enter_async_context(await self._opened())
        self._blocks += 1
        try:
            yield self._connection
        except BaseException as e:
            if self._blocks == 1:
                await self.settle(e)
            raise
        finally:
            self._blocks -= 1
        self._reached()

    async def settle(self, error: BaseException | None) -> None:
        """Commit what was done on the connection, or undo it because of *error*."""
        self._connection = None
        await self._open.__aexit__(*_exit(error))


def _exit(
    error: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    """Return what the end of a `with` block is told."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)
