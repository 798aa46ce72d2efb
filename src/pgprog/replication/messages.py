"""What a replication stream says: the messages of `pgoutput`, and what a feed makes of them.

An LSN is a number here: compare and subtract it.  A row is a tuple of values in the order of
`Relation.columns`, which holds the columns that the reader asked for and no others.

Structs of msgspec rather than dataclasses: making a frozen one costs a tenth, and each row takes
some.  Where it matters ask for their kind by `type(change) is Insert`: `isinstance` and `match`
take half a microsecond for each class that it is not, since they have a metaclass (mypy follows
the other branch of a class that is final).  What they hold
cannot refer back to them, so the garbage collector need not know them.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Final, TypeAlias, final

from msgspec import Struct

from pgprog.errors import ReplicationLost


class Unchanged(Enum):
    """Stands for a value that an update left alone and that the stream therefore leaves out.

    Only values of some kilobytes that lie outside their row (TOAST) are left out; who needs one
    takes it from the row as it was before.
    """

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED

# json and jsonb are bytes of JSON, not parsed.  bytes are also what `values` does not know.
Value: TypeAlias = str | int | bool | bytes | datetime | Unchanged | None
Row: TypeAlias = tuple[Value, ...]


class Column(Struct, frozen=True, gc=False):
    """A column; *type_oid* and *type_modifier* are those of pg_attribute.

    *is_key*: it belongs to the replica identity, the primary key unless a table says otherwise.
    """

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool


class Relation(Struct, frozen=True, gc=False):
    """A table as its rows come: equal to an earlier one as long as they come in the same shape."""

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]


class Begin(Struct, frozen=True, gc=False):
    """The start of a transaction that is already committed; *xid* has 32 bits, without epoch."""

    commit_lsn: int
    xid: int


class Commit(Struct, frozen=True, gc=False):
    """The end of a transaction; whoever has applied it has applied everything up to *end_lsn*.

    *committed_us* is when, by the server's clock, in microseconds since the year 2000 began: an
    instant of every transaction would cost more than the rest of this message.
    """

    commit_lsn: int
    end_lsn: int
    committed_us: int


class Insert(Struct, frozen=True, gc=False):
    """A new row."""

    relation: Relation
    new: Row


class Update(Struct, frozen=True, gc=False):
    """A changed row.

    *old* is None unless the key was changed; then it holds the old key, its other values are None.
    (Of a table with REPLICA IDENTITY FULL it is always there, and whole.)
    """

    relation: Relation
    old: Row | None
    new: Row


class Delete(Struct, frozen=True, gc=False):
    """A deleted row: *old* holds its key; other values are None unless the identity is FULL."""

    relation: Relation
    old: Row


@final
class Truncate(Struct, frozen=True, gc=False):
    """All rows of these tables are gone."""

    relations: tuple[Relation, ...]


class Reshaped(Struct, frozen=True, gc=False):
    """A table's rows come in another shape from here on: what was kept of them is worth nothing.

    A change of columns that the reader did not ask for is not told.
    """

    relation: Relation


Change: TypeAlias = Insert | Update | Delete | Truncate | Reshaped


class TypeName(Struct, frozen=True, gc=False):
    """A type that is not built in, by its name."""

    oid: int
    schema: str
    name: str


class Origin(Struct, frozen=True, gc=False):
    """Where a transaction was replicated from, when it did not begin on this server."""

    commit_lsn: int
    name: str


class LogicalMessage(Struct, frozen=True, gc=False):
    """What `pg_logical_emit_message` wrote.

    *lsn* is the end of its record; *is_transactional*: it stands inside a transaction.
    """

    is_transactional: bool
    lsn: int
    prefix: str
    content: bytes


Message: TypeAlias = (
    Begin
    | Commit
    | Relation
    | Insert
    | Update
    | Delete
    | Truncate
    | TypeName
    | Origin
    | LogicalMessage
)


class Connected(Struct, frozen=True, gc=False):
    """The stream begins anew: nothing that was kept before is kept up to date any longer.

    Every transaction that is not going to be streamed was finished or running in *snapshot*
    (`xmin:xmax:xip`, the text of a pg_snapshot): its xid is below xmax.  *fingerprint* is that of
    all *publications* that are followed in the same snapshot, as `pgprog.replication_state` tells
    it: another one means that the stream may leave out what it told before.  *server* names the
    run of the server, as beats and fills do.
    """

    slot: str
    snapshot: str
    fingerprint: str
    publications: tuple[str, ...]
    server: str
    lsn: int


class Transaction(Struct, frozen=True, gc=False):
    """All published changes of one transaction, in their order; at least one.

    They are durable on the primary, but with synchronous replication a new snapshot need not see
    them yet.  *size* is how many bytes they took on the wire; *committed_us* as for `Commit`.
    """

    xid: int
    end_lsn: int
    committed_us: int
    changes: tuple[Change, ...]
    size: int


class Oversized(Struct, frozen=True, gc=False):
    """A transaction takes more memory than a feed gives it: its changes are lost.

    The stream goes on.  *size* is how many bytes it took on the wire.
    """

    xid: int
    end_lsn: int
    size: int


@final
class Progress(Struct, frozen=True, gc=False):
    """Every published transaction that ends at or before *lsn* has been told."""

    lsn: int


class Lost(Struct, frozen=True):
    """The stream ended by *error*, which says in its hint what to do if it needs a person.

    A `Connected` follows when there is a stream again.
    """

    error: ReplicationLost


FeedEvent: TypeAlias = Connected | Transaction | Oversized | Progress | Lost
