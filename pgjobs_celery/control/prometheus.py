"""Metrics as Prometheus reads them: a collector for prometheus-client, the text of a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from ..errors import RequirementMissing
from .metrics import METRICS, Histogram, Reading

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.exposition import choose_encoder
except ImportError as error:
    raise RequirementMissing(
        "metrics need prometheus-client: pip install 'pgjobs-celery[metrics]'"
    ) from error


class Collector:
    """Reads the metrics each time that it is collected; for a registry of prometheus-client's."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> list[Any]:
        """Nothing: the registry need not read all to know the names."""
        return []

    def collect(self) -> Iterator[Any]:
        """A family for each metric that has samples."""
        reading = self._read()
        for name, metric in METRICS.items():
            family: Any
            if metric.kind == "histogram":
                family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
                for labels, histogram in reading.histograms[name].items():
                    family.add_metric(labels, cumulated(histogram), histogram.sum)
            else:
                make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = make(name, metric.help, labels=metric.labels)
                for labels, value in reading.values[name].items():
                    family.add_metric(labels, value)
            yield family


def cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Each bucket with all that is below its bound, as Prometheus wants it."""
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


class _Registry:
    """As much of a registry as an encoder asks for."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        return self._families


def exposition(reading: Reading, accept: str = "") -> tuple[bytes, str]:
    """The text of a scrape, and its content type: as the scraper accepts it, or Prometheus' own."""
    encode, content_type = choose_encoder(accept)
    text: bytes = encode(_Registry(list(Collector(lambda: reading).collect())))
    return text, content_type
