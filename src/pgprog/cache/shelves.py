"""The entries of one namespace: a bound in bytes, a time to live, and what may not be served."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pgprog.cache.floors import Floors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog.cache.entries import Entry


_MOST_AT_ONCE = 1000


class Shelf(Floors[str]):
    """The entries of a namespace by process id; those who had a place for longest come first.

    No cachetools here: a hit of its TTLCache takes 3.6 µs, nearly all that a `get` may.

    Its floors are by process id.
    """

    def __init__(self, *, ttl: float, max_bytes: int, max_lag: float) -> None:
        super().__init__()
        self.ttl = ttl
        self.max_bytes = max_bytes
        self.max_lag = max_lag
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.bytes = 0
        self.hits = 0

    def put(self, entry: Entry, *, now: float) -> None:
        """Keep *entry* in the place of the one of its process."""
        self.pop(entry.row.process_id)
        entry.placed_at = entry.touched_at = now
        self.entries[entry.row.process_id] = entry
        self.bytes += entry.size

    def pop(self, process_id: str) -> Entry | None:
        """Give up and return what is kept of a process."""
        entry = self.entries.pop(process_id, None)
        if entry is not None:
            self.bytes -= entry.size
        return entry

    def overdue(self, *, now: float) -> Iterator[Entry]:
        """Yield what has to go, which the caller takes away.

        That is what nobody touched for its time to live, and what is too much.  Whoever was
        touched since it got its place gets another, at the end: readers of other threads note
        the time and change nothing else.  It is asked for often, and takes a millisecond at most.
        """
        for _ in range(_MOST_AT_ONCE):
            oldest = next(iter(self.entries.values()), None)
            if oldest is None or (
                self.bytes <= self.max_bytes and now - oldest.placed_at <= self.ttl
            ):
                return
            if oldest.touched_at > oldest.placed_at:
                oldest.placed_at = oldest.touched_at
                self.entries.move_to_end(oldest.row.process_id)
            else:
                yield oldest
        while self.bytes > self.max_bytes:
            yield next(iter(self.entries.values()))

    def clear(self) -> None:
        """Give up everything."""
        self.entries.clear()
        self.bytes = 0
        super().clear()
