"""Compile, for each table, the function that takes its rows out of the stream.

A loop over the columns that looks up what to do with each costs half as much again as the row
itself: the columns are known once the table has been described, so their code is written then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, TypeAlias

from pgprog.replication import values
from pgprog.replication.messages import UNCHANGED

if TYPE_CHECKING:
    from pgprog.replication.messages import Row

# Takes a message and the position of a row in it.  One gives the row and the position behind it;
# the other gives the row alone, which must end with the message.
ReadRow: TypeAlias = Callable[[bytes, int], tuple["Row", int]]
ReadLast: TypeAlias = Callable[[bytes, int], "Row"]

_AT_THE_END = [" if p != len(d):", "  raise ValueError('the message ends elsewhere than its row')"]
_TEXT, _BINARY, _NULL, _UNCHANGED = b"tbnu"


@lru_cache(maxsize=64)  # tables are described again after each ANALYZE; this takes a millisecond
def compile_row(type_oids: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[ReadRow, ReadLast]:
    """Return the readers of rows with columns of these types: of those at *wanted*, in that order.

    The row is a TupleData of the protocol: a count, then for each column a letter and, but for NULL
    and for values left unchanged, a length and so many bytes.  The code is made of numbers only;
    nothing of a name or a value gets into it.
    """
    known: dict[str, object] = {
        "size": Struct("!I").unpack_from,
        "int4": Struct("!i").unpack_from,
        "int8": Struct("!q").unpack_from,
        "uint8": Struct("!Q").unpack_from,
        "stamp": datetime.fromtimestamp,
        "UTC": UTC,
        "moment": values.moment,
        "UNCHANGED": UNCHANGED,
    }
    lines = [
        f" if d[p:p+2] != {len(type_oids).to_bytes(2, 'big')!r}:",
        "  raise ValueError('a row has another number of columns than its table')",
        " p += 2",
    ]
    for column, oid in enumerate(type_oids):
        loaders = values.loaders(oid)
        known[f"b{column}"], known[f"t{column}"] = loaders.binary, loaders.text
        lines += _read(column, oid) if column in wanted else _skip(oid)
    lines.append(f" row = ({''.join(f'v{column},' for column in wanted)})")
    rows: dict[str, ReadRow] = {}
    lasts: dict[str, ReadLast] = {}
    # Numbers are all that varies in the code.
    exec(_function(*lines, " return row, p"), known, rows)  # noqa: S102
    exec(_function(*lines, *_AT_THE_END, " return row"), known, lasts)  # noqa: S102
    return rows["read"], lasts["read"]


def _function(*lines: str) -> str:
    return "\n".join(["def read(d, p):", *lines])


def _read(column: int, oid: int) -> list[str]:
    if oid in values.FIXED:
        width, value = values.FIXED[oid]
        binary = f"v{column} = {value}; p += {5 + width}"
    else:
        value = values.VARYING.get(oid, f"b{column}(d[p+5:q])")
        binary = f"q = p+5+size(d,p+1)[0]; v{column} = {value}; p = q"
    return [
        " k = d[p]",
        f" if k == {_BINARY}: {binary}",
        f" elif k == {_NULL}: v{column} = None; p += 1",
        f" elif k == {_TEXT}: q = p+5+size(d,p+1)[0]; v{column} = t{column}(d[p+5:q]); p = q",
        f" elif k == {_UNCHANGED}: v{column} = UNCHANGED; p += 1",
        " else: raise ValueError(f'a column of the unknown kind {k:#x}')",
    ]


def _skip(oid: int) -> list[str]:
    far = f"p += {5 + values.FIXED[oid][0]}" if oid in values.FIXED else "p += 5+size(d,p+1)[0]"
    return [
        " k = d[p]",
        f" if k == {_BINARY}: {far}",
        f" elif k == {_TEXT}: p += 5+size(d,p+1)[0]",
        " else: p += 1",
    ]
