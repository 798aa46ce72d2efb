"""Decode the messages of `pgoutput`, protocol version 1; no I/O, no clock.

PostgreSQL manual, "Logical Replication Message Formats".  Nothing is decoded that a stream without
`streaming` and `two_phase` does not hold.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception, whatever its name
from typing import TYPE_CHECKING

from pgprog.errors import ReplicationLost
from pgprog.replication import messages as m
from pgprog.replication.rows import compile_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from pgprog.replication.rows import ReadLast, ReadRow

    _Make: TypeAlias = Callable[[m.Relation, m.Row], m.Insert | m.Update]

_BEGIN = Struct("!QqI").unpack_from
_COMMIT = Struct("!BQQq").unpack_from
_OID = Struct("!I").unpack_from
_SHORT = Struct("!H").unpack_from
_COLUMN = Struct("!Ii").unpack_from
_LSN = Struct("!Q").unpack_from
_LOGICAL = Struct("!BQ").unpack_from

_N = ord("N")
_OLD = b"KO"  # the key of the old row, or the whole of it
_LAYOUT = "it is not laid out as the protocol says"


class Decoder:
    """Makes messages of bytes, and remembers the tables that the stream has described.

    *columns* names the columns that are wanted of a table, `schema.name`, in the order in which its
    rows shall have them: the others are passed over, unread.  Rows of other tables are whole.
    """

    def __init__(self, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        self._columns = columns or {}
        # By the four bytes of the table's oid: no number need be made of them for each row.
        self._tables: dict[bytes, tuple[m.Relation, ReadRow]] = {}
        # What most messages are, new rows with no old one before them, by their first six bytes.
        self._new_rows: dict[bytes, tuple[_Make, m.Relation, ReadLast]] = {}
        self._decoders: dict[int, Callable[[bytes, int], m.Message]] = {
            ord("B"): _begin,
            ord("C"): _commit,
            ord("R"): self._relation,
            ord("I"): _unknown,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("T"): self._truncate,
            ord("Y"): _type_name,
            ord("O"): _origin,
            ord("M"): _logical_message,
        }

    def decode(self, data: bytes, start: int = 0) -> m.Message:
        """Return the message that *data* holds from *start* to its end.

        Raises:
            ReplicationLost: It is none of the protocol, is cut short, or is of a table that was
                not described; nothing of the stream can be trusted from there on.
        """
        try:
            if (known := self._new_rows.get(data[start : start + 6])) is not None:
                make, relation, read_last = known
                return make(relation, read_last(data, start + 6))
            return self._decoders[data[start]](data, start + 1)
        except (IndexError, KeyError, StructError, ValueError) as e:
            raise self._refusal(data[start:], e) from e

    def _refusal(self, data: bytes, error: Exception) -> ReplicationLost:
        if not data or data[0] not in self._decoders:
            msg = f"the stream holds a message that pgoutput 1 does not have: {data[:1]!r}"
        else:
            kind, why = chr(data[0]), f"{type(error).__name__}: {error}"
            msg = f"a message {kind} of {len(data)} bytes cannot be decoded: {why}"
        return ReplicationLost(msg)

    def _update(self, data: bytes, at: int) -> m.Update:
        """Read an update with its old row, or the old key."""
        relation, read_row = self._tables[data[at : at + 4]]
        old, middle = read_row(data, at + 5)
        new, end = read_row(data, middle + 1)
        if data[at + 4] not in _OLD or data[middle] != _N or end != len(data):
            raise ValueError(_LAYOUT)
        return m.Update(relation, old, new)

    def _delete(self, data: bytes, at: int) -> m.Delete:
        relation, read_row = self._tables[data[at : at + 4]]
        old, end = read_row(data, at + 5)
        if data[at + 4] not in _OLD or end != len(data):
            raise ValueError(_LAYOUT)
        return m.Delete(relation, old)

    def _truncate(self, data: bytes, at: int) -> m.Truncate:
        """Tell which tables are empty; whether by CASCADE, and what of sequences, is left out."""
        count, at = _OID(data, at)[0], at + 5
        if at + 4 * count != len(data):
            raise ValueError(_LAYOUT)
        oids = (data[place : place + 4] for place in range(at, len(data), 4))
        return m.Truncate(tuple(self._tables[oid][0] for oid in oids))

    def _relation(self, data: bytes, at: int) -> m.Relation:
        """Learn the shape of a table; it is told again after many things that do not change it."""
        oid = data[at : at + 4]
        schema, at = _text(data, at + 4)
        name, at = _text(data, at)
        count = _SHORT(data, at + 1)[0]  # behind the kind of replica identity
        columns, at = [], at + 3
        for _ in range(count):
            is_key = bool(data[at] & 1)
            column, at = _text(data, at + 1)
            type_oid, type_modifier = _COLUMN(data, at)
            columns.append(m.Column(column, type_oid, type_modifier, is_key))
            at += 8
        schema = schema or "pg_catalog"
        wanted = self._wanted(f"{schema}.{name}", [column.name for column in columns])
        shape = tuple(columns[place] for place in wanted)
        relation = m.Relation(int.from_bytes(oid), schema, name, shape)
        read_row, read_last = compile_row(tuple(column.type_oid for column in columns), wanted)
        self._tables[oid] = relation, read_row
        self._new_rows[b"I" + oid + b"N"] = m.Insert, relation, read_last
        self._new_rows[b"U" + oid + b"N"] = _updated, relation, read_last
        return relation

    def _wanted(self, table: str, present: list[str]) -> tuple[int, ...]:
        """Return the places of the columns that are wanted of *table*."""
        try:
            return tuple(present.index(name) for name in self._columns.get(table, present))
        except ValueError as e:
            msg = f"the stream lacks a column of {table}: {e}"
            raise ReplicationLost(msg, hint="run `pgprog db migrate --again`") from e


def _updated(relation: m.Relation, new: m.Row) -> m.Update:
    return m.Update(relation, None, new)


def _unknown(_data: bytes, _at: int) -> m.Message:
    msg = "a row of a table that was not described"
    raise ValueError(msg)


def _begin(data: bytes, at: int) -> m.Begin:
    commit_lsn, _committed_us, xid = _BEGIN(data, at)
    return m.Begin(commit_lsn, xid)


def _commit(data: bytes, at: int) -> m.Commit:
    _flags, commit_lsn, end_lsn, committed_us = _COMMIT(data, at)
    return m.Commit(commit_lsn, end_lsn, committed_us)


def _type_name(data: bytes, at: int) -> m.TypeName:
    oid = _OID(data, at)[0]
    schema, at = _text(data, at + 4)
    return m.TypeName(oid, schema or "pg_catalog", _text(data, at)[0])


def _origin(data: bytes, at: int) -> m.Origin:
    return m.Origin(_LSN(data, at)[0], _text(data, at + 8)[0])


def _logical_message(data: bytes, at: int) -> m.LogicalMessage:
    flags, lsn = _LOGICAL(data, at)
    prefix, at = _text(data, at + 9)
    length = _OID(data, at)[0]
    if at + 4 + length != len(data):
        raise ValueError(_LAYOUT)
    return m.LogicalMessage(bool(flags & 1), lsn, prefix, data[at + 4 :])


def _text(data: bytes, at: int) -> tuple[str, int]:
    """Return the text that ends at the next zero byte, and the position behind that."""
    end = data.index(0, at)
    return data[at:end].decode(), end + 1
