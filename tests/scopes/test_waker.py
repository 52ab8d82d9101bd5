"""A thread that waits for sockets, woken by others."""

from __future__ import annotations

import select
import sys
import threading

from pgjobs_celery.scopes.waker import Waker


def test_no_wake_up_is_lost_between_two_looks() -> None:
    waker = Waker()
    is_over = threading.Event()

    def finish_tasks() -> None:
        while not is_over.is_set():
            waker.wake()

    threads = [threading.Thread(target=finish_tasks) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(5_000):
            assert select.select([waker], [], [], 5.0)[0], "nobody wakes us any more"
            waker.drain()
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
        for thread in threads:
            thread.join()
        waker.close()
