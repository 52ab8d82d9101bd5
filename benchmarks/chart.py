"""Draw the README's chart: ``python -m benchmarks.chart results/2026-11-25.json``.

Writes ``chart-light.svg`` and ``chart-dark.svg`` beside the readings. Needs the extra ``bench``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.panels import LEGEND, SUBJECT, Group, Panel, read_panels

#: Inches; a README is about ten wide.
WIDTH, HEIGHT = 10.0, 7.6

#: What a group takes, in heights of a bar: a line of text, a bar for each system, and a gap.
LABEL, GAP = 1.25, 0.6
GROUP = LABEL + len(LEGEND) + GAP

#: What a panel's title takes, likewise.
TITLE = 2.0

mpl.rcParams["svg.hashsalt"] = "pgjobs"  # the same readings give the same file
mpl.rcParams["font.family"] = "DejaVu Sans"


@dataclass(frozen=True)
class Theme:
    """The colours of one chart."""

    name: str
    text: str
    muted: str
    bars: dict[str, str]


THEMES = (
    Theme(
        "light",
        text="#1f2328",
        muted="#59636e",
        bars={"pgjobs": "#2f6fb3", "redis": "#d98c84", "rabbitmq": "#e3bb76"},
    ),
    Theme(
        "dark",
        text="#f0f6fc",
        muted="#9198a1",
        bars={"pgjobs": "#4f9bea", "redis": "#a85f58", "rabbitmq": "#a1803f"},
    ),
)


def write_charts(data: dict[str, Any], folder: Path) -> None:
    """Write one chart for light and one for dark pages into ``folder``."""
    for theme in THEMES:
        figure = draw(data, theme)
        path = folder / f"chart-{theme.name}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None})


def draw(data: dict[str, Any], theme: Theme) -> Figure:
    """The first panel on the left, the others below each other on the right."""
    first, *others = read_panels(data)
    figure = Figure(figsize=(WIDTH, HEIGHT))
    top, bottom = 0.92, 0.055
    rows = max(height(first), sum(height(panel) for panel in others))
    unit = (top - bottom) / rows
    for left, panels in ((0.015, [first]), (0.525, others)):
        y = top
        for panel in panels:
            size = height(panel) * unit
            axes = figure.add_axes((left, y - size, 0.46, size))
            draw_panel(axes, panel, theme)
            y -= size
    figure.legend(
        handles=[Patch(color=theme.bars[name], label=label) for name, label in LEGEND.items()],
        loc="upper left",
        bbox_to_anchor=(0.005, 0.99),
        ncols=len(LEGEND),
        frameon=False,
        labelcolor=theme.text,
        fontsize=11,
        handlelength=1.2,
        handleheight=1.0,
    )
    figure.text(0.015, 0.012, footer(data), color=theme.muted, fontsize=8.5)
    return figure


def height(panel: Panel) -> float:
    return TITLE + GROUP * len(panel.groups)


def draw_panel(axes: Axes, panel: Panel, theme: Theme) -> None:
    """A title and the panel's groups; one unit of y is the height of a bar."""
    axes.set_axis_off()
    longest = max(value for group in panel.groups for value in group.values.values() if value)
    axes.set_xlim(0, longest * 1.16)  # room for the longest bar's value
    axes.set_ylim(height(panel), 0)
    axes.text(0, 0.9, panel.title, color=theme.text, fontsize=11.5, weight="bold", va="center")
    for number, group in enumerate(panel.groups):
        draw_group(axes, group, panel.digits, TITLE + GROUP * number, theme)


def draw_group(axes: Axes, group: Group, digits: int, top: float, theme: Theme) -> None:
    """The group's label and ratios on one line, and below it a bar for each system."""
    line = top + LABEL / 2 - 0.1
    end = axes.get_xlim()[1]
    axes.text(0, line, group.label, color=theme.text, fontsize=9.5, va="center")
    axes.text(end, line, ratios(group), color=theme.muted, fontsize=9, va="center", ha="right")
    for number, (name, value) in enumerate(group.values.items()):
        y = top + LABEL + number + 0.5
        axes.barh(y, value or 0, height=0.86, color=theme.bars[name])
        text = group.absent.get(name, "none") if value is None else f"{value:,.{digits}f}"
        weight = "bold" if name == SUBJECT else "normal"
        axes.text(
            (value or 0) + end * 0.01,
            y + 0.04,
            text,
            color=theme.text,
            fontsize=9,
            weight=weight,
            va="center",
        )


def ratios(group: Group) -> str:
    """``3.3x Redis, 1.1x RabbitMQ``."""
    peers = [name for name in LEGEND if name != SUBJECT]
    found = {LEGEND[name]: group.ratio(name) for name in peers}
    return ", ".join(f"{ratio:.1f}x {name}" for name, ratio in found.items() if ratio is not None)


def footer(data: dict[str, Any]) -> str:
    machine, servers = data["machine"], data["servers"]
    names = ", ".join(servers[name].partition(" (")[0] for name in LEGEND if name in servers)
    return (
        f"No-op tasks, all on one machine ({machine['machine']}), {machine['date'][:10]}; {names}."
    )


@click.command()
@click.argument("readings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(readings: Path) -> None:
    """Draw READINGS, a file that ``--json`` or ``--publish`` has written."""
    write_charts(json.loads(readings.read_text(encoding="utf-8")), readings.parent)


if __name__ == "__main__":
    main()
