"""The time that the machine took is told apart from that of the tested."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from .busyness import Stopwatch

HOG = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
#: For how long a thread waits for a processor in its life, in nanoseconds.
LONG = 100_000_000

pytestmark = pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(), reason="needs Linux's /proc"
)


def test_a_thread_that_ends_takes_no_wait_along() -> None:
    processor = min(os.sched_getaffinity(0))
    has_waited, may_end = threading.Event(), threading.Event()

    def share_a_processor() -> None:
        os.sched_setaffinity(0, {processor})  # this thread's
        while int(Path("/proc/thread-self/schedstat").read_text().split()[1]) < LONG:
            pass
        has_waited.set()
        may_end.wait()

    hog = subprocess.Popen([sys.executable, "-c", HOG, str(processor)])
    try:
        thread = threading.Thread(target=share_a_processor)
        thread.start()
        assert has_waited.wait(60)
    finally:
        hog.kill()
        hog.wait()
    watch = Stopwatch()
    may_end.set()
    thread.join()
    assert watch.own() <= watch.elapsed()
