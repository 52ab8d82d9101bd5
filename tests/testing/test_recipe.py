"""The tests of examples/recipe, as a reader runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .test_plugin import load

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "recipe"


@pytest.mark.e2e
def test_the_recipes_tests_pass(server_url: str):
    for name in ("fastapi", "sqlalchemy"):
        pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *load()],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PGJOBS_TEST_DSN": server_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2\d passed", done.stdout), done.stdout
