"""A task that waits for a process of the pool can be taken back, and one that was sent cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_what_no_child_was_sent_is_taken_back_and_never_runs(tmp_path: Path) -> None:
    """A job in line again must not begin here too, whatever the event loop still sends."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.worker.taken", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    taken, ran = json.loads(found)
    assert taken == [False, True, True]
    assert ran == ["first", "third"]
