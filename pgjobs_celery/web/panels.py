"""The charts that pages have in common, of what ended over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import words
from .charts import Chart, Layer, curves, spark_bars, sparkline, stacked_bars

if TYPE_CHECKING:
    from markupsafe import Markup

    from ..control.history import Line, Measured, Series


def panels(found: Series, *, shares: Sequence[float] = (0.5, 0.95)) -> list[Markup]:
    """Throughput with failures, waits, and run times."""
    if not found.points:
        return []
    return [
        throughput(found),
        _durations(found, "Wait until claimed", shares, lambda point, share: point.wait(share)),
        _durations(found, "Run time", shares, lambda point, share: point.run(share)),
    ]


def throughput(found: Series) -> Markup:
    """How many ended in each bucket, by how they ended."""
    points = found.points
    layers = [
        Layer("succeeded", "succeeded", [point.succeeded for point in points]),
        Layer("failed", "failed", [point.failed for point in points]),
    ]
    if any(point.cancelled for point in points):
        layers.append(Layer("cancelled", "cancelled", [point.cancelled for point in points]))
    return stacked_bars(_chart(found, f"Jobs that ended, {per(found)}", layers, words.count))


def _durations(
    found: Series,
    title: str,
    shares: Sequence[float],
    measure: Callable[[Measured, float], float | None],
) -> Markup:
    layers = [
        Layer(
            f"p{share * 100:g}",
            f"p{share * 100:g}",
            [measure(point, share) for point in found.points],
        )
        for share in shares
    ]
    return curves(_chart(found, title, layers, words.duration, is_time=True))


def _chart(
    found: Series, title: str, layers: Sequence[Layer], form: Callable[[float | None], str],
    *, is_time: bool = False,
) -> Chart:  # fmt: skip
    times = [point.at for point in found.points if point.at is not None]
    return Chart(title, times, layers, form, found.window.width, is_time, since=found.since)


def per(found: Series) -> str:
    """Of which length the buckets are."""
    names = {60: "per minute", 600: "per 10 minutes", 3600: "per hour"}
    return names[found.window.width]


def depth_spark(line: Line | None) -> Markup | str:
    """How many waited in a queue; nothing where it was never looked."""
    if line is None or all(each is None for each in line.ready):
        return ""
    most = max(each or 0 for each in line.ready)
    return sparkline(line.ready, f"at most {words.count(most)} ready")


def ended_spark(line: Line | None) -> Markup | str:
    """How many jobs ended, with those that failed."""
    if line is None or not any(line.ended):
        return ""
    parts = [
        (ended - failed, failed) for ended, failed in zip(line.ended, line.failed, strict=True)
    ]
    label = f"{words.count(sum(line.ended))} ended, {words.count(sum(line.failed))} failed"
    return spark_bars(parts, label)
