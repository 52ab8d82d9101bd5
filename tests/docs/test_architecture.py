"""The page that leads newcomers through the packages names what is there."""

from __future__ import annotations

import re

from .documents import ROOT, read_tables

DOCUMENT = ROOT / "docs" / "explanation" / "architecture.md"
PACKAGE = ROOT / "pgjobs_celery"


def test_every_package_is_in_the_tree():
    tree = re.search(r"```text\npgjobs_celery/\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert tree
    shown = {word.rstrip("/") for word in re.findall(r"^  ?(?:  )?[\w/ ]+/", tree[1], re.MULTILINE)}
    names = {name for line in shown for name in re.findall(r"\w+", line)}
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there <= names


def test_every_place_to_change_something_exists():
    places = {
        (row[0], path)
        for title, rows in read_tables(DOCUMENT)
        if title == "Where do I change X?"
        for row in rows
        for path in re.findall(r"`([\w/]+(?:\.\w+|/))`", row[1])
    }
    assert len(places) > 40
    missing = {
        place for place in places if not any((root / place[1]).exists() for root in (PACKAGE, ROOT))
    }
    assert not missing
