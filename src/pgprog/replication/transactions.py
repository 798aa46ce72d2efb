"""Put the messages of a stream together: each transaction at once, when it has been read whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgprog.errors import ReplicationLost
from pgprog.replication import messages as m

if TYPE_CHECKING:
    from pgprog.replication.pgoutput import Decoder


# What a change takes in memory beyond its bytes on the wire, as tracemalloc tells: a row of the
# queue 150, of events 240, of processes 500.
_CHANGE_BYTES: Final = 500


class Assembler:
    """Makes transactions of what *decoder* reads.

    Of a transaction that takes more than *max_bytes* of memory nothing is kept but that it was
    there.  *told* is the position up to which everything was returned.
    """

    def __init__(self, decoder: Decoder, *, max_bytes: int) -> None:
        self.told = 0
        self._decode = decoder.decode
        self._max_bytes = max_bytes
        self._shapes: dict[tuple[str, str], m.Relation] = {}
        self._begin: m.Begin | None = None
        self._changes: list[m.Change] = []
        self._size = 0  # on the wire
        self._besides = 0  # what its changes take beyond that

    def take(self, data: bytes, start: int = 0) -> m.Transaction | m.Oversized | m.Progress | None:
        """Take one message of pgoutput, and return what it completes.

        Raises:
            ReplicationLost: It cannot be decoded, or does not follow what came before.
        """
        message = self._decode(data, start)
        self._size += len(data) - start
        # The commonest first, and by `is`: see `messages`.
        if type(message) is m.Update or type(message) is m.Insert:
            self._add(message)
        elif type(message) is m.Begin:
            self._start(message)
        elif type(message) is m.Commit:
            return self._finish(message)
        elif type(message) is m.Delete or type(message) is m.Truncate:
            self._add(message)
        elif type(message) is m.Relation:
            self._describe(message)
        return None  # names of types, origins and messages tell nothing of tables

    def progress(self, lsn: int) -> m.Progress | None:
        """Return that everything up to *lsn* was told, unless that is no news or not so yet."""
        if self._begin or lsn <= self.told:
            return None
        self.told = lsn
        return m.Progress(lsn)

    def _start(self, begin: m.Begin) -> None:
        if self._begin:
            msg = f"transaction {begin.xid} begins within {self._begin.xid}"
            raise ReplicationLost(msg)
        self._begin, self._size, self._besides = begin, 0, 0

    def _add(self, change: m.Change) -> None:
        if not self._begin:
            msg = f"the stream has a change outside of a transaction: {type(change).__name__}"
            raise ReplicationLost(msg)
        self._changes.append(change)
        self._besides += _CHANGE_BYTES
        if self._size + self._besides > self._max_bytes:
            self._changes.clear()

    def _describe(self, relation: m.Relation) -> None:
        """Tell a new shape of a table; the first is none, nothing was told of the table before.

        Another key ends the stream: whether it names the rows is looked at when one is opened.
        """
        key = relation.schema, relation.name
        before = self._shapes.get(key, relation)
        if _key_of(before) != _key_of(relation):
            msg = f"the replica identity of {relation.schema}.{relation.name} was altered"
            raise ReplicationLost(msg)
        if before != relation:
            self._add(m.Reshaped(relation))
        self._shapes[key] = relation

    def _finish(self, commit: m.Commit) -> m.Transaction | m.Oversized | m.Progress:
        if not self._begin:
            msg = "the stream has the end of a transaction that it did not begin"
            raise ReplicationLost(msg)
        xid, self._begin = self._begin.xid, None
        self.told = commit.end_lsn
        changes, self._changes = tuple(self._changes), []
        if self._size + self._besides > self._max_bytes:
            return m.Oversized(xid, commit.end_lsn, self._size)
        if not changes:
            return m.Progress(commit.end_lsn)
        return m.Transaction(xid, commit.end_lsn, commit.committed_us, changes, self._size)


def _key_of(relation: m.Relation) -> set[str]:
    return {column.name for column in relation.columns if column.is_key}
