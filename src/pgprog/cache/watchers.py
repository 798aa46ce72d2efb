"""Who is to be called when something is told of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.cache.entries import Key


class Watchers:
    """Calls once each: whoever wants to be called again says so again."""

    def __init__(self) -> None:
        self._calls: dict[Key, list[Callable[[], None]]] = {}

    def add(self, key: Key, call: Callable[[], None]) -> None:
        """Call once when something is told of a process, or nothing can be any more."""
        calls = self._calls.setdefault(key, [])
        if call not in calls:
            calls.append(call)

    def drop(self, key: Key, call: Callable[[], None]) -> None:
        """Do not call; harmless after it was."""
        calls = self._calls.get(key, [])
        if call in calls:
            calls.remove(call)
            if not calls:
                del self._calls[key]

    def wake(self, key: Key) -> None:
        """Call those of a process."""
        for call in self._calls.pop(key, ()):
            call()

    def wake_all(self) -> None:
        """Call all."""
        for key in [*self._calls]:
            self.wake(key)
