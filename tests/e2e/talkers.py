"""The app of the tests of what a pool's child has to say when it leaves.

Each child, when it leaves, writes that down, waits until it may, and talks: as many messages as it
is told, which mean nothing to the pool, before its last one.

- ``PGJOBS_TEST_FOLDER``: where it writes ``leaving``, and waits for ``go``;
- ``PGJOBS_TEST_TALK``: how many messages of 4 kB.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from billiard.pool import Worker
from celery import signals

from .tasks import app, append, wait_for_file

FOLDER = Path(os.environ.get("PGJOBS_TEST_FOLDER", ""))


@signals.worker_process_shutdown.connect
def talk(**_: Any) -> None:
    append(str(FOLDER / "leaving"), os.getpid())
    wait_for_file(str(FOLDER / "go"))
    for number in range(int(os.environ.get("PGJOBS_TEST_TALK", "0"))):
        find_child().outq.put((f"message {number}".ljust(4096), ()))


def find_child() -> Any:
    """billiard's object that runs this child; it is below us on the stack."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), Worker):
        frame = frame.f_back
    assert frame is not None
    return frame.f_locals["self"]


@app.task
def leave(length: int) -> None:
    """Its status, a text, is as long as it is told."""
    sys.exit("leave".ljust(length, "é"))
