"""Run services one after the other, each at its interval, in one thread."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from ..db.database import CONNECTION_ERRORS
from ..errors import PgJobsError
from ..printable import guarded
from ..scopes.greenlets import patched_by

if TYPE_CHECKING:
    from ..db.database import Database

logger = guarded(logging.getLogger(__name__))


class Service:
    """Work that is repeated at an interval."""

    #: Its name in log lines.
    name = ""
    #: Seconds between two runs, unless :meth:`next_delay` knows better.
    interval = 1.0

    def run(self, database: Database) -> dict[str, int]:
        """Do the work once; return its counts for the log line."""
        raise NotImplementedError

    def next_delay(self) -> float:
        """Seconds until the next run, asked after each."""
        return self.interval


class Loop:
    """The thread that runs the services of this process. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: dict[Service, float] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: Any = None
        #: The thread's number, while it runs.
        self._ident: int | None = None
        self._ended = threading.Event()

    def add(self, service: Service) -> None:
        """Run ``service`` from now on; starts the thread with the first one."""
        with self._changed:
            self._due[service] = time.monotonic() + service.next_delay()
            if self._thread is None:
                self._thread = self._start_thread()
            self._changed.notify()

    def expect(self, service: Service) -> None:
        """Something happened that may bring the service's next run forward."""
        due = time.monotonic() + service.next_delay()
        if due < self._due.get(service, 0.0):
            with self._changed:
                self._due[service] = due
                self._changed.notify()

    def hurry(self, service: Service) -> None:
        """Run ``service`` at once: it was told of something to do."""
        with self._changed:
            if service in self._due:
                self._due[service] = 0.0
                self._changed.notify()

    def hurry_all(self) -> None:
        """Run every service at once, but for those that wait to be told."""
        for service in list(self._due):
            if service.interval != float("inf"):
                self.hurry(service)

    def stop(self) -> None:
        """End the thread after the service that runs now."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None and self._ident != threading.get_ident():
            self._ended.wait(timeout=5)

    def _start_thread(self) -> Any:
        thread = threading.Thread(target=self._run, name="pgjobs-maintenance", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        self._ident = threading.get_ident()
        self._database.wait_for_idle()
        try:
            while service := self._next():
                self._run_service(service)
        finally:
            self._ended.set()

    def _next(self) -> Service | None:
        """Wait for the next service that is due, and return it; None when it is time to stop."""
        with self._changed:
            while not self._stopping:
                service, due = min(self._due.items(), key=lambda item: item[1])
                wait = due - time.monotonic()
                if wait <= 0:
                    # A hurry from now on concerns a change that this run may not see.
                    self._due[service] = float("inf")
                    return service
                self._changed.wait(wait)
        return None

    def _run_service(self, service: Service) -> None:
        delay, outage = service.interval, self._database.outage
        try:
            done = service.run(self._database)
            delay = service.next_delay()
            if outage.is_noticed_by(service.name):
                self._database.verify()  # a service without work has not asked the server
                outage.works(service.name)
        except CONNECTION_ERRORS as error:
            outage.lost(service.name, error)
        except PgJobsError as error:
            logger.error("%s: %s", service.name, error)
        except Exception:
            logger.exception("%s failed; trying again in %s s", service.name, delay)
        else:
            if done := {what: count for what, count in done.items() if count}:
                logger.info(
                    "%s: %s",
                    service.name,
                    ", ".join(f"{count} {what}" for what, count in done.items()),
                )
        with self._changed:
            self._due[service] = min(self._due[service], time.monotonic() + delay)


class Pulse(Loop):
    """A loop that nothing in this process holds up.

    Where gevent has patched ``threading``, a thread is a greenlet: a task that computes for long
    holds up all of them, and would look like death.
    """

    def _start_thread(self) -> Any:
        if patched_by() != "gevent":
            return super()._start_thread()
        from gevent.threadpool import ThreadPool

        threads = ThreadPool(1)
        threads.spawn(self._run)
        return threads
