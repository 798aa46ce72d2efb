"""Arrays packed by hand into PostgreSQL's binary format, and jsonb as bytes.

psycopg's own arrays would be the greater part of what Python spends on a task of the hot path.
The layout is that of array_send: number of dimensions, has-nulls flag, element type, then length
and lower bound of the one dimension, then each element behind its length, -1 for null.
jsonb travels as a version byte 1 and its text.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import repeat
from operator import add
from typing import TYPE_CHECKING, TypeVar

from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg.abc import AdaptContext

    from pgprog.encryption import Encryption

_HEADER = struct.Struct("!iiIii")  # dimensions, has nulls, element type, length, lower bound
_EMPTY = struct.Struct("!iiI")
_LENGTH = struct.Struct("!i")
_NULL = _LENGTH.pack(-1)
_JSON = struct.Struct("!ib")
# An element with its length.
_int4 = partial(struct.Struct("!ii").pack, 4)
_int8 = partial(struct.Struct("!iq").pack, 8)
_TRUE = b"\x00\x00\x00\x01\x01"
_FALSE = b"\x00\x00\x00\x01\x00"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

T = TypeVar("T")

_BOOL, _INT8_OID, _INT4_OID, _TEXT, _TIMESTAMPTZ, _JSONB = 16, 20, 23, 25, 1184, 3802


class PackedArray(bytes):
    """The binary form of a one-dimensional array; a subclass for each element type."""

    __slots__ = ()


class Bigints(PackedArray):
    """A packed bigint[]."""


class Integers(PackedArray):
    """A packed integer[]."""


class Booleans(PackedArray):
    """A packed boolean[]."""


class Texts(PackedArray):
    """A packed text[]."""


class Jsonbs(PackedArray):
    """A packed jsonb[]."""


class Instants(PackedArray):
    """A packed timestamptz[]."""


def bigints(values: Sequence[int | None]) -> Bigints:
    """Pack integers of 64 bits."""
    return Bigints(_pack(_INT8_OID, values, partial(map, _int8)))


def integers(values: Sequence[int | None]) -> Integers:
    """Pack integers of 32 bits."""
    return Integers(_pack(_INT4_OID, values, partial(map, _int4)))


def booleans(values: Sequence[bool | None]) -> Booleans:
    """Pack truth values."""
    return Booleans(_pack(_BOOL, values, partial(map, (_FALSE, _TRUE).__getitem__)))


def texts(values: Sequence[str | None]) -> Texts:
    """Pack texts; the server has UTF8 on the wire."""
    return Texts(_pack(_TEXT, values, _texts))


def jsonbs(values: Sequence[bytes | None]) -> Jsonbs:
    """Pack JSON texts, which `pgprog.codec` has checked."""
    return Jsonbs(_pack(_JSONB, values, _jsonbs))


def instants(values: Sequence[datetime | None]) -> Instants:
    """Pack aware times, by the microsecond."""
    return Instants(_pack(_TIMESTAMPTZ, values, partial(map, _instant)))


# Whole columns at once, by functions of C: one of Python for each element would double their price.
def _texts(values: Sequence[str]) -> Iterable[bytes]:
    encoded = [*map(str.encode, values)]
    return map(add, map(_LENGTH.pack, map(len, encoded)), encoded)


def _jsonbs(values: Sequence[bytes]) -> Iterable[bytes]:
    lengths = map(len, values)
    return map(add, map(_JSON.pack, map(add, lengths, repeat(1)), repeat(1)), values)


def _instant(value: datetime) -> bytes:
    return _int8((value - _EPOCH) // _MICROSECOND)


def _pack(
    oid: int, values: Sequence[T | None], elements: Callable[[Sequence[T]], Iterable[bytes]]
) -> bytes:
    if not values:
        return _EMPTY.pack(0, 0, oid)
    if len(values) == 1:  # as of every lone task
        [value] = values
        packed = _NULL if value is None else b"".join(elements([value]))
        return _HEADER.pack(1, value is None, oid, 1, 1) + packed
    # Most columns of a batch hold one value: types, namespaces, names, keys.
    times = values.count(values[0])
    distinct = values if times < len(values) else values[:1]
    there = [value for value in distinct if value is not None]
    parts = elements(there)
    has_nulls = len(there) < len(distinct)
    if has_nulls:
        each = iter(parts)
        parts = [_NULL if value is None else next(each) for value in distinct]
    packed = b"".join(parts) * (len(values) // len(distinct))
    return _HEADER.pack(1, has_nulls, oid, len(values), 1) + packed


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PackedArray) -> Buffer:
        return obj


class _BigintsDumper(_PackedDumper):
    oid = 1016


class _IntegersDumper(_PackedDumper):
    oid = 1007


class _BooleansDumper(_PackedDumper):
    oid = 1000


class _TextsDumper(_PackedDumper):
    oid = 1009


class _JsonbsDumper(_PackedDumper):
    oid = 3807


class _InstantsDumper(_PackedDumper):
    oid = 1185


class _RawJsonLoader(Loader):
    """Load jsonb as the bytes of its text; who needs the value decodes it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]


def register(context: AdaptContext, *, encryption: Encryption | None = None) -> None:
    """Make a connection send packed arrays, and give jsonb of binary results as bytes.

    What is sealed in them is opened, as far as *encryption* has the keys.
    """
    adapters = context.adapters
    adapters.register_dumper(Bigints, _BigintsDumper)
    adapters.register_dumper(Integers, _IntegersDumper)
    adapters.register_dumper(Booleans, _BooleansDumper)
    adapters.register_dumper(Texts, _TextsDumper)
    adapters.register_dumper(Jsonbs, _JsonbsDumper)
    adapters.register_dumper(Instants, _InstantsDumper)
    loader = _RawJsonLoader if encryption is None else _opening(encryption)
    adapters.register_loader("jsonb", loader)


@lru_cache(maxsize=16)
def _opening(encryption: Encryption) -> type[Loader]:
    class OpeningLoader(_RawJsonLoader):
        def load(self, data: Buffer) -> bytes:
            return encryption.open(super().load(data))

    return OpeningLoader
