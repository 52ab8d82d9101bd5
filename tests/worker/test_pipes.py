"""A small task goes to its child by one write, without a look at its pipe, and each arrives."""

from __future__ import annotations

import json
import subprocess
import sys
from select import PIPE_BUF

import pytest


@pytest.mark.parametrize("strategy", ["fair", "fast"])
def test_a_small_task_is_written_at_once_and_a_large_one_arrives_too(strategy: str):
    around = range(PIPE_BUF - 100, PIPE_BUF, 5)
    sizes = [0, PIPE_BUF // 2, *around, PIPE_BUF, 1_000_000]
    found = subprocess.run(
        [sys.executable, "-m", "tests.worker.piped", strategy, *map(str, sizes)],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    sent = [json.loads(line) for line in found.splitlines()]
    assert [(size, answer) for size, answer, *_ in sent] == [(size, size) for size in sizes]
    for _, _, writes, turns, asked in sent:
        # Celery's way goes on where the pipe is full.
        if sum(writes) > PIPE_BUF:
            assert writes[0] == 4
            continue
        assert len(writes) == 1
        if strategy == "fair":
            assert asked == 0
            assert turns <= 2  # that it has begun, and that it has ended
        else:
            assert asked > 0
    assert {len(writes) == 1 for size, _, writes, *_ in sent if size in around} == {True, False}
