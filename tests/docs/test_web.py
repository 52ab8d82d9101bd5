"""Hold the reference of the web page against its code."""

from __future__ import annotations

import inspect

import pytest

from .documents import ROOT, read_tables

pytest.importorskip("starlette")

from pgjobs_celery.cli.web import web
from pgjobs_celery.web import dashboard, endpoint, health
from pgjobs_celery.web.roles import PERMISSIONS
from pgjobs_celery.web.security import LARGEST_FORM, MOST_FIELDS

REFERENCE = ROOT / "docs" / "reference"


def rows(file: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without backticks."""
    found = [
        row for title, table in read_tables(REFERENCE / file) if title == heading for row in table
    ]
    assert found, heading
    return [[cell.strip("`") for cell in row] for row in found]


def test_every_option_is_described_with_its_default():
    shown = {row[0]: row[1] for row in rows("web.md", "`dashboard()`")}
    there = {}
    for name, parameter in inspect.signature(dashboard).parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty:
            there[name] = ""
        else:
            there[name] = f'"{default}"' if isinstance(default, str) else repr(default)
            if name == "role":
                there[name] = '"viewer"'
    assert shown == there


def test_every_action_is_described_with_its_role():
    shown = {row[0]: row[1] for row in rows("web.md", "Actions")}
    assert shown == {action: str(role) for action, role in PERMISSIONS.items()}


def test_every_option_of_the_command_is_described():
    text = (REFERENCE / "cli.md").read_text().partition("## `web`")[2].partition("\n## ")[0]
    for parameter in web.params:
        assert parameter.opts[0] in text, parameter.name


def test_the_limits_are_those_of_the_code():
    text = (REFERENCE / "web.md").read_text()
    limits = f"{endpoint.PAGE_LIMIT:g} seconds for a page, {endpoint.ACT_LIMIT:g} for an action"
    assert limits in text
    assert f"{LARGEST_FORM // 2**20} MiB or {MOST_FIELDS:,} fields" in text
    assert health.LIMIT == 3
