"""A read of PostgreSQL whose result is to be kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.cache.entries import Change, Key


@dataclass(slots=True, eq=False)
class Fill:
    """A read of PostgreSQL on its way into the cache.

    Its snapshot must see *recent*, transactions told before it began, and what *loose* has of its
    incarnation.  *pending* are those on its process told since.
    """

    key: Key
    began_at: float
    recent: tuple[int, ...]
    loose: dict[int, tuple[int, ...]]
    pending: list[tuple[int, Sequence[Change]]] = field(default_factory=list)
