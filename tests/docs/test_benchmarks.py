"""The chart and the table of published numbers come from the same readings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.panels import find_gaps, read_panels

from .documents import ROOT, read_tables

RESULTS = ROOT / "benchmarks" / "results"

#: The newest readings: their file is named after their day.
NEWEST = max(RESULTS.glob("*.json"))

#: The table's first rows, in the order of the chart; the others are not in it.
IN_CHART = ("drain", "`delay()", "the same", "a chord")


def published() -> dict[str, list[str]]:
    _, rows = next(read_tables(ROOT / "benchmarks" / "README.md"))
    return {row[0]: row[1:] for row in rows if row[0].startswith(IN_CHART)}


def test_the_chart_has_every_bar():
    assert find_gaps(read_panels(json.loads(NEWEST.read_text()))) == []


def test_the_table_shows_what_the_chart_shows():
    shown = {tuple(cell.partition(" / ")[0] for cell in row[:3]) for row in published().values()}
    drawn = {
        tuple(
            "-" if value is None else f"{value:,.{panel.digits}f}"
            for value in group.values.values()
        )
        for panel in read_panels(json.loads(NEWEST.read_text()))
        for group in panel.groups
    }
    assert drawn == shown


def test_the_documents_name_the_readings_and_the_charts():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert f"results/{NEWEST.name}" in text
    for path in (ROOT / "README.md", ROOT / "benchmarks" / "README.md"):
        found = re.findall(r'(?:srcset|src)="([^"]+)"', path.read_text())
        assert [Path(each).name for each in found] == ["chart-dark.svg", "chart-light.svg"]
        assert all((path.parent / each).is_file() for each in found)


def test_the_chart_is_drawn_from_the_readings(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the extra bench is not installed")
    from benchmarks.chart import write_charts

    write_charts(json.loads(NEWEST.read_text()), tmp_path)
    for theme in ("light", "dark"):
        text = (tmp_path / f"chart-{theme}.svg").read_text()
        # Letters are drawn as paths, and their text stands in comments.
        for panel in read_panels(json.loads(NEWEST.read_text())):
            assert f"<!-- {panel.title} -->" in text
            for group in panel.groups:
                for value in group.values.values():
                    assert value is None or f"<!-- {value:,.{panel.digits}f} -->" in text
