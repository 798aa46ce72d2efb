"""How values come out of the stream, by type: in binary, or as text where a type has no other form.

Both give the same Python value, and a stream may mix them.  The texts are those of a connection
with DateStyle ISO, TimeZone UTC, bytea_output hex and client_encoding UTF8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgprog.replication.messages import Value

Load: TypeAlias = Callable[[bytes], "Value"]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Microseconds from 1970 to 2000; and within 221 years a float of seconds holds each microsecond.
UNIX: Final = 946_684_800_000_000
EXACT: Final = 7_000_000_000_000_000
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_INT2 = Struct("!h").unpack
_INT4 = Struct("!i").unpack
_INT8 = Struct("!q").unpack
_UINT4 = Struct("!I").unpack
_UINT8 = Struct("!Q").unpack


@dataclass(frozen=True, slots=True)
class Loaders:
    """What makes a value of the bytes of a column, in either form."""

    binary: Load
    text: Load


def moment(microseconds: int) -> datetime:
    """Return the instant so many microseconds after the year 2000 began.

    What a datetime cannot hold, infinity and the years after 9999 and before 1, is its last and its
    first instant.
    """
    try:
        return _EPOCH + timedelta(0, 0, microseconds)
    except OverflowError:
        return _LATEST if microseconds > 0 else _EARLIEST


def _text_moment(data: bytes) -> datetime:
    text = data.decode()
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # infinity, five digits of a year, or BC
        return _EARLIEST if text.endswith("BC") or text.startswith("-") else _LATEST


def _jsonb(data: bytes) -> bytes:
    """Take the version of the binary form off, which has been 1 since there is jsonb."""
    if data[:1] != b"\x01":
        msg = f"jsonb of version {data[:1].hex()}"
        raise ValueError(msg)
    return data[1:]


_AS_IT_IS = Loaders(bytes, bytes)
_STRING = Loaders(bytes.decode, bytes.decode)

_BY_OID: Mapping[int, Loaders] = {
    16: Loaders(lambda data: data == b"\x01", lambda data: data == b"t"),  # bool
    17: Loaders(bytes, lambda data: bytes.fromhex(data[2:].decode())),  # bytea
    18: _STRING,  # "char"
    19: _STRING,  # name
    20: Loaders(lambda data: _INT8(data)[0], int),
    21: Loaders(lambda data: _INT2(data)[0], int),
    23: Loaders(lambda data: _INT4(data)[0], int),
    25: _STRING,  # text
    26: Loaders(lambda data: _UINT4(data)[0], int),  # oid
    114: _AS_IT_IS,  # json
    1043: _STRING,  # varchar
    1184: Loaders(lambda data: moment(_INT8(data)[0]), _text_moment),  # timestamptz
    2950: Loaders(lambda data: str(UUID(bytes=data)), bytes.decode),  # uuid
    3802: Loaders(_jsonb, bytes),
    5069: Loaders(lambda data: _UINT8(data)[0], int),  # xid8
}


def loaders(type_oid: int) -> Loaders:
    """Return how values of a type are loaded: as bytes, if it is none that is known here."""
    return _BY_OID.get(type_oid, _AS_IT_IS)


# What generated code does without a call: the binary forms of a fixed number of bytes, and of the
# others, as expressions of the data, of the position of their length and of the end.
FIXED: Final[Mapping[int, tuple[int, str]]] = {
    16: (1, "d[p+5]==1"),
    20: (8, "int8(d,p+5)[0]"),
    23: (4, "int4(d,p+5)[0]"),
    # Half of what adding a timedelta takes, which is the dearest thing in a row.
    1184: (
        8,
        f"stamp((n+{UNIX})/1e6,UTC) if {-EXACT}<(n:=int8(d,p+5)[0])<{EXACT} else moment(n)",
    ),
    5069: (8, "uint8(d,p+5)[0]"),
}
VARYING: Final[Mapping[int, str]] = {
    17: "d[p+5:q]",
    25: "d[p+5:q].decode()",
    3802: "d[p+6:q]",
}
