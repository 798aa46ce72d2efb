"""Figures at one moment, and how those of several workers become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pgprog.metrics.names import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable


class Sample(Struct, frozen=True, array_like=True):
    """One series: of a histogram *value* is the sum, and *counts* are those of each bucket."""

    name: str
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


def merged(reports: Iterable[Iterable[Sample]]) -> list[Sample]:
    """Return the figures of all together, each series once, in the order of their first mention."""
    found: dict[tuple[str, tuple[str, ...]], Sample] = {}
    for report in reports:
        for sample in report:
            key = (sample.name, sample.labels)
            before = found.get(key)
            found[key] = sample if before is None else _together(before, sample)
    return list(found.values())


def lasting(samples: Iterable[Sample]) -> list[Sample]:
    """Return what stays true of a worker that has ended: all but gauges."""
    return [each for each in samples if METRICS[each.name].kind != "gauge"]


def _together(one: Sample, other: Sample) -> Sample:
    if METRICS[one.name].together == "most":
        return max(one, other, key=lambda each: each.value)
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Sample(one.name, one.labels, one.value + other.value, counts)
