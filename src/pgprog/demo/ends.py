"""The ends of processes, asked of the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgprog.errors import PgprogError, ProcessExists
from pgprog.store.faults import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgprog.client import AsyncClient
    from pgprog.model import Request
    from pgprog.store.bound import AsyncConnection

_ENDED = frozenset({"finished", "error"})
# By the primary key: 3 ms for a thousand ids.
_STATUS = """
select p.process_id, p.status::text, p.detail
from pgprog.processes as p
where p.namespace = %(namespace)s and p.process_id = any(%(ids)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A process that has ended, or that has gone; *detail* says why it is in error."""

    process_id: str
    status: str
    detail: str | None = None

    @property
    def is_failure(self) -> bool:
        """Whether the process is in error."""
        return self.status == "error"


async def queue(client: AsyncClient, requests: Iterable[Request]) -> list[str]:
    """Queue inits, and return the ids of processes that there were already.

    Raises:
        PgprogError: One was refused for another reason; others may be queued.
    """
    asked = list(requests)
    known = []
    for request, outcome in zip(asked, await client.submit_many(asked), strict=True):
        if isinstance(outcome, ProcessExists):
            known.append(request.process_id)
        elif isinstance(outcome, PgprogError):
            raise outcome
    return known


async def fetch_ends(
    connection: AsyncConnection, namespace: str, process_ids: Sequence[str]
) -> list[End]:
    """Return which of the processes have ended.

    One that is not there was queued and said no, because its file had vanished: status `gone`.

    Raises:
        StoreUnavailable: The database cannot be reached.
    """
    parameters = {"namespace": namespace, "ids": list(process_ids)}
    with translated():
        found = await (await connection.execute(_STATUS, parameters)).fetchall()
    ends = [
        End(process_id=process_id, status=status, detail=detail)
        for process_id, status, detail in found
        if status in _ENDED
    ]
    there = {process_id for process_id, _, _ in found}
    gone = (process_id for process_id in process_ids if process_id not in there)
    return ends + [End(process_id=process_id, status="gone") for process_id in gone]
