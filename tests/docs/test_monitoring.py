"""The dashboard and the alerts ask for nothing that a scrape does not show."""

from __future__ import annotations

import json
import re

import pytest

from pgjobs_celery.control.metrics import METRICS, Reading
from pgjobs_celery.control.prometheus import exposition

from .documents import ROOT

FOLDER = ROOT / "examples" / "monitoring"
_NAME = re.compile(r"\b(?:celery|pgjobs)_\w+")
#: What Prometheus and the target add.
ADDED = {"le"}


def expressions() -> list[str]:
    """Each expression of the dashboard and of the alerts."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [variable["query"] for variable in dashboard["templating"]["list"]]
    rules = (FOLDER / "alerts.yml").read_text()
    # Up to the next key: of one line, or folded.
    found += re.findall(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", rules, re.DOTALL)
    assert len(found) > 30
    return found


def asked() -> set[str]:
    """The names of all that is asked for."""
    names = {name for each in expressions() for name in _NAME.findall(each)}
    return names - {"pgjobs_maintenance"}


def shown(text: str) -> set[str]:
    """The names of the samples that a scrape may have, by its own text."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        names |= (
            {name, *(f"{name}_{end}" for end in ("bucket", "sum", "count"))}
            if (kind == "histogram")
            else {name}
        )
    return names


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_names_what_is_shown(expression: str):
    names = set(_NAME.findall(expression)) - {"pgjobs_maintenance"}
    assert names <= shown(exposition(Reading())[0].decode())
    labels = {
        name
        for group in re.findall(r"(?:by|on) \(([^)]*)\)", expression)
        for name in group.split(", ")
    }
    labels |= set(re.findall(r"\{(\w+)=", expression))
    known = {
        label
        for name in names
        for label in METRICS[
            re.sub(r"_(total|bucket|sum|count)$", "", name) if name not in METRICS else name
        ].labels
    }
    assert labels <= known | ADDED


def test_every_alert_says_what_is_wrong():
    rules = (FOLDER / "alerts.yml").read_text()
    assert rules.count("- alert:") == rules.count("summary:") == rules.count("severity:")
