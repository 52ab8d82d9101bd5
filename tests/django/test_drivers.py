"""Django on psycopg2, in another process: once it is imported it stays with its driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import DSN

pytest.importorskip("psycopg2")


#: What depends on it.
FILES = [Path(__file__).with_name(f"test_{name}.py") for name in ("transactions", "aliases", "app")]


def test_all_of_it_holds_on_psycopg2(server_url: str):
    if os.environ.get("PGJOBS_TEST_DJANGO_DRIVER"):
        pytest.skip("this is that process")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(Path(__file__).parent),
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
