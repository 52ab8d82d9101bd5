"""Send a worker's events, many at a time: nobody waits for one, and mostly nobody listens."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.messages import Routed

#: How many are kept while there is no connection; of more than that the oldest are dropped.
LIMIT = 10_000


class Post(Service):
    """Publish what was collected for ``patience``."""

    name = "post"
    #: Runs when there is something to send; this is only how often it makes sure.
    interval = 1.0
    #: How long an event waits for others, in seconds.
    patience = 0.05
    #: For how long events of a kind that nobody listened to are dropped unseen, in seconds, unless
    #: we are told that somebody has begun to.
    deafness = 1.0

    def __init__(self) -> None:
        self._events: deque[Routed] = deque(maxlen=LIMIT)
        self._since = 0.0
        #: Until when nobody is taken to listen to these routing keys; replaced when somebody may.
        self._unheard: dict[str, float] = {}

    def is_heard(self, routing_key: str) -> bool:
        """False if nobody has listened to such events just now."""
        return self._unheard.get(routing_key, 0.0) <= time.monotonic()

    def listen_again(self) -> None:
        """Somebody may have begun to listen."""
        self._unheard = {}

    def put(self, event: Routed) -> None:
        """Send it soon; from any thread."""
        if not self._events:
            self._since = time.monotonic()
        self._events.append(event)

    def run(self, database: Database) -> dict[str, int]:
        """Send what there is, in one transaction."""
        unheard = self._unheard
        events = [self._events.popleft() for _ in range(len(self._events))]
        if not events:
            return {}
        try:
            counts = database.messages.publish_many(events)
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
        return max(0.0, self.patience - (time.monotonic() - self._since))
