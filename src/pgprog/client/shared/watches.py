"""What a client watches by one connection to a shared reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.cache.entries import Key


class Watches:
    """Who is to be called for which process, each by a number of its own."""

    def __init__(self) -> None:
        self._number = 0
        self._numbers: dict[tuple[Key, Callable[[], None]], int] = {}
        self._calls: dict[int, Callable[[], None]] = {}

    def add(self, key: Key, call: Callable[[], None]) -> int:
        """Return the number of a watch: the one that it has already, if it is there."""
        number = self._numbers.get((key, call))
        if number is None:
            while self._number in self._calls:  # a number was given to each before
                self._number = (self._number + 1) % (1 << 32)
            number = self._numbers[key, call] = self._number
            self._calls[number] = call
            self._number = (number + 1) % (1 << 32)
        return number

    def drop(self, key: Key, call: Callable[[], None]) -> int | None:
        """Forget a watch, and return its number."""
        number = self._numbers.pop((key, call), None)
        if number is not None:
            del self._calls[number]
        return number

    def tell(self, number: int) -> None:
        """Call who is to be called; nobody where the watch has ended meanwhile."""
        if (call := self._calls.get(number)) is not None:
            call()

    def tell_all(self) -> None:
        """Call all: nothing can be told any more."""
        for call in [*self._calls.values()]:
            call()
