"""Requests by their fields, for many at once: a row is made only for who asks for one.

With a tuple for each the garbage collector would be woken, and each would be taken apart again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from pgprog.errors import InvalidArgument
from pgprog.store.faults import DataFault
from pgprog.store.rows import RawRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgprog.encryption import Encryption
    from pgprog.store.rows import Submitted


_FIELDS = RawRequest._fields
_labels_of_row = itemgetter(_FIELDS.index("namespace"), _FIELDS.index("type"))
_namespace_of_row = itemgetter(_FIELDS.index("namespace"))


class Fields(NamedTuple):
    """What `RawRequest` has, each of all requests, in its order."""

    types: Sequence[str]
    namespaces: Sequence[str]
    process_ids: Sequence[str]
    argss: Sequence[bytes | None]
    names: Sequence[str | None]
    keys: Sequence[str | None]
    contexts: Sequence[bytes | None]
    priorities: Sequence[int]
    run_ats: Sequence[Any]


class Columns(Sequence[RawRequest]):
    """Requests in order, by their fields."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        self.fields = fields

    @classmethod
    def of(cls, requests: Iterable[RawRequest]) -> Columns:
        """Return requests by their fields."""
        fields = [*zip(*requests, strict=True)]
        return cls(Fields._make(fields or [()] * len(Fields._fields)))

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Return the requests of all *parts*, of which there is at least one."""
        if len(parts) == 1:
            return parts[0]
        fields = zip(*(part.fields for part in parts), strict=True)
        return cls(Fields._make([*chain.from_iterable(each)] for each in fields))

    def __len__(self) -> int:
        return len(self.fields.types)

    @overload
    def __getitem__(self, index: int) -> RawRequest: ...

    @overload
    def __getitem__(self, index: slice) -> Columns: ...

    def __getitem__(self, index: int | slice) -> RawRequest | Columns:
        if isinstance(index, slice):
            return Columns(Fields._make(each[index] for each in self.fields))
        return RawRequest._make(each[index] for each in self.fields)

    def __iter__(self) -> Iterator[RawRequest]:
        return map(RawRequest._make, zip(*self.fields, strict=True))

    def __repr__(self) -> str:
        return f"<{len(self)} requests>"

    def size(self) -> int:
        """Return how many bytes the payloads have."""
        args, contexts = self.fields.argss, self.fields.contexts
        return sum(map(len, filter(None, args))) + sum(map(len, filter(None, contexts)))


def columns_of(requests: Sequence[RawRequest], encryption: Encryption | None) -> Fields:
    """Return the fields of requests as they lie in the database, each of all requests.

    Raises:
        DataFault: One of them cannot be sealed.
    """
    columns = requests if isinstance(requests, Columns) else Columns.of(requests)
    if encryption is None:
        return columns.fields
    pairs = zip(columns.fields.argss, columns.fields.keys, strict=True)
    try:
        argss = [encryption.seal_args(args, idempotency_key=key) for args, key in pairs]
    except InvalidArgument as e:
        msg = f"args: {e}"
        raise DataFault(msg) from e
    return columns.fields._replace(argss=argss)


def namespaces_of(requests: Sequence[RawRequest]) -> Sequence[str]:
    """Return the namespace of each request."""
    if isinstance(requests, Columns):
        return requests.fields.namespaces
    return [*map(_namespace_of_row, requests)]


def queued_in(requests: Sequence[RawRequest], submitted: Sequence[Submitted]) -> Sequence[str]:
    """Return the namespace of each request that was queued."""
    outcomes = [each.outcome for each in submitted]
    namespaces = namespaces_of(requests)
    if outcomes.count("queued") == len(outcomes):
        return namespaces
    pairs = zip(namespaces, outcomes, strict=True)
    return [namespace for namespace, outcome in pairs if outcome == "queued"]


def labels_of(requests: Sequence[RawRequest]) -> Iterable[tuple[str, str]]:
    """Return namespace and type of each request."""
    if isinstance(requests, Columns):
        return zip(requests.fields.namespaces, requests.fields.types, strict=True)
    return map(_labels_of_row, requests)
