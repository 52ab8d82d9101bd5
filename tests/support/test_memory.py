"""Temporary folders are in memory only where a whole suite's fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from .memory import find_memory

pytestmark = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells of both")


def test_a_place_is_taken_only_if_it_has_room():
    assert find_memory(Path("/"), room=0) == Path("/")
    assert find_memory(Path("/"), room=1 << 60) is None


def test_where_there_is_none_the_disk_is_taken(tmp_path: Path):
    assert find_memory(tmp_path / "missing") is None
