"""Changes of settings on trial: one that makes steps fail is taken back, where a namespace asks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pgprog import logs
from pgprog.errors import StoreUnavailable
from pgprog.store.faults import RolledBack
from pgprog.store.rows import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.config import NamespaceSettings
    from pgprog.store.engine_store import EngineStore

log = logs.get(__name__)

# Fewer attempts say nothing, before a change or after it.
LEAST: Final = 20
_FAILED: Final = frozenset({Outcome.RETRY, Outcome.BROKEN, Outcome.FAILED, Outcome.CRITICAL})
_NEVER: Final = float("-inf")


@dataclass(slots=True)
class _Tally:
    """Attempts, and how many of them failed."""

    attempts: int = 0
    failures: int = 0

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(self.attempts + other.attempts, self.failures + other.failures)

    def __str__(self) -> str:
        return f"{self.failures} of {self.attempts}"

    @property
    def says_something(self) -> bool:
        return self.attempts >= LEAST

    def is_over(self, bound: float) -> bool:
        return self.failures > bound * self.attempts


@dataclass(slots=True)
class _Trial:
    """One version of a namespace's settings.

    *before* is what was seen under the versions before.  *now* and *past* are of this window and of
    the one before it.  *ends_at* is when the version has proved itself.
    """

    version: int
    bound: float
    window: float
    now_began_at: float
    ends_at: float
    before: _Tally
    now: _Tally = field(default_factory=_Tally)
    past: _Tally = field(default_factory=_Tally)

    def count(self, *, failed: bool, at: float) -> None:
        if at >= self.now_began_at + self.window:
            self.past, self.now, self.now_began_at = self.now, _Tally(), at
        self.now.attempts += 1
        self.now.failures += failed

    def seen(self) -> _Tally:
        """Return what is known by now of how steps fare."""
        seen = self.past + self.now
        return seen if seen.says_something else self.before

    def has_failed(self, *, at: float) -> bool:
        """Return whether the rate of errors has risen past the bound since the change."""
        return (
            at < self.ends_at
            and self.now.says_something
            and self.now.is_over(self.bound)
            and self.before.says_something
            and not self.before.is_over(self.bound)
        )


class Trials:
    """Counts the attempts of namespaces with a rollback_error_rate, before and after each change.

    A worker judges by what it has seen itself, before the change, too: one that was started since
    leaves that to others.  The database takes back only what is still in force, so it does not
    matter how many workers ask.  What a rollback was made of is no better before than after, so
    that it is never taken back in its turn.
    """

    def __init__(self, store: EngineStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._trials: dict[str, _Trial] = {}
        self._failed: set[str] = set()
        self._has_failed = asyncio.Event()

    def begin(self, namespace: str, version: int, settings: NamespaceSettings) -> None:
        """Count from here on under a version of the settings, which is a change to those before."""
        before, at = self._trials.pop(namespace, None), self._clock()
        self._failed.discard(namespace)
        if settings.rollback_error_rate is None:
            return
        window = settings.rollback_window.total_seconds()
        self._trials[namespace] = _Trial(
            version=version,
            bound=settings.rollback_error_rate,
            window=window,
            now_began_at=at,
            ends_at=_NEVER if before is None else at + window,
            before=_Tally() if before is None else before.seen(),
        )

    def count(self, namespace: str, outcome: Outcome) -> None:
        """Note how an attempt has ended; a rejection is no failure."""
        trial = self._trials.get(namespace)
        if trial is None:
            return
        at, failed = self._clock(), outcome in _FAILED
        trial.count(failed=failed, at=at)
        if failed and trial.has_failed(at=at):
            self._failed.add(namespace)
            self._has_failed.set()

    async def run(self) -> None:
        """Take back what has failed, until cancelled."""
        while True:
            await self._has_failed.wait()
            self._has_failed.clear()
            while self._failed:
                namespace = self._failed.pop()
                await self._take_back(namespace, self._trials[namespace])

    async def _take_back(self, namespace: str, trial: _Trial) -> None:
        rates = f"{trial.now} attempts failed since version {trial.version}, {trial.before} before"
        try:
            version = await self._store.roll_back_settings(
                namespace, trial.version, reason=f"rolled back by itself: {rates}"
            )
        except (RolledBack, StoreUnavailable) as e:
            log.warning("settings_not_rolled_back", namespace=namespace, detail=str(e))
            return  # the next failure tries again
        trial.ends_at = _NEVER
        if version is not None:
            log.warning("settings_rolled_back", namespace=namespace, version=version, detail=rates)
