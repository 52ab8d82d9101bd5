"""Django on psycopg2, in another process: once it is imported it stays with its driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import DSN

pytest.importorskip("psycopg2")


HERE = Path(__file__).parent
#: What depends on it.
TESTS = ("test_transactions.py", "test_app.py::test_a_job_can_be_found_by_whatever_it_has")


def test_transactions_and_the_model_work_on_psycopg2(server_url: str):
    if os.environ.get("PGJOBS_TEST_DJANGO_DRIVER"):
        pytest.skip("this is that process")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(str(HERE / name) for name in TESTS),
        ],
        env={
            **os.environ,
            "PGJOBS_TEST_DJANGO_DRIVER": "psycopg2",
            "PGJOBS_TEST_DSN": DSN or server_url,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
