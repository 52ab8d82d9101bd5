"""Several processes take the files in an order that keeps all of them at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .order import LONGEST, in_order_of_work

ROOT = Path(__file__).parents[2]


def test_the_longest_files_exist():
    assert [name for name in LONGEST if not (ROOT / name).exists()] == []


def test_every_test_keeps_its_place_in_its_file(request: pytest.FixtureRequest):
    items: list[Any] = list(request.session.items)
    ordered = in_order_of_work(items)
    assert sorted(map(id, ordered)) == sorted(map(id, items))
    assert [item for item in ordered if item.path == request.path] == [
        item for item in items if item.path == request.path
    ]
