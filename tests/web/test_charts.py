"""Charts begin at 0, show every value, and are harmless whatever their labels are."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest

pytest.importorskip("jinja2", reason="the extra web is not installed")

from pgjobs_celery.web.charts import (
    HEIGHT,
    WIDTH,
    Chart,
    Layer,
    ceiling,
    curves,
    spark_bars,
    sparkline,
    stacked_bars,
)
from pgjobs_celery.web.words import count, duration

NOW = datetime(2026, 11, 29, 22, 41, tzinfo=timezone.utc)
HOSTILE = "\"'><script>alert(1)</script>&\u202e"


def chart(*layers: Layer, **more: object) -> Chart:
    times = [NOW - timedelta(minutes=back) for back in reversed(range(len(layers[0].values)))]
    return Chart("Jobs", times, layers, count, 60.0, **more)  # type: ignore[arg-type]


def read(markup: object) -> ElementTree.Element:
    """As XML, which a browser's parser is more lenient than."""
    return ElementTree.fromstring(str(markup).replace("&nbsp;", " "))


def bars(figure: ElementTree.Element, css: str) -> list[tuple[float, float, float]]:
    """Where each bar of a layer begins, where its foot is, and how tall it is."""
    return [
        (float(x), float(foot), float(tall))
        for path in figure.iter("path")
        if path.get("class") == css
        for x, foot, tall in re.findall(r"M([\d.]+) ([\d.]+)v-([\d.]+)", path.get("d", ""))
    ]


def test_bars_stand_upon_each_other_from_zero():
    figure = read(
        stacked_bars(
            chart(Layer("ok", "succeeded", [4, 0, 8]), Layer("bad", "failed", [1, 2, None]))
        )
    )
    step, unit = WIDTH / 3, HEIGHT / 10  # the axis ends at 10
    assert [(foot, tall) for _, foot, tall in bars(figure, "succeeded")] == [
        (HEIGHT, 4 * unit), (HEIGHT, 8 * unit),
    ]  # fmt: skip
    assert [(foot, tall) for _, foot, tall in bars(figure, "failed")] == [
        (HEIGHT - 4 * unit, unit), (HEIGHT, 2 * unit),
    ]  # fmt: skip
    assert [int(x // step) for x, _, _ in bars(figure, "succeeded")] == [0, 2]


def test_the_smallest_bar_can_be_seen():
    figure = read(stacked_bars(chart(Layer("ok", "succeeded", [1, 100_000]))))
    assert bars(figure, "succeeded")[0][2] >= 1


def test_each_value_can_be_read_by_pointing_and_from_the_table():
    figure = read(
        stacked_bars(
            chart(Layer("ok", "succeeded", [4, 0, 12345]), Layer("bad", "failed", [0, 0, 2]))
        )
    )
    titles = [title.text for title in figure.iter("title")]
    assert titles[-1] == "29 Nov 22:41 UTC: ok 12,345, bad 2"
    assert len(titles) == 3
    cells = ["".join(row.itertext()) for row in figure.iter("tr")]
    assert cells == ["Fromokbad", "29 Nov 22:41 UTC12,3452", "29 Nov 22:39 UTC40"]


def test_the_axis_begins_at_zero():
    figure = read(curves(chart(Layer("p50", "p50", [40.0, 37.0, 41.0]))))
    (scale,) = (each for each in figure.iter("ol") if each.get("class") == "scale")
    assert [each.text for each in scale] == ["50", "25", "0"]


def test_a_line_is_broken_where_nothing_was():
    figure = read(curves(chart(Layer("p50", "p50", [1.0, 2.0, None, 2.0, 1.0, None, 1.0]))))
    (line,) = (each for each in figure.iter("path") if each.get("class") == "line p50")
    pieces = line.get("d", "").split("M")[1:]
    assert [piece.count("L") for piece in pieces] == [1, 1, 0]
    assert "h" in pieces[-1]  # a value alone is seen
    assert len(list(figure.iter("title"))) == 5


@pytest.mark.parametrize("draw", [stacked_bars, curves])
@pytest.mark.parametrize("values", [[], [None, None]])
def test_a_chart_without_values_says_so(draw, values):
    figure = read(draw(chart(Layer("p50", "p50", values), empty="Nothing here.")))
    assert "Nothing here." in "".join(figure.itertext())
    assert list(figure.iter("svg")) == []


def test_bars_that_are_all_zero_are_no_values():
    assert "<svg" not in stacked_bars(chart(Layer("ok", "succeeded", [0, 0])))


def test_what_was_not_counted_is_marked():
    layer = Layer("ok", "succeeded", [0, 0, 1, 1])
    figure = read(stacked_bars(chart(layer, since=NOW - timedelta(minutes=1))))
    (unknown,) = (each for each in figure.iter("rect") if each.get("class") == "unknown")
    assert float(unknown.get("width", 0)) == WIDTH / 2
    assert "unknown" not in stacked_bars(chart(layer, since=NOW - timedelta(hours=1)))


def test_no_style_and_no_script_is_in_a_chart():
    for markup in (
        stacked_bars(chart(Layer(HOSTILE, "succeeded", [1]))),
        curves(chart(Layer(HOSTILE, "p50", [1]))),
        sparkline([1, 2], HOSTILE),
        spark_bars([(1, 2)], HOSTILE),
    ):
        assert "<script" not in markup
        assert "style=" not in markup
        assert "alert" in "".join(read(markup).itertext())


def test_a_sparkline_tells_what_it_shows():
    figure = read(sparkline([0, 5, None, 3], "at most 5 ready"))
    assert [title.text for title in figure.iter("title")] == ["at most 5 ready"]
    assert read(sparkline([], "nothing")).get("role") == "img"
    assert "nan" not in sparkline([0, 0], "nothing").lower()


def test_small_bars_show_good_and_bad():
    figure = read(spark_bars([(3, 1), (0, 0), (0, 4)], "8 ended"))
    assert len(bars(figure, "succeeded")) == 1
    assert [(foot, tall) for _, foot, tall in bars(figure, "failed")] == [(5.0, 5.0), (20.0, 20.0)]


@pytest.mark.parametrize(
    ("value", "is_time", "end"),
    [
        (0, False, 1), (1, False, 1), (3, False, 5), (37, False, 50), (100, False, 100),
        (101, False, 200), (0.013, True, 0.02), (0.7, True, 1.0), (1.5, True, 2.0),
        (100, True, 120.0), (4000, True, 7200.0), (90_000, True, 100_000.0),
        (float("inf"), False, 1.0),
    ],
)  # fmt: skip
def test_an_axis_ends_at_a_round_number(value, is_time, end):
    assert ceiling(value, is_time) == pytest.approx(end)


def test_an_axis_is_never_too_short_nor_much_too_long():
    for step in range(1, 2000):
        for is_time in (False, True):
            value = 1.013**step / 1000
            assert value <= ceiling(value, is_time) * (1 + 1e-6) <= value * 2.51


def test_durations_are_written_with_their_units():
    markup = curves(
        Chart("Wait", [NOW], [Layer("p50", "p50", [0.25])], duration, 60.0, is_time=True)
    )
    assert "250 ms" in markup
