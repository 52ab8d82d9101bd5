"""Run services one after the other, each at its interval, in one thread with one connection."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ..db.database import CONNECTION_ERRORS
from ..errors import PgJobsError

if TYPE_CHECKING:
    from ..db.database import Database

logger = logging.getLogger(__name__)


class Service:
    """Something to be done again and again."""

    #: What log lines call it.
    name = ""
    #: Seconds between two runs, unless :meth:`next_delay` knows better.
    interval = 1.0

    def run(self, database: Database) -> dict[str, int]:
        """Do it once; what was done and how often, for the log line."""
        raise NotImplementedError

    def next_delay(self) -> float:
        """Seconds until the next run, asked after each."""
        return self.interval


class Loop:
    """The thread that runs the services of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: dict[Service, float] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, service: Service) -> None:
        """Run ``service`` from now on; starts the thread with the first one."""
        self._due[service] = time.monotonic() + service.next_delay()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pgjobs-maintenance", daemon=True)
            self._thread.start()
        self._wake.set()

    def hurry(self, service: Service) -> None:
        """Run ``service`` at once: it was told of something to do."""
        if service in self._due:
            self._due[service] = 0.0
            self._wake.set()

    def stop(self) -> None:
        """End the thread after the service that runs now."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            for service, due in list(self._due.items()):
                if due <= now and not self._stopping:
                    self._due[service] = now + service.interval
                    self._run_service(service)
            self._wake.wait(max(0.0, min(self._due.values()) - time.monotonic()))
            self._wake.clear()

    def _run_service(self, service: Service) -> None:
        try:
            done = service.run(self._database)
        except CONNECTION_ERRORS as error:
            logger.warning("%s: no connection, trying again: %s", service.name, error)
        except PgJobsError as error:
            logger.error("%s: %s", service.name, error)
        except Exception:
            logger.exception("%s failed; trying again in %s s", service.name, service.interval)
        else:
            self._due[service] = min(
                self._due[service] or 0.0, time.monotonic() + service.next_delay()
            )
            if done := {what: count for what, count in done.items() if count}:
                logger.info(
                    "%s: %s", service.name, ", ".join(f"{count} {what}" for what, count in done.items())
                )
