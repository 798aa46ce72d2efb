"""What somebody wants to be told by the replication stream."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NONE: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})


class Published(NamedTuple):
    """Publications, and the columns that are wanted of each of their tables, `schema.table`.

    *whole* names the operations on a table that must all be told, as the option `publish` of a
    publication does: whoever keeps rows would never hear of what is left out.
    """

    publications: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    whole: Mapping[str, Sequence[str]] = _NONE

    def joined(self, other: Published) -> Published:
        """Return what is wanted by either, in the order in which it was."""
        return Published(
            _merged(self.publications, other.publications),
            _each_merged(self.columns, other.columns),
            _each_merged(self.whole, other.whole),
        )


def _each_merged(
    first: Mapping[str, Sequence[str]], second: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    return {**first} | {
        table: _merged(first.get(table, ()), names) for table, names in second.items()
    }


def _merged(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return (*dict.fromkeys([*first, *second]),)
