"""Whether a pool of threads runs anything."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from pgjobs_celery.worker.overseer import runs_nothing
from tests.support.waiting import wait_for


def test_a_thread_that_runs_a_task_is_seen_however_many_the_executor_counts_as_idle():
    end = threading.Event()
    with ThreadPoolExecutor(2) as executor:
        pool = SimpleNamespace(executor=executor)
        assert runs_nothing(pool)
        begun = threading.Event()
        task = executor.submit(lambda: begun.set() or end.wait())
        begun.wait()
        # As threads leave it that take a job just as they are about to wait.
        executor._idle_semaphore.release(2)
        assert not runs_nothing(pool)
        end.set()
        task.result()
        wait_for(lambda: runs_nothing(pool))
