"""Tasks that were asked for and whose end may be waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pgprog.client.answers import response_of
from pgprog.codec import Codec
from pgprog.current import current
from pgprog.errors import InvalidArgument

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.model import TaskId
    from pgprog.store.rows import Ended

_PLAIN: Codec[Any] = Codec()


def check_not_current(namespace: str, process_id: str) -> None:
    """Check that nobody waits, inside a step, for the process of that step.

    Raises:
        InvalidArgument: It would wait for itself.
    """
    task = current.get().task
    if task is not None and (task.namespace, task.process_id) == (namespace, process_id):
        msg = f"a step of process {process_id} cannot wait for an answer of its own process"
        raise InvalidArgument(msg, hint="submit without waiting, or set a timer due at once")


class Waiter(Protocol):
    """What waits for tasks: a client."""

    async def end_of(
        self,
        task_id: int,
        *,
        process: tuple[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Ended:
        """Return the end of a task that exists, of *process* if that is known."""
        ...


class AsyncTask:
    """A task that is queued for sure; *version* is that of its process after it has ended."""

    __slots__ = ("_process", "_waiter", "task_id", "version")

    def __init__(self, waiter: Waiter, task_id: TaskId, *, process: tuple[str, str]) -> None:
        self.task_id = task_id
        self.version: int | None = None
        self._waiter = waiter
        self._process = process

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
            InvalidArgument: A step waits for its own process, which is busy with that step.
            PgprogError: What it ended with, as for `AsyncClient.call`.
        """
        check_not_current(*self._process)
        ended = await self._waiter.end_of(self.task_id, process=self._process, timeout=timeout)
        self.version = ended.version
        return _PLAIN.decode(response_of(ended))
