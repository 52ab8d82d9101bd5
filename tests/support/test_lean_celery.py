"""The ``celery`` command that most tests start is the real one, without what others have added."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands(program: str) -> set[str]:
    """The commands that ``python -m program`` lists."""
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    _, _, listed = done.stdout.partition("Commands:\n")
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def test_it_has_the_commands_of_celery_and_ours():
    lean = commands("tests.support.lean_celery")
    assert {"worker", "beat", "pgjobs"} <= lean
    assert commands("celery") - lean <= {"flower"}
