"""Send a worker's events in batches: no caller waits for one, and mostly no program listens."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.messages import Routed

#: The most events kept without a connection; beyond that the oldest are dropped.
LIMIT = 10_000


class Post(Service):
    """Publish the events that were collected for ``linger``."""

    name = "post"
    #: Runs when there is something to send; this is only how often it makes sure.
    interval = 1.0
    #: How long an event waits for others, in seconds.
    linger = 0.05
    #: Seconds for which events of a kind without listeners are dropped unseen, unless a program is
    #: reported to have begun to listen.
    deafness = 1.0

    def __init__(self) -> None:
        self._events: deque[Routed] = deque(maxlen=LIMIT)
        self._since = 0.0
        #: Until when these routing keys count as unheard; emptied when a program may listen again.
        self._unheard: dict[str, float] = {}

    def is_heard(self, routing_key: str) -> bool:
        """False if no program listened to such events a moment ago."""
        return self._unheard.get(routing_key, 0.0) <= time.monotonic()

    def listen_again(self) -> None:
        """A program may have begun to listen."""
        self._unheard = {}

    def put(self, event: Routed) -> None:
        """Send it soon; from any thread."""
        if not self._events:
            self._since = time.monotonic()
        self._events.append(event)

    def run(self, database: Database) -> dict[str, int]:
        """Send the collected events in one transaction."""
        unheard = self._unheard
        events = [self._events.popleft() for _ in range(len(self._events))]
        if not events:
            return {}
        try:
            counts = database.messages.publish_events(events)
        except BaseException:
            self._events.extendleft(reversed(events))
            raise
        until = time.monotonic() + self.deafness
        for event, count in zip(events, counts, strict=True):
            unheard[event.routing_key] = 0.0 if count else until
        return {}

    def next_delay(self) -> float:
        """Until the oldest event has waited long enough."""
        if not self._events:
            return self.interval
        return max(0.0, self.linger - (time.monotonic() - self._since))
