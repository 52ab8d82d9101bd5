"""Draw the plots of benchmarks/README.md: ``python -m benchmarks.plots results/2026-11-25.json``.

Writes ``drain``, ``latency``, ``backlog``, ``growth``, ``network`` and ``cpu`` for light and dark
pages beside the readings. A plot whose readings are missing is not drawn. Needs the extra
``bench``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmarks.chart import THEMES, WIDTH, Theme
from benchmarks.measures.backlog import HUGE, SIZES, Backlog, HugeBacklog
from benchmarks.measures.growth import BODIES, QUEUES, WORKERS, Bodies, IdleWorkers, ManyQueues
from benchmarks.measures.latency import Latency
from benchmarks.measures.network import ADDED, Network
from benchmarks.panels import LEGEND, SUBJECT
from benchmarks.systems import SYSTEMS
from benchmarks.table import PLOTS, Readings, drain
from benchmarks.workers import PREFORK, THREADS

#: Percentiles that a distribution is drawn through.
PERCENTILES = range(1, 100)

#: Systems that share a colour are told apart by their marks.
MARKS = {"redis-aof-always": "s", "rabbitmq-confirms": "s"}

Draw = Callable[[Readings, Theme], "Figure | None"]


def write_plots(data: dict[str, Any], folder: Path) -> list[str]:
    """Draw what the readings have into ``folder``; the names of the plots."""
    readings, written = Readings(data), []
    for name in PLOTS:
        draw: Draw = DRAWN[name]
        for theme in THEMES:
            path = folder / f"{name}-{theme.name}.svg"
            figure = draw(readings, theme)
            if figure is None:
                path.unlink(missing_ok=True)  # of older readings
                continue
            figure.savefig(path, transparent=True, metadata={"Date": None})
            if theme is THEMES[0]:
                written.append(name)
    return written


def colour(theme: Theme, system: str) -> str:
    """That of the system's family; grey for those that have none."""
    return theme.bars.get(system) or theme.bars.get(system.partition("-")[0], theme.muted)


def new_figure(height: float, theme: Theme, titles: list[str]) -> tuple[Figure, list[Axes]]:
    """Axes side by side, one for each title."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = [figure.add_subplot(1, len(titles), number + 1) for number in range(len(titles))]
    for each, title in zip(axes, titles, strict=True):
        each.set_facecolor("none")
        each.set_title(title, color=theme.text, fontsize=11.5, weight="bold", loc="left")
        each.tick_params(colors=theme.muted, labelcolor=theme.text, labelsize=9)
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(theme.muted)
        each.grid(visible=True, color=theme.muted, alpha=0.25, linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def add_legend(axes: Axes, theme: Theme, place: Any = "best") -> None:
    axes.legend(loc=place, frameon=False, labelcolor=theme.text, fontsize=9)


def label(system: str) -> str:
    return LEGEND.get(system, "Celery alone (ceiling)" if system == "free" else system)


def width(system: str) -> float:
    return 2.2 if system == SUBJECT else 1.6


def thousands(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def draw_bars(
    readings: Readings, theme: Theme, metrics: tuple[str, ...], digits: int, titles: list[str]
) -> Figure | None:
    """A bar for each system on prefork, and on ten at a time; the metrics stand on each other."""
    measures = [drain(PREFORK), drain(THREADS)]
    found = [
        {s: v for s in SYSTEMS if (v := [readings.median(m, key, s) or 0.0 for key in metrics])[0]}
        for m in measures
    ]
    most = max(len(values) for values in found)
    if not most:
        return None
    figure, axes = new_figure(1.1 + 0.36 * most, theme, titles)
    for each, values in zip(axes, found, strict=True):
        ordered = sorted(values.items(), key=lambda item: sum(item[1]), reverse=digits == 0)
        each.set_ylim(most - 0.4, -0.6)
        each.set_yticks(range(len(ordered)), [label(system) for system, _ in ordered])
        each.grid(visible=False, axis="y")
        end = max((sum(parts) for parts in values.values()), default=1.0)
        each.set_xlim(0, end * 1.2)
        each.xaxis.set_major_locator(MaxNLocator(5))
        if digits == 0:
            thousands(each.xaxis)
        for number, (system, parts) in enumerate(ordered):
            left = 0.0
            for shade, part in zip((1.0, 0.55), parts, strict=False):
                each.barh(number, part, 0.72, left, color=colour(theme, system), alpha=shade)
                left += part
            weight = "bold" if system == SUBJECT else "normal"
            text = f"{left:,.{digits}f}"
            each.text(left + end * 0.015, number, text, color=theme.text, fontsize=9,
                      va="center", weight=weight)  # fmt: skip
    return figure


def draw_drain(readings: Readings, theme: Theme) -> Figure | None:
    titles = ["Tasks/s, prefork -c 2", "Tasks/s, 10 at a time"]
    return draw_bars(readings, theme, ("rate",), 0, titles)


def draw_cpu(readings: Readings, theme: Theme) -> Figure | None:
    titles = ["CPU s per 1,000 tasks, prefork -c 2", "The same, 10 at a time"]
    figure = draw_bars(readings, theme, ("worker", "server"), 2, titles)
    if figure is not None:
        figure.supxlabel("dark: the worker; light: its server", color=theme.muted, fontsize=9)
    return figure


def draw_latency(readings: Readings, theme: Theme) -> Figure | None:
    titles = ["delay() to start, ms", "delay().get(), ms"]
    figure, axes = new_figure(3.6, theme, titles)
    has_any = False
    for each, kind in zip(axes, ("start", "trip"), strict=True):
        for system in LEGEND:
            values = [readings.median(Latency.title, f"{kind}{p}", system) for p in PERCENTILES]
            there = [(v, p) for v, p in zip(values, PERCENTILES, strict=True) if v is not None]
            if len(there) < len(PERCENTILES):
                continue
            has_any = True
            each.plot(*zip(*there, strict=True), color=colour(theme, system), label=label(system),
                      linewidth=width(system))  # fmt: skip
        each.set_xscale("log")
        each.xaxis.set_minor_locator(NullLocator())
        each.set_ylim(0, 100)
        if not has_any:
            return None
        low, high = each.get_xlim()
        steps = (0.5, 1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 50, 100)
        ticks = [tick for tick in steps if low <= tick <= high]
        each.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        each.set_ylabel("percent of tasks", color=theme.muted, fontsize=9)
    add_legend(axes[0], theme, "lower right")
    return figure


def draw_backlog(readings: Readings, theme: Theme) -> Figure | None:
    figure, (axes,) = new_figure(3.8, theme, [f"Tasks/s while so many wait, {THREADS}"])
    has_any = False
    for system in SYSTEMS:
        points = [(size, readings.median(Backlog.title, f"rate{size}", system)) for size in SIZES]
        points.append((HUGE, readings.median(HugeBacklog.title, f"rate{HUGE}", system)))
        there = [(size, rate) for size, rate in points if rate is not None]
        if len(there) == 1:  # only the million: its name beside it, and room for both ends
            axes.set_yscale("log")
            axes.plot(*there[0], marker="o", color=theme.muted)
            axes.annotate(f"{label(system)}  ", there[0], color=theme.muted, fontsize=9,
                          ha="right", va="center")  # fmt: skip
        elif there:
            has_any = True
            axes.plot(*zip(*there, strict=True), marker="o", color=colour(theme, system),
                      label=label(system), linewidth=width(system))  # fmt: skip
    if not has_any:
        return None
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    thousands(axes.xaxis)
    thousands(axes.yaxis)
    add_legend(axes, theme)
    return figure


def draw_growth(readings: Readings, theme: Theme) -> Figure | None:
    curves = [
        curve
        for curve in (
            ("Tasks/s from so many queues", ManyQueues.title, "rate", QUEUES),
            ("Tasks/s, bodies of so many bytes", Bodies.title, "rate", BODIES),
            ("ms to start, so many workers idle", IdleWorkers.title, "start", WORKERS),
        )
        if readings.median(curve[1], f"{curve[2]}{curve[3][0]}", SUBJECT) is not None
    ]
    if not curves:
        return None
    figure, axes = new_figure(3.6, theme, [title for title, *_ in curves])
    for each, (_, measure, key, sizes) in zip(axes, curves, strict=True):
        each.title.set_fontsize(10)
        for system in LEGEND:
            points = [(size, readings.median(measure, f"{key}{size}", system)) for size in sizes]
            there = [(size, value) for size, value in points if value is not None]
            if there:
                each.plot(*zip(*there, strict=True), marker="o", color=colour(theme, system),
                          label=label(system), linewidth=width(system))  # fmt: skip
        each.set_xscale("log")
        each.set_xticks(sizes, [f"{size:,}" for size in sizes])
        each.xaxis.set_minor_locator(NullLocator())
        each.set_ylim(bottom=0)
        thousands(each.yaxis)
    add_legend(max(axes, key=lambda each: len(each.lines)), theme)  # where most systems are
    return figure


def draw_network(readings: Readings, theme: Theme) -> Figure | None:
    titles = ["delay() takes, ms", "delay() per second"]
    figure, axes = new_figure(3.6, theme, titles)
    has_any = False
    for each, key in zip(axes, ("call", "rate"), strict=True):
        for system in SYSTEMS:
            points = [(ms, readings.median(Network.title, f"{key}{ms}", system)) for ms in ADDED]
            there = [(ms, value) for ms, value in points if value is not None]
            if there:
                has_any = True
                is_durable = system in MARKS
                each.plot(*zip(*there, strict=True), marker=MARKS.get(system, "o"),
                          linestyle="--" if is_durable else "-", color=colour(theme, system),
                          label=label(system), linewidth=width(system))  # fmt: skip
        each.set_ylim(bottom=0)
        each.set_xticks(ADDED)
        each.set_xlabel("ms more for each round trip", color=theme.muted, fontsize=9)
        thousands(each.yaxis)
    add_legend(axes[1], theme, "upper right")
    return figure if has_any else None


DRAWN: dict[str, Draw] = {
    "drain": draw_drain,
    "latency": draw_latency,
    "backlog": draw_backlog,
    "growth": draw_growth,
    "network": draw_network,
    "cpu": draw_cpu,
}


@click.command()
@click.argument("readings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(readings: Path) -> None:
    """Draw READINGS, a file that ``--json`` or ``--publish`` has written."""
    write_plots(json.loads(readings.read_text(encoding="utf-8")), readings.parent)


if __name__ == "__main__":
    main()
