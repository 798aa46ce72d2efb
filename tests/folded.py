"""Texts of a class of their own, as frameworks make them."""

from __future__ import annotations


class Folded(str):
    """A text that is equal to itself in capitals."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())
