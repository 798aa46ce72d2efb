"""Histograms and counters that cost a fraction of a microsecond.

prometheus_client takes a lock for each bucket: three observations a task would be a twentieth of
what Python spends on it.  Here a value is put on a list, and many are sorted into buckets at once,
without a loop of Python.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Counts
from functools import partial
from typing import TYPE_CHECKING

from pgprog.metrics.agreement import Agreement
from pgprog.metrics.names import BOUNDS, METRICS
from pgprog.metrics.parts import Parts
from pgprog.metrics.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Source = Callable[[], Iterable[Sample]]

_TYPES = ("init", "call", "notify", "repair", "timeout")
_OUTCOMES = ("finished", "rejected", "error")
_bucket_of = partial(bisect_left, BOUNDS)


class Series:
    """One histogram of one set of labels; *add* takes a value in seconds, from any thread.

    Whoever adds many calls `sort` now and then.
    """

    __slots__ = ("_counts", "_sorting", "_sum", "_unsorted", "add")

    def __init__(self) -> None:
        self._unsorted: list[float] = []
        self.add = self._unsorted.append
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._sorting = threading.Lock()

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count *times* things that took so long."""
        with self._sorting:
            self._counts[_bucket_of(seconds)] += times
            self._sum += seconds * times

    def observe_all(self, values: Sequence[float]) -> None:
        """Count many."""
        with self._sorting:
            self._sort(values)

    def sort(self) -> None:
        """Put what was added into its buckets."""
        with self._sorting:
            values = self._unsorted[:]
            del self._unsorted[: len(values)]
            self._sort(values)

    def sample(self, name: str, labels: tuple[str, ...]) -> Sample:
        """Return what was counted; any thread may ask."""
        self.sort()
        with self._sorting:
            return Sample(name, labels, self._sum, tuple(self._counts))

    def _sort(self, values: Sequence[float]) -> None:
        if not values:
            return
        lowest, highest = _bucket_of(min(values)), _bucket_of(max(values))
        if lowest == highest:  # nearly always: they belong together
            self._counts[lowest] += len(values)
        else:
            for bucket, count in Counts(map(_bucket_of, values)).items():
                self._counts[bucket] += count
        self._sum += sum(values)


class Histogram(dict[tuple[str, ...], Series]):
    """The series of a metric, by the values of its labels; each begins where it is asked for."""

    def __missing__(self, labels: tuple[str, ...]) -> Series:
        return self.setdefault(labels, Series())


class Counter(dict[tuple[str, ...], float]):
    """The values of a metric, by the values of its labels."""

    def add(self, *labels: str, by: float = 1) -> None:
        """Count."""
        self[labels] = self.get(labels, 0) + by


class Metrics:
    """All that one program measures; two engines in one program have two of these.

    *sources* are asked for gauges when somebody looks, and must neither wait nor fail; any thread
    may look.  *parts* tell how the parts are, *settings* whether those of a file are obeyed.
    """

    def __init__(self) -> None:
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter] = {}
        self.parts = Parts()
        self.settings = Agreement()
        self.sources: list[Source] = []
        self.calls_scanning = self._histogram("pgprog_calls_scanning_duration_seconds")
        self.timers_scanning = self._histogram("pgprog_timers_scanning_duration_seconds")
        self.zombie_collection = self._histogram("pgprog_zombie_collection_duration_seconds")
        self.request_preparing = self._histogram("pgprog_request_preparing_duration_seconds")
        self.task_processing = self._histogram("pgprog_task_processing_duration_seconds")
        self.task_completion = self._histogram("pgprog_task_completion_duration_seconds")
        self.process_removing = self._histogram("pgprog_process_removing_duration_seconds")
        self.notification = self._histogram("pgprog_notification_duration_seconds")
        self.task_wait = self._histogram("pgprog_task_wait_seconds")
        self.timer_lateness = self._histogram("pgprog_timer_lateness_seconds")
        self.tasks = self._counter("pgprog_tasks_total")
        self.retries = self._counter("pgprog_retries_total")
        self.zombies = self._counter("pgprog_zombies_total")
        self.settings_rollbacks = self._counter("pgprog_settings_rollbacks_total")
        self.claims_lost = self._counter("pgprog_claims_lost_total")
        self.worker_falls = self._counter("pgprog_worker_falls_total")

    def begin(self, namespaces: Iterable[str]) -> None:
        """Show what counts in these from 0 on: Prometheus takes no first value for a rise."""
        for namespace in namespaces:
            self.claims_lost.add(namespace, by=0)
            self.timer_lateness[namespace,].sort()
            for type_ in _TYPES:
                self.retries.add(namespace, type_, by=0)
                for outcome in _OUTCOMES:
                    self.tasks.add(namespace, type_, outcome, by=0)

    def samples(self) -> list[Sample]:
        """Return all figures as they are now; any thread may ask."""
        found = [
            series.sample(name, labels)
            for name, histogram in self._histograms.items()
            for labels, series in dict.copy(histogram).items()
        ]
        found += [
            Sample(name, labels, value)
            for name, counter in self._counters.items()
            for labels, value in dict.copy(counter).items()
        ]
        found += self.settings.samples()
        for source in [*self.sources]:
            found += source()
        return found

    def show(self, source: Source) -> Callable[[], None]:
        """Ask *source*, too, until what is returned is called; to call it again is harmless."""
        self.sources.append(source)
        return partial(self._hide, source)

    def _hide(self, source: Source) -> None:
        if source in self.sources:
            self.sources.remove(source)

    def _histogram(self, name: str) -> Histogram:
        histogram = self._histograms[name] = Histogram()
        if not METRICS[name].labels:
            histogram[()] = Series()
        return histogram

    def _counter(self, name: str) -> Counter:
        counter = self._counters[name] = Counter()
        if not METRICS[name].labels:
            counter[()] = 0  # so that the first event is an increase
        return counter
