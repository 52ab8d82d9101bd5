"""Charts as SVG with their labels in HTML, drawn here and without a script.

Only the marks are in the SVG, which is stretched to the width that there is; the labels beside it
keep their size on a phone. A value can be read by pointing at its bucket, and from a table. All
axes begin at 0. Colours are those of the style sheet, by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from markupsafe import Markup, escape

Value = float | None
Format = Callable[[Value], str]

#: The size of the drawing, in units of its own; a bucket is a part of the width.
WIDTH, HEIGHT = 1000.0, 100.0
#: The size of a small chart.
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 20.0
#: Where an axis may end: these, times a power of 10; of times these are the first ones.
STEPS = (1.0, 2.0, 5.0, 10.0)
SPANS = (
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
    18_000.0, 43_200.0, 86_400.0,
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One thing in a chart: its word, the class that colours it, and a value for each bucket."""

    label: str
    css: str
    #: None where there is nothing to be shown: a gap in a line, no bar.
    values: Sequence[Value]


@dataclass(frozen=True)
class Chart:
    """All that a chart of buckets shows."""

    title: str
    #: When each bucket begins.
    times: Sequence[datetime]
    layers: Sequence[Layer]
    format: Format
    #: How long a bucket is, in seconds.
    width: float
    #: The values are durations in seconds.
    is_time: bool = False
    #: The words where no bucket has a value.
    empty: str = "Nothing ended in this time."
    #: When counting began; what lies before is marked as unknown.
    since: datetime | None = None


def stacked_bars(chart: Chart) -> Markup:
    """The layers upon each other, a bar for each bucket; the first one at the bottom."""
    sums = [
        sum(layer.values[place] or 0 for layer in chart.layers) for place in range(len(chart.times))
    ]
    top = ceiling(max(sums, default=0.0), chart.is_time)
    paths, base = [], [0.0] * len(sums)
    for layer in chart.layers:
        parts = []
        for place, value in enumerate(layer.values):
            if value:
                parts.append(_bar(place, len(sums), base[place] / top, value / top))
                base[place] += value
        if parts:
            paths.append(Markup('<path class="{}" d="{}"/>').format(layer.css, "".join(parts)))
    return _figure(chart, top, Markup("").join(paths), is_empty=not any(sums))


def curves(chart: Chart) -> Markup:
    """Each layer as a line; where a bucket has no value the line is broken, not drawn at 0."""
    known = [value for layer in chart.layers for value in layer.values if value is not None]
    top = ceiling(max(known, default=0.0), chart.is_time)
    count = len(chart.times)
    paths = [
        Markup('<path class="line {}" d="{}"/>').format(
            layer.css, "".join(_strokes(layer.values, top, WIDTH, HEIGHT, count))
        )
        for layer in chart.layers
    ]
    return _figure(chart, top, Markup("").join(paths), is_empty=not known)


def sparkline(values: Sequence[Value], label: str, css: str = "depth") -> Markup:
    """A small line without axes, its area filled; ``label`` says what it shows, and is read."""
    known = [value for value in values if value is not None]
    top = max(known, default=0.0) or 1.0
    width, height = SPARK_WIDTH, SPARK_HEIGHT
    strokes = _strokes(values, top, width, height, len(values))
    areas = "".join(f"{each}V{height:g}H{_number(_first(each))}z" for each in strokes)
    return Markup(
        '<svg class="spark {css}" viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none"'
        ' role="img"><title>{label}</title>'
        '<path class="area" d="{areas}"/><path class="line" d="{lines}"/></svg>'
    ).format(css=css, width=width, height=height, label=label, areas=areas, lines="".join(strokes))


def spark_bars(parts: Sequence[tuple[float, float]], label: str) -> Markup:
    """Small bars without axes: of each bucket how many went well, and how many did not upon it."""
    top = max((good + bad for good, bad in parts), default=0.0) or 1.0
    good = "".join(
        _bar(place, len(parts), 0.0, value / top, SPARK_WIDTH, SPARK_HEIGHT)
        for place, (value, _) in enumerate(parts)
        if value
    )
    bad = "".join(
        _bar(place, len(parts), value / top, more / top, SPARK_WIDTH, SPARK_HEIGHT)
        for place, (value, more) in enumerate(parts)
        if more
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none"'
        ' role="img"><title>{label}</title>'
        '<path class="succeeded" d="{good}"/><path class="failed" d="{bad}"/></svg>'
    ).format(width=SPARK_WIDTH, height=SPARK_HEIGHT, label=label, good=good, bad=bad)


def ceiling(value: float, is_time: bool = False) -> float:
    """Where an axis ends that has to show ``value``: a round number, at most 2.5 times as much.

    >>> ceiling(37.0), ceiling(0.013), ceiling(100.0, is_time=True)
    (50.0, 0.02, 120.0)
    """
    if value <= 0 or not math.isfinite(value):
        return 1.0
    if is_time and 1 < value <= SPANS[-1]:
        return next(span for span in SPANS if span >= value)
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (round(step * power, 12) for step in STEPS if step * power >= value * (1 - 1e-9)),
        10 * power,
    )


def _figure(chart: Chart, top: float, marks: Markup, *, is_empty: bool) -> Markup:
    """The frame of a chart: title, words, axes, marks, and what is read at each bucket."""
    if is_empty:
        return Markup(
            '<figure class="chart"><figcaption>{}</figcaption><p class="blank">{}</p></figure>'
        ).format(chart.title, chart.empty)
    # The scale may be any: the layers name a number of their own only where there is one.
    words = Markup("").join(
        Markup('<span class="key {}">{}</span>').format(layer.css, layer.label)
        for layer in chart.layers
    )
    scale = Markup("").join(
        Markup("<li>{}</li>").format(chart.format(value)) for value in (top, top / 2, 0.0)
    )
    grid = Markup('<path class="grid" d="M0 0.5H{w:g}M0 {h:g}H{w:g}"/>').format(
        w=WIDTH, h=HEIGHT / 2
    )
    return Markup(
        '<figure class="chart"><figcaption>{title} {words}</figcaption><div class="plot">'
        '<ol class="scale" aria-hidden="true">{scale}</ol>'
        '<svg viewBox="0 0 {w:g} {h:g}" preserveAspectRatio="none" role="img" aria-label="{title}">'
        "{unknown}{grid}{marks}{hits}</svg>"
        '<ol class="times" aria-hidden="true">{times}</ol></div>{table}</figure>'
    ).format(
        title=chart.title, words=words, scale=scale, w=WIDTH, h=HEIGHT, unknown=_unknown(chart),
        grid=grid, marks=marks, hits=_hits(chart), times=_times(chart), table=_table(chart),
    )  # fmt: skip


def _unknown(chart: Chart) -> Markup:
    """The time before counting began."""
    if chart.since is None:
        return Markup("")
    places = sum(time < chart.since for time in chart.times)
    if not places:
        return Markup("")
    return Markup(
        '<rect class="unknown" x="0" y="0" width="{}" height="{:g}">'
        "<title>Not counted yet</title></rect>"
    ).format(_number(places * WIDTH / len(chart.times)), HEIGHT)


def _hits(chart: Chart) -> Markup:
    """Over each bucket a field that tells its values to the pointer."""
    step = WIDTH / len(chart.times)
    wide, labels = _number(step), [escape(layer.label) for layer in chart.layers]
    found = []
    for place, time in enumerate(chart.times):
        texts = [
            f"{label} {escape(chart.format(value))}"
            for label, layer in zip(labels, chart.layers, strict=True)
            if (value := layer.values[place]) is not None
        ]
        if texts:
            found.append(
                f'<path class="hit" d="M{_number(place * step)} 0h{wide}v{HEIGHT:g}h-{wide}z">'
                f"<title>{clock(time)}: {', '.join(texts)}</title></path>"
            )
    # Put together as text, for it is most of a page: all that is not ours is escaped above.
    return Markup("".join(found))


def _times(chart: Chart) -> Markup:
    """Where the first bucket, the middle one and the last begin, and that the last one is now."""
    first, middle = chart.times[0], chart.times[len(chart.times) // 2]
    is_long = chart.width * len(chart.times) > 86_400
    return Markup("<li>{}</li><li>{}</li><li>now</li>").format(
        _time(first, is_long), _time(middle, is_long)
    )


def _time(at: datetime, is_long: bool) -> Markup:
    utc = at.astimezone(timezone.utc)
    shown = f"{utc:%d %b}" if is_long else f"{utc:%H:%M} UTC"
    return Markup('<span title="{}">{}</span>').format(f"{utc:%Y-%m-%d %H:%M} UTC", shown)


def _table(chart: Chart) -> Markup:
    """The values of all buckets that have any, the newest first."""
    head = "".join(f'<th class="number">{escape(layer.label)}</th>' for layer in chart.layers)
    rows = []
    for place in range(len(chart.times) - 1, -1, -1):
        values = [layer.values[place] for layer in chart.layers]
        if any(values):
            cells = "".join(f"<td>{escape(chart.format(value))}</td>" for value in values)
            rows.append(f"<tr><th>{clock(chart.times[place])}</th>{cells}</tr>")
    return Markup(
        '<details class="values"><summary>Values</summary><div class="scroll"><table><thead><tr>'
        f"<th>From</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def clock(at: datetime) -> str:
    """A time with its day, in UTC."""
    return f"{at.astimezone(timezone.utc):%d %b %H:%M} UTC"


def _bar(
    place: int, count: int, low: float, part: float, width: float = WIDTH, height: float = HEIGHT
) -> str:
    """A bar of a path, on what is below it, with a gap to the next; never too small to be seen."""
    step = width / count
    gap = step * 0.15
    tall = max(part * height, height / 100)
    left, bottom = place * step + gap / 2, height * (1 - low)
    return (
        f"M{_number(left)} {_number(bottom)}v-{_number(tall)}"
        f"h{_number(step - gap)}v{_number(tall)}z"
    )


def _strokes(
    values: Sequence[Value], top: float, width: float, height: float, count: int
) -> list[str]:
    """The line through the middles of the buckets, in pieces where values are missing."""
    step = width / max(1, count)
    strokes: list[str] = []
    is_on = False
    for place, value in enumerate(values):
        if value is None:
            is_on = False
            continue
        x, y = _number((place + 0.5) * step), _number(height * (1 - min(1.0, value / top)))
        if is_on:
            strokes[-1] += f"L{x} {y}"
        else:
            # A value alone is a short dash: a line of no length would not be seen.
            alone = place + 1 >= count or values[place + 1] is None
            x = _number((place + 0.25) * step) if alone else x
            strokes.append(f"M{x} {y}" + (f"h{_number(step / 2)}" if alone else ""))
        is_on = True
    return strokes


def _first(stroke: str) -> float:
    """Where a stroke begins."""
    return float(stroke[1:].partition(" ")[0])


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
