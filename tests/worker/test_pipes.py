"""A task goes to its child by one write where the pipe takes it whole, and arrives in any case."""

from __future__ import annotations

import json
import subprocess
import sys
from select import PIPE_BUF


def test_a_small_task_is_written_at_once_and_a_large_one_arrives_too():
    around = range(PIPE_BUF - 100, PIPE_BUF, 5)
    sizes = [0, PIPE_BUF // 2, *around, PIPE_BUF, 1_000_000]
    found = subprocess.run(
        [sys.executable, "-m", "tests.worker.piped", *map(str, sizes)],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    sent = [json.loads(line) for line in found.splitlines()]
    assert [(size, answer) for size, answer, _ in sent] == [(size, size) for size in sizes]
    for _, _, writes in sent:
        # Celery's way goes on where the pipe is full.
        assert len(writes) == 1 if sum(writes) <= PIPE_BUF else writes[0] == 4
    assert {len(writes) == 1 for size, _, writes in sent if size in around} == {True, False}
