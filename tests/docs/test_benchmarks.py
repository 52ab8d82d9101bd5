"""The chart, the plots and the tables of published numbers come from the same readings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measures import MEASURES
from benchmarks.measures.enqueue import Enqueue
from benchmarks.measures.latency import Latency
from benchmarks.panels import find_gaps, read_panels
from benchmarks.publish import publish
from benchmarks.report import Report, to_json
from benchmarks.runner import Failure, Results
from benchmarks.table import BEGIN, END, PLOTS, Readings, newest, render, section

from .documents import ROOT

NEWEST = newest()


def made_up() -> dict[str, Any]:
    """Readings of a full run, every system with another number."""
    readings: dict[str, Any] = {}
    for measure in MEASURES:
        keys = {metric.key for metric in measure.metrics}
        if measure.name == "latency":
            keys = {f"{kind}{p}" for kind in ("start", "trip") for p in range(1, 100)}
        for key in keys:
            of_metric = readings.setdefault(measure.title, {}).setdefault(key, {})
            for number, system in enumerate(sorted(measure.systems), start=1):
                of_metric[system] = [number * 1_000.0]
    machine = {"date": "2026-01-02 03:04 UTC", "machine": "a", "fdatasync": "b", "python": "c"}
    return {
        "machine": {**machine, "packages": "d"},
        "servers": {"pgjobs": "PostgreSQL 15"},
        "rounds": 3,
        "readings": readings,
        "failures": [],
        "disturbances": [],
    }


def test_the_chart_has_every_bar():
    assert find_gaps(read_panels(json.loads(NEWEST.read_text()))) == []


def test_the_tables_are_those_of_the_newest_readings():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    written = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == section(NEWEST), "run python -m benchmarks.table"


def test_the_first_page_says_the_same():
    readings = Readings(json.loads(NEWEST.read_text()))
    text = (ROOT / "README.md").read_text()
    numbers = [
        f"{readings.median(Enqueue.title, 'rate', system):,.0f}"
        for system in ("pgjobs", "redis", "rabbitmq")
    ] + [
        f"{readings.median(Latency.title, key, system):.1f}"
        for key in ("start50", "trip50")
        for system in ("pgjobs", "redis")
    ]
    missing = [number for number in (NEWEST.stem, *numbers) if number not in text]
    assert missing == [], "README.md does not name these of the newest readings"


def test_the_documents_name_the_charts():
    for path in (ROOT / "README.md", ROOT / "benchmarks" / "README.md"):
        found = re.findall(r'(?:srcset|src)="([^"]+)"', path.read_text())
        assert {"chart-dark.svg", "chart-light.svg"} <= {Path(each).name for each in found}
        assert all((path.parent / each).is_file() for each in found)


def test_the_tables_of_a_full_run_have_every_system_and_a_row_for_what_is_there():
    data = made_up()
    text = render(data, "2026-01-02.json", ["drain"])
    assert "| `oban` |" in text
    assert "Celery alone" in text
    assert 'srcset="results/drain-dark.svg"' in text
    del data["readings"][Latency.title]
    assert "`delay()` to start" not in render(data, "2026-01-02.json", [])


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


def test_the_plots_are_drawn_from_what_the_readings_have(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the extra bench is not installed")
    from benchmarks.plots import write_plots

    data = made_up()
    assert write_plots(data, tmp_path) == list(PLOTS)
    for name in PLOTS:
        for theme in ("light", "dark"):
            assert (
                "<!-- pgjobs-celery (PostgreSQL) -->"
                in (tmp_path / f"{name}-{theme}.svg").read_text()
            )
    assert "<!-- procrastinate" in (tmp_path / "drain-light.svg").read_text()

    del data["readings"][Latency.title]
    assert write_plots(data, tmp_path) == [name for name in PLOTS if name != "latency"]
    assert not (tmp_path / "latency-light.svg").exists(), "it was of older readings"


def test_a_whole_run_is_published_as_a_whole_and_a_part_not_at_all(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the extra bench is not installed")
    data, folder, readme = made_up(), tmp_path / "results", tmp_path / "README.md"
    folder.mkdir()
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    results = Results(readings=data["readings"])
    results.failures.append(Failure("queues", "redis", 1, "it hangs", False))
    report = Report(data["machine"], data["servers"], {}, 3, list(MEASURES), results)

    assert publish(json.loads(to_json(report)), folder).startswith("published")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "Failed in a round, which is not counted: `redis` (queues)." in text
    assert "(results/2026-01-02.json)" in text
    names = {path.name for path in folder.iterdir()}
    assert names == {"2026-01-02.json"} | {
        f"{name}-{theme}.svg" for name in ("chart", *PLOTS) for theme in ("light", "dark")
    }

    results.failures.append(Failure(Latency.title, "redis", 1, "a task ran twice", False))
    readme.write_text("untouched")
    readings = json.loads(to_json(report))
    assert publish(readings, folder) == "not published: redis has failed: a task ran twice"

    del readings["readings"][Enqueue.title]
    assert publish(readings, folder).startswith("not published: delay() per second")
    assert readme.read_text() == "untouched"
