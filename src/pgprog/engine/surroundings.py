"""What the runner of steps needs of the parts around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pgprog.engine.access import OpenTransaction
    from pgprog.engine.holdings import Held
    from pgprog.store.rows import Completion


class Endings(Protocol):
    """Where steps go when their handlers have ended."""

    def add(self, held: Held, completion: Completion) -> None:
        """Commit the completion with the next batch."""
        ...

    async def commit(
        self, held: Held, completion: Completion, transaction: OpenTransaction
    ) -> None:
        """Commit it in a transaction of its own."""
        ...

    def give_back(self, held: Held) -> None:
        """Hand the claim back with no attempt burned: it was not the handler's fault."""
        ...

    def broke(self, held: Held) -> None:
        """Count a crash of a step that ended by an error which nobody foresaw, and let it go."""
        ...


class Reporter(Protocol):
    """The lease, as far as runs need it."""

    @property
    def worker_id(self) -> int:
        """The present incarnation of the worker."""
        ...

    def check(self) -> None:
        """Give the steps up if the lease is about to end."""
        ...

    async def report_begun(self) -> None:
        """Return when the database knows of all steps that have begun so far."""
        ...
