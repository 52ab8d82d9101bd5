"""An app that keeps Redis needs no database driver to be tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
sys.modules["psycopg"] = None
from celery import Celery
from pgjobs_celery.testing import advance, assert_enqueued, drain_queue, perform_job, testing

app = Celery("proj", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0")

@app.task(bind=True)
def add(self, x, y):
    if self.request.retries == 0:
        raise self.retry(countdown=30)
    return x + y

assert perform_job(add, [2, 3], attempt=2).get() == 5
with testing(app):
    sent = add.delay(2, 3)
    assert_enqueued(add, args=[2, 3])
    assert drain_queue() == {"retried": 1}
    advance(30)
    assert drain_queue() == {"completed": 1}
    assert sent.get() == 5
"""


def test_jobs_are_asserted_and_run_without_psycopg():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
