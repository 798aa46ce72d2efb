"""The figures as Prometheus reads them; the only module that knows prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgprog.errors import ConfigError
from pgprog.metrics.names import BOUNDS, METRICS

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as e:
    msg = "metrics need prometheus-client"
    raise ConfigError(msg, hint="pip install 'pgprog[metrics]'") from e

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from pgprog.metrics.samples import Sample

__all__ = ["CONTENT_TYPE", "CollectorRegistry", "registry_of", "text_of"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_EDGES = [*(repr(bound) for bound in BOUNDS), "+Inf"]


class _Families(Collector):
    """Asks for figures whenever the registry is read."""

    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        by_name: dict[str, list[Sample]] = {}
        for sample in self._read():
            by_name.setdefault(sample.name, []).append(sample)
        for name, samples in by_name.items():
            yield _family(name, samples)

    def describe(self) -> Iterator[Metric]:
        """Tell the registry the names, so that it need not ask for figures to learn them."""
        return (_family(name, []) for name in METRICS)


def registry_of(read: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """Return a registry of its own that asks *read* for the figures of each scrape."""
    registry = CollectorRegistry()
    registry.register(_Families(read))
    return registry


def text_of(samples: Iterable[Sample]) -> bytes:
    """Return the figures in Prometheus's text format."""
    return generate_latest(registry_of(lambda: samples))


def _family(name: str, samples: Iterable[Sample]) -> Metric:
    definition = METRICS[name]
    if definition.kind == "histogram":
        histogram = HistogramMetricFamily(name, definition.help_, labels=definition.labels)
        for sample in samples:
            histogram.add_metric(sample.labels, _buckets(sample.counts), sum_value=sample.value)
        return histogram
    family = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    made = family(name, definition.help_, labels=definition.labels)
    for sample in samples:
        made.add_metric(sample.labels, sample.value)
    return made


def _buckets(counts: Iterable[int]) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus has them: each with all below it."""
    total = 0
    buckets = []
    for edge, count in zip(_EDGES, counts, strict=True):
        total += count
        buckets.append((edge, float(total)))
    return buckets
