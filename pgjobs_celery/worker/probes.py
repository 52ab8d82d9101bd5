"""A worker's port: is it alive, may it be sent work, and the metrics.

The answers are known before they are asked for: a thread of its own looks at the database every few
seconds, so that a probe never waits for a server that does not answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import bootsteps
from celery.worker import state

from ..config import Settings, read_settings
from ..control.metrics import read_metrics
from ..control.port import Answer, Port
from ..db.database import CONNECTION_ERRORS, Database
from ..errors import PgJobsError, RequirementMissing
from ..maintenance.loop import Loop, Service
from ..node.nodes import get_node
from ..printable import guarded, one_line
from .pool import is_solo

if TYPE_CHECKING:
    from ..node.node import Node

logger = guarded(logging.getLogger(__name__))

#: Beyond how much of its lease the worker's silence, or that of its database, counts; 10 seconds of
#: the default one.
PATIENCE = 0.75
#: For how many leases the event loop must not have turned before a restart is what helps; a minute.
HOPELESS = 5.0
#: How often the event loop shows that it turns, in seconds.
TURN = 0.5


class Facts(NamedTuple):
    """A worker, as its probes see it; times are seconds ago, None for never."""

    is_consuming: bool
    #: None where nothing tells: the pool runs its tasks in the event loop, or there is none.
    turned: float | None
    answered: float | None
    beaten: float | None
    #: The last error of the database, if its last answer was one.
    error: str | None
    is_schema_error: bool
    lease: float


class Reason(NamedTuple):
    """Why a worker is not ready."""

    kind: str
    text: str


def reasons(facts: Facts) -> list[Reason]:
    """Why a worker must not be relied on now; nothing where it may."""
    found = []
    patience = facts.lease * PATIENCE
    if not facts.is_consuming:
        found.append(Reason("not_consuming", "the worker has not begun to consume, or is leaving"))
    if facts.error is not None:
        found.append(Reason("schema" if facts.is_schema_error else "database", facts.error))
    elif facts.answered is None or facts.answered > patience:
        found.append(Reason("database", f"no answer {_since(facts.answered)}"))
    if facts.beaten is not None and facts.beaten > facts.lease:
        found.append(Reason("lease", f"the lease has lapsed: no heartbeat {_since(facts.beaten)}"))
    if facts.turned is not None and facts.turned > patience:
        found.append(Reason("event_loop", f"the event loop has not turned {_since(facts.turned)}"))
    return found


def is_hopeless(facts: Facts) -> bool:
    """True if nothing but a restart will help: an outage of the database does not count."""
    limit = facts.lease * HOPELESS
    return facts.is_consuming and facts.turned is not None and facts.turned > limit


def _since(seconds: float | None) -> str:
    return "so far" if seconds is None else f"for {seconds:.0f} s"


class Probe(Service):
    """Look at the database now and then; and open the port, where it was taken."""

    name = "probe"

    def __init__(self, interval: float, open_port: Callable[[], None]) -> None:
        self.interval = interval
        self._open_port = open_port
        self.answered: float | None = None
        self.error: str | None = None
        self.is_schema_error = False

    def run(self, database: Database) -> dict[str, int]:
        """Ask as a new connection would: does it answer, and does the schema fit."""
        self._open_port()
        try:
            database.check()
        except CONNECTION_ERRORS as error:
            self._failed(error, is_schema_error=False)
            raise
        except PgJobsError as error:
            self._failed(error, is_schema_error=True)
        else:
            self.answered, self.error = time.monotonic(), None
        return {}

    def next_delay(self) -> float:
        """At once when the worker starts."""
        return self.interval if self.answered or self.error else 0.0

    def _failed(self, error: Exception, *, is_schema_error: bool) -> None:
        self.error, self.is_schema_error = one_line(str(error)), is_schema_error


class Probing(bootsteps.StartStopStep):
    """Serve ``/live``, ``/ready`` and ``/metrics`` on the port that ``pgjobs_http_port`` names."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        database = getattr(consumer.app.connection_for_read().transport, "database", None)
        self._settings: Settings = read_settings(consumer.app.conf)
        self._consumer = consumer
        self._port: Port | None = None
        self._is_consuming = False
        self._turned: float | None = None
        self._is_refused = False
        if database is None or not self._settings.http_port:
            return  # Celery makes each step, and then asks whether to include it
        self._node: Node = get_node(database)
        self._probe = Probe(self._settings.heartbeat_interval, self._open)
        self._loop = Loop(database)
        self._open()
        self._loop.add(self._probe)

    def include_if(self, consumer: Any) -> bool:
        """True if there is a port to be opened."""
        return bool(self._settings.http_port)

    def start(self, consumer: Any) -> None:
        """It consumes; once for each connection."""
        self._is_consuming = True
        if consumer.hub is not None:
            self._turn()
            self._timer = consumer.hub.call_repeatedly(TURN, self._turn)

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker leaves."""
        self._is_consuming = False
        self._turned = None

    def shutdown(self, consumer: Any) -> None:
        """Close the port last: whoever asks until then hears that the worker leaves."""
        self._loop.stop()
        if self._port is not None:
            self._port.close()

    def facts(self) -> Facts:
        """The worker as it is now."""
        now = time.monotonic()
        turned, answered = self._turned, self._probe.answered
        heartbeat = self._node.services.heartbeat
        # Its task runs in the event loop.
        is_excused = is_solo(self._consumer.pool) and state.active_requests
        return Facts(
            is_consuming=self._is_consuming,
            turned=None if turned is None or is_excused else now - turned,
            answered=None if answered is None else now - answered,
            beaten=None if heartbeat is None else heartbeat.silence,
            error=self._probe.error,
            is_schema_error=self._probe.is_schema_error,
            lease=self._settings.lease,
        )

    def _turn(self) -> None:
        self._turned = time.monotonic()

    def _open(self) -> None:
        if self._port is not None:
            return
        address, number = self._settings.http_address, self._settings.http_port
        routes = {"/live": self._live, "/ready": self._ready, "/metrics": self._metrics}
        try:
            self._port = Port(address, number, routes)
        except OSError as error:
            if not self._is_refused:
                # Another worker of this host has it; perhaps one that is leaving.
                self._is_refused = True
                logger.error(
                    "port %d at %s cannot be had, trying again until it is free: %s",
                    number, address, error.strerror,
                )  # fmt: skip
        else:
            logger.info("probes and metrics on port %d", self._port.number)

    def _live(self, accept: str) -> Answer:
        return self._answer([reasons(self.facts())[-1]] if is_hopeless(self.facts()) else [])

    def _ready(self, accept: str) -> Answer:
        return self._answer(reasons(self.facts()))

    def _answer(self, found: list[Reason]) -> Answer:
        data = {
            "worker": self._consumer.hostname,
            "ok": not found,
            "reasons": [reason._asdict() for reason in found],
        }
        return Answer(503 if found else 200, json.dumps(data).encode() + b"\n", "application/json")

    def _metrics(self, accept: str) -> Answer:
        try:
            from ..control.prometheus import exposition
        except RequirementMissing as error:
            return Answer(501, f"{error}\n".encode())
        database = self._node.database
        database.wait_for_idle()
        reading = read_metrics(database, self._settings.metrics_limit)
        return Answer(200, *exposition(reading, accept))
