"""Tasks that were asked for and whose end may be waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pgprog.client.answers import response_of
from pgprog.codec import Codec

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.model import TaskId
    from pgprog.store.rows import Ended

_PLAIN: Codec[Any] = Codec()


class Waiter(Protocol):
    """What waits for tasks: a client."""

    async def wait_ended(
        self,
        task_id: int,
        *,
        timeout: float | timedelta | None = None,
    ) -> Ended:
        """Return the end of a task."""
        ...


class AsyncTask:
    """A task that is queued for sure; *version* is that of its process after it has ended."""

    def __init__(self, waiter: Waiter, task_id: TaskId) -> None:
        self.task_id = task_id
        self.version: int | None = None
        self._waiter = waiter

    def __repr__(self) -> str:
        return f"<task {self.task_id}>"

    async def wait(
        self,
        *,
        timeout: float | timedelta | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of the task; it may be waited for again, by anybody.

        Raises:
            CallTimeout: It has not ended within *timeout* (30 s); the task goes on.
            PgprogError: What it ended with, as for `AsyncClient.call`.
        """
        ended = await self._waiter.wait_ended(self.task_id, timeout=timeout)
        self.version = ended.version
        return _PLAIN.decode(response_of(ended))
