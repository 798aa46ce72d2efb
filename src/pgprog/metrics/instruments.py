"""Histograms and counters that cost a fraction of a microsecond.

prometheus_client takes a lock for each bucket: three observations a task would be a twentieth of
what Python spends on it.  Here one thread writes each of them, and any may read: the values of one
series may be a step apart while they are read.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from pgprog.metrics.clock import DatabaseClock
from pgprog.metrics.names import BOUNDS, METRICS
from pgprog.metrics.samples import Sample
from pgprog.metrics.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    Source = Callable[[], Iterable[Sample]]

_TIMERS = frozenset({"timeout", "remove"})


class Series:
    """One histogram of one set of labels."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count *times* things that took so long."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.sum += seconds * times


class Histogram(dict[tuple[str, ...], Series]):
    """The series of a metric, by the values of its labels; each begins where it is asked for."""

    def __missing__(self, labels: tuple[str, ...]) -> Series:
        series = self[labels] = Series()
        return series


class Counter(dict[tuple[str, ...], float]):
    """The values of a metric, by the values of its labels."""

    def add(self, *labels: str, by: float = 1) -> None:
        """Count."""
        self[labels] = self.get(labels, 0) + by


class StepSeries:
    """What is measured of the steps of one namespace and type."""

    __slots__ = ("_clock", "_lateness", "_processing", "_wait")

    def __init__(self, metrics: Metrics, namespace: str, type_: str) -> None:
        self._clock = metrics.clock
        self._wait = metrics.task_wait[namespace, type_]
        self._lateness = metrics.timer_lateness[namespace,] if type_ in _TIMERS else None
        self._processing = metrics.task_processing[namespace, type_]

    def begin(self, due_at: datetime) -> float:
        """Measure the wait of a step whose handler starts; return when that is, monotonic."""
        now = time.monotonic()
        waited = self._clock.age(due_at, now=now)
        if waited is not None:
            self._wait.observe(waited)
            if self._lateness is not None:
                self._lateness.observe(waited)
        return now

    def end(self, began_at: float) -> None:
        """Measure the run of a handler that has ended."""
        self._processing.observe(time.monotonic() - began_at)


class Metrics:
    """All that one program measures; two engines in one program have two of these.

    *sources* are asked for gauges when somebody looks, and must neither wait nor fail; any thread
    may look.  *vitals* tell how the parts are.
    """

    def __init__(self) -> None:
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter] = {}
        self._steps: dict[tuple[str, str], StepSeries] = {}
        self.clock = DatabaseClock()
        self.vitals = Vitals()
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
        self.claims_lost = self._counter("pgprog_claims_lost_total")
        self.worker_falls = self._counter("pgprog_worker_falls_total")

    def steps(self, namespace: str, type_: str) -> StepSeries:
        """Return what measures the steps of a namespace and type."""
        series = self._steps.get((namespace, type_))
        if series is None:
            series = self._steps[namespace, type_] = StepSeries(self, namespace, type_)
        return series

    def samples(self) -> list[Sample]:
        """Return all figures as they are now; any thread may ask."""
        found = [
            Sample(name, labels, series.sum, tuple(series.counts))
            for name, histogram in self._histograms.items()
            for labels, series in dict.copy(histogram).items()
        ]
        found += [
            Sample(name, labels, value)
            for name, counter in self._counters.items()
            for labels, value in dict.copy(counter).items()
        ]
        for source in self.sources:
            found += source()
        return found

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
