"""As of when the stream is known to have told everything."""

from __future__ import annotations

from collections import deque

NEVER = float("-inf")


class Lease:
    """Turns positions of the stream into a time: all that was committed before it has arrived.

    A beat notes the time, then asks PostgreSQL how far its log reaches; when the stream has
    passed that position, everything acknowledged before the time has been seen.  *last_as_of* is
    what was known last, whatever has been lost since.
    """

    def __init__(self) -> None:
        self.as_of = self.last_as_of = NEVER
        self._applied = 0
        self._beats: deque[tuple[int, float]] = deque()

    @property
    def oldest_beat_at(self) -> float | None:
        """When the beat was sent that the stream has not passed for longest, None if it has all."""
        return self._beats[0][1] if self._beats else None

    @property
    def lag_bytes(self) -> int | None:
        """How much of the log was not told yet, as of the last beat; any thread may ask.

        None while there was no beat, as without a stream.
        """
        beats = self._beats.copy()
        if beats:
            return beats[-1][0] - self._applied
        return None if self.as_of == NEVER else 0

    def add_beat(self, lsn: int, *, sent_at: float) -> None:
        """Note how far the log reached at a time, by our own clock, not before *sent_at*."""
        self._beats.append((lsn, sent_at))
        self.advance(self._applied)

    def advance(self, lsn: int) -> None:
        """Note that every transaction that committed up to *lsn* has been applied."""
        self._applied = max(self._applied, lsn)
        while self._beats and self._beats[0][0] <= self._applied:
            self.as_of = self.last_as_of = max(self.as_of, self._beats.popleft()[1])

    def end(self) -> None:
        """Know nothing any more; how far the stream has come stays true."""
        self.as_of = NEVER
        self._beats.clear()

    def restart(self, lsn: int) -> None:
        """Begin with another stream, which tells what commits after *lsn*."""
        self.end()
        self._applied = lsn
