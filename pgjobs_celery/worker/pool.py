"""Ask more of Celery's pools than they offer: billiard's inner names, in one place."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import celery
from billiard.pool import RUN
from celery.concurrency import ALIASES
from celery.worker.state import requests, task_ready

from ..db.rows.nodes import About
from ..db.rows.results import possible_ids
from ..job.rows import Cancellation
from .pipe_io import PipeIO
from .pipes import Pipes
from .stopping import Stop

#: Of how many tasks a worker tells the names: they are 40 kB of its row.
MOST_TASKS = 1000


def is_solo(pool: Any) -> bool:
    """True for Celery's pool that runs each task where the worker's event loop runs."""
    return type(pool).__module__.endswith(".solo")


class WorkerPool:
    """A worker's pool: how much it can take, and what it has begun.

    A job that waits in the pool is one that no other worker can start, and one that is lost with
    this worker (early ack), so that no more are claimed than the pool can begin.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        #: billiard's pool of processes; None where tasks run in this one.
        self._processes: Any = None
        #: The pipes of its processes.
        self._pipes: Pipes | None = None
        self._stop: Stop | None = None
        #: Requests of tasks that a shutdown, or a lost connection, has ended or will.
        self.cancelled: list[Any] = []

    def start(self) -> None:
        """The pool runs: see that it goes on listening to what it has sent, whatever happens."""
        pool = self._consumer.pool
        if self._stop is None:
            self._stop = Stop(self._consumer)
        processes = getattr(pool, "_pool", None)
        if hasattr(processes, "outbound_buffer"):
            self._processes = processes
            if not isinstance(pool.flush, ListeningFlush):
                pool.flush = ListeningFlush(processes)
                self._processes.close = Close(processes)
                self._processes._iterinactive = partial(_find_idle, processes)
                PipeIO(processes, self._consumer.hub)
                self._pipes = Pipes(processes, self._consumer.hub)

    def hear_during(self, pause: Callable[[], None]) -> None:
        """Call ``pause``, which sleeps in a signal handler, and hear what ends meanwhile."""
        if self._pipes is None:
            pause()
        else:
            self._pipes.hear_during(pause)

    def cancel(self, request: Any) -> None:
        """Note that the pool was told to end this request's task; it has yet to say what came."""
        self.cancelled = [each for each in self.cancelled if not each.is_settled]
        self.cancelled.append(request)

    def end(self, cancellation: Cancellation) -> None:
        """Have a job not begin, or end its task; one that runs on is told when it asks."""
        request = requests.get(cancellation.task_id)
        if request is None:
            waiting = (each for bucket in self._buckets() for each, _ in list(bucket.contents))
            request = next((each for each in waiting if each.id == cancellation.task_id), None)
        if hasattr(request, "end_job"):
            request.end_job(self._consumer.pool, cancellation)

    @property
    def has_processes(self) -> bool:
        """True where tasks run in children."""
        return self._processes is not None

    @property
    def holds_loop(self) -> bool:
        """True for the solo pool, whose task runs in the event loop."""
        return is_solo(self._consumer.pool)

    @property
    def begins_late(self) -> bool:
        """True where tasks wait in this process, and get numbers of the pool's own."""
        return bool(getattr(self._consumer.pool, "begins_late", False))

    @property
    def is_ending(self) -> bool:
        """True when what runs was told to end, and the pool will be: nothing else may begin."""
        return self._stop is not None and self._stop.has_begun

    def end_begun(self) -> None:
        """Tell tasks to end of which is heard only now that they had begun before the pool ends."""
        self._consumer.cancel_active_requests()

    def describe(self) -> About:
        """The worker as others see it."""
        tasks = possible_ids(sorted(self._consumer.app.tasks))
        details = {
            "pool": pool_name(self._consumer.controller.pool_cls), "slots": self.slots,
            "celery": celery.__version__,
        }  # fmt: skip
        return About(details, tuple(tasks) if len(tasks) <= MOST_TASKS else None)

    @property
    def slots(self) -> int:
        """How many tasks it runs at once."""
        pool = self._consumer.pool
        # Before Celery 5.7 num_processes of gevent's is what runs.
        return int(getattr(getattr(pool, "_pool", None), "size", None) or pool.num_processes)

    def is_fed_by(self, channel: Any) -> bool:
        """True for the channel over which this worker's tasks come."""
        return getattr(self._consumer.task_consumer, "channel", None) is channel

    def is_limited(self, request: Any) -> bool:
        """True for a request that waits for its rate limit, outside of the pool."""
        return any(request is each for bucket in self._buckets() for each, _ in bucket.contents)

    @property
    def capacity(self) -> int:
        """The pool's processes or threads.

        Of a pool that scales itself, as many as it may have: it grows by what waits for it.
        """
        autoscaler = self._consumer.controller.autoscaler
        return max(self.slots, autoscaler.max_concurrency if autoscaler else 1)

    def _buckets(self) -> list[Any]:
        """The buckets that hold requests for their rate limits."""
        return [bucket for bucket in self._consumer.task_buckets.values() if bucket]

    def take_back(self, request: Any, result: Any) -> bool:
        """Keep a task from being sent to a child; False if one was, or is just being, sent it: the
        child will run it, whatever becomes of us.

        Where tasks run in this process, they ask before they begin (``Message.begin``).
        """
        processes = self._processes
        if processes is None:
            return True
        if result._accepted:
            return False
        try:
            processes.outbound_buffer.remove(result)
        except ValueError:
            # In nobody's hands once Celery has flushed it.
            return processes._cache.get(result._job) is not result
        result.discard()
        # In its turn, for it may begin another task, and we may be in a signal handler.
        self._consumer.hub.call_soon(self._give_place_back, request)
        return True

    def _give_place_back(self, request: Any) -> None:
        task_ready(request)
        if (semaphore := self._consumer.controller.semaphore) is not None:
            semaphore.release()


def pool_name(pool: Any) -> str:
    """The name that ``--pool`` takes; of a pool that is not Celery's, where its class is."""
    place = f"{pool.__module__}:{pool.__qualname__}"
    return next((name for name, known in ALIASES.items() if known == place), place)


def withdraw(pool: Any, task_id: str) -> None:
    """Have a pool of processes forget a task that could not be sent: it would wait for it."""
    processes = getattr(pool, "_pool", None)
    for result in list(getattr(processes, "_cache", {}).values()):
        if result.correlation_id == task_id and not hasattr(result, "_payload"):
            result.discard()


class ListeningFlush:
    """Celery's ``flush`` of a prefork pool, that goes on listening to what a child was sent.

    Celery flushes when the connection is lost and when the worker stops: what it has not sent is
    dropped, which is right, for it goes back in line. But it also forgets what it has sent and not
    yet heard of (5.6, 5.7), or all that runs (5.5). The child runs it all the same, and nobody
    would learn what became of it; put back in line it would run twice.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._flush = pool.flush

    def __call__(self) -> None:
        """Flush, and keep what was sent."""
        pool = self._pool
        sent = [result for result in list(pool._cache.values()) if _was_sent(pool, result)]
        # Now: a child that replaces it may be given the number of its pipe, and the task with it.
        children = [result._write_to for result in sent]
        for result in sent:
            result.discard = _do_nothing
        try:
            self._flush()
        finally:
            for result, child in zip(sent, children, strict=True):
                del result.discard
                if not result.ready():
                    self._keep(result, child)

    def _keep(self, result: Any, child: Any) -> None:
        pool = self._pool
        lives = child in pool._pool
        if lives:
            pool._busy_workers.add(child.inqW_fd)
        if lives or result._accepted:
            pool._cache[result._job] = result
        elif pool._state == RUN:
            # Its child died before it began, and its way to another child was flushed as well.
            pool._cache[result._job] = result
            pool._put_back(result)
        else:
            pool._cache.pop(result._job, None)


def _has_exited(pid: int) -> bool:
    # The pool itself must hear of it, too.
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


class Close:
    """Celery's ``close`` of a prefork pool, after which no child can keep it from ending by dying.

    A child that dies while it writes leaves half a message. Celery reads on until it is whole, or
    nobody is left who could write; but this process holds an end to write as well, for the child
    that would come next. The worker, and what it holds, would wait for ever.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._close = pool.close

    def __call__(self) -> None:
        """Close, and from another thread let go of the pipe of each child that has exited."""
        children = list(self._pool._pool)
        self._close()
        threading.Thread(
            target=self._let_go, args=(children,), name="pgjobs-pool", daemon=True
        ).start()

    @staticmethod
    def _let_go(children: list[Any]) -> None:
        while children:
            for child in [each for each in children if _has_exited(each.pid)]:
                children.remove(child)
                with contextlib.suppress(OSError):
                    child.outq._writer.close()
            time.sleep(0.2)


def _find_idle(pool: Any) -> Iterator[Any]:
    """The children that a pool may end when it shrinks: those that were sent nothing.

    Celery takes a child for idle that has not reported yet that it begins, and ends it in its task.
    """
    busy = {
        id(child) for job in pool._cache.values() for child in (job._write_to, job._scheduled_for)
    }
    pids = {job._worker_pid for job in pool._cache.values()}
    for child in list(pool._pool):
        if id(child) not in busy and child.pid not in pids:
            yield child


def _was_sent(pool: Any, result: Any) -> bool:
    # One whose child died before it began is in the buffer again, to be sent to another.
    return result._accepted or (result._write_to is not None and result not in pool.outbound_buffer)


def _do_nothing() -> None:
    pass
