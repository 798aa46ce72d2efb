"""Write messages as pgoutput does, for tests of what reads them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TABLE = 16385
TEXT, INT8, BYTEA, JSONB, TIMESTAMPTZ = 25, 20, 17, 3802, 1184
COLUMNS = [("namespace", TEXT), ("process_id", TEXT), ("version", INT8), ("state", JSONB)]

# What stands for a value: bytes in binary, a str as text, None as NULL, ... as unchanged.
Wired = object


def relation(
    columns: Sequence[tuple[str, int]] = COLUMNS,
    *,
    oid: int = TABLE,
    schema: str = "pgprog_data",
    name: str = "processes",
) -> bytes:
    head = b"R" + struct.pack("!I", oid) + schema.encode() + b"\0" + name.encode() + b"\0d"
    parts = [
        bytes([place < 2]) + column.encode() + b"\0" + struct.pack("!Ii", type_oid, -1)
        for place, (column, type_oid) in enumerate(columns)
    ]
    return head + struct.pack("!H", len(columns)) + b"".join(parts)


def row(values: Sequence[Wired]) -> bytes:
    return struct.pack("!H", len(values)) + b"".join(map(_value, values))


def insert(values: Sequence[Wired], *, oid: int = TABLE) -> bytes:
    return b"I" + struct.pack("!I", oid) + b"N" + row(values)


def update(values: Sequence[Wired], *, old: Sequence[Wired] | None = None) -> bytes:
    key = b"" if old is None else b"K" + row(old)
    return b"U" + struct.pack("!I", TABLE) + key + b"N" + row(values)


def delete(values: Sequence[Wired]) -> bytes:
    return b"D" + struct.pack("!I", TABLE) + b"K" + row(values)


def truncate(oids: Sequence[int]) -> bytes:
    return b"T" + struct.pack(f"!IB{len(oids)}I", len(oids), 0, *oids)


def begin(xid: int) -> bytes:
    return b"B" + struct.pack("!QqI", 8 * xid, 0, xid)


def commit(xid: int) -> bytes:
    return b"C" + struct.pack("!BQQq", 0, 8 * xid, 8 * xid + 1, 1_000_000)


def transaction(xid: int, changes: Iterable[bytes]) -> list[bytes]:
    return [begin(xid), *changes, commit(xid)]


def int8(number: int) -> bytes:
    return struct.pack("!q", number)


def jsonb(text: str) -> bytes:
    return b"\x01" + text.encode()


def _value(value: Wired) -> bytes:
    match value:
        case None:
            return b"n"
        case bytes():
            return b"b" + struct.pack("!I", len(value)) + value
        case str():
            return b"t" + struct.pack("!I", len(value.encode())) + value.encode()
        case _:
            return b"u"
