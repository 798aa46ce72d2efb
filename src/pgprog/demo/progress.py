"""How far a run is, and how that is shown."""

from __future__ import annotations

from dataclasses import dataclass

_WIDTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The documents of a run: those that are found, that wait or are under way, that have ended.

    *before* of those that have *ended* had done so before this run, in *seconds* of which the
    others did; *failed* of them are in error.
    """

    found: int
    queued: int
    ended: int
    before: int
    failed: int
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether all have ended."""
        return self.ended == self.found

    @property
    def rate(self) -> float:
        """Documents a second, of this run."""
        return (self.ended - self.before) / self.seconds if self.seconds else 0.0


def bar(progress: Progress) -> str:
    """Return a line with a bar, in ASCII and at most 79 characters up to a million documents."""
    share = progress.ended / progress.found if progress.found else 1.0
    full = int(_WIDTH * share)
    return f"[{'#' * full}{'.' * (_WIDTH - full)}] {line(progress)}"


def line(progress: Progress) -> str:
    """Return the same in words and numbers only."""
    return (
        f"{progress.ended}/{progress.found}  {progress.rate:.0f}/s"
        f"  {progress.queued} queued  {progress.failed} failed"
    )


def summary(progress: Progress) -> str:
    """Return what a run did, as a sentence."""
    count = progress.ended - progress.before
    text = (
        f"{count:,} documents in {progress.seconds:.1f} s, {60 * progress.rate:,.0f} a minute;"
        f" {progress.failed:,} failed"
    )
    return f"{text}; {progress.before:,} had ended before" if progress.before else text
