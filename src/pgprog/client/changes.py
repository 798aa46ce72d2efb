"""What is news to who follows the processes of a namespace; no clock and no database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pgprog.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pgprog.store.changes import WrittenProcess


class Changed(NamedTuple):
    """A process as it was found; *what* became of it, as far as the filter goes.

    *left* is one that was told of before and is in another status, *removed* one that is gone: it
    is told as it was last.
    """

    what: Literal["changed", "left", "removed"]
    process_id: str
    incarnation: int
    version: int
    status: str
    changed_at: datetime
    detail: str | None


class Reached(NamedTuple):
    """A place to go on from, in another program and after any time: all before it has been told.

    It is the id of the oldest transaction that may not have been told, and the history of the
    database in which that counts.
    """

    position: str


class Position(NamedTuple):
    """All transactions below *xid* have been told; ids count in one *history* of a database."""

    xid: int
    history: str

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that is written so.

        Raises:
            InvalidArgument: It was not written by `Position`.
        """
        if re.fullmatch(r"\d{1,18}@[0-9A-F]{1,8}\.\d{1,20}", text, re.ASCII) is None:
            msg = f"{text[:60]!r} is no position: it has the form XID@TIMELINE.CLUSTER"
            raise InvalidArgument(msg)
        xid, _, history = text.partition("@")
        return cls(int(xid), history)

    def __str__(self) -> str:
        return f"{self.xid}@{self.history}"


# Of what has left, for as long as the stream or a look may show it as it was before.
_MOST_PAST: Final = 10_000


class News:
    """Tells what is news: each version once, and none that is older than one told before.

    Versions of one process id grow through its incarnations.  It remembers the processes it has
    told of that are still in the filter, some 400 bytes each, and the versions of the last that
    are not: the stream and a look may each be behind the other.
    """

    def __init__(self, *, status: str | None, since: int) -> None:
        self.start = since
        self._status = status
        self._told: dict[str, Changed] = {}
        self._past: dict[str, int] = {}  # the version, by process id

    @property
    def told(self) -> Iterable[str]:
        """The ids of the processes that have been told of and are there still."""
        return self._told

    def tell_all_again(self) -> None:
        """Take every process for news, in whatever version: their ids and versions went back."""
        self.start = 0
        self._told = {each: told._replace(version=-1) for each, told in self._told.items()}
        self._past.clear()

    def of(self, row: WrittenProcess) -> Changed | None:
        """Return what to tell of a process that was found so."""
        before = self._told.get(row.process_id)
        if before is None and row.xid < self.start:
            return None  # who gave us the position was told of it
        newest = self._past.get(row.process_id, -1) if before is None else before.version
        if row.version <= newest:
            return None
        if self._status is None or row.status == self._status:
            self._past.pop(row.process_id, None)
            self._told[row.process_id] = found = Changed("changed", *row[:-1])
            return found
        if before is None:
            return None
        self._leave(row.process_id, row.version)
        return Changed("left", *row[:-1])

    def gone(self, process_id: str) -> Changed | None:
        """Return what to tell of a process that is not there any more."""
        if (before := self._told.get(process_id)) is None:
            return None
        self._leave(process_id, before.version)
        return before._replace(what="removed")

    def _leave(self, process_id: str, version: int) -> None:
        del self._told[process_id]
        self._past[process_id] = version
        if len(self._past) > _MOST_PAST:
            del self._past[next(iter(self._past))]
