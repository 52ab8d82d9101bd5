"""The services of a process, which run beside its claims in their own threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .fold import Fold
from .loop import Loop, Pulse, Service
from .post import Post
from .prune import Prune
from .reap import Reap
from .rescue import Rescue
from .resume import Resume
from .settle import Ledger, Settle
from .stage import Stage
from .throttle import Throttle

if TYPE_CHECKING:
    from ..config import Settings
    from ..db.database import Database
    from ..db.rows.messages import Routed
    from .heartbeat import Heartbeat
    from .watch import Watch


class Services:
    """The services of one node. Thread-safe, but for starting and stopping."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        flush: Callable[[], None],
        throttled: Mapping[tuple[str, str], int],
    ) -> None:
        self._database = database
        self.settle = Settle(ledger, flush)
        self.post = Post()
        self._stage = Stage(on_pause_over=lambda: self._loop.hurry(self._resume))
        self._reap = Reap()
        self._resume = Resume()
        self.throttle = Throttle(throttled)
        self._rescue = Rescue(on_buried=lambda: self._loop.hurry(self._reap))
        if not database.options.listen:
            # No notification tells of a job that is due before the others.
            self._stage.interval = min(self._stage.interval, database.options.poll)
        #: None while this process claims nothing.
        self.heartbeat: Heartbeat | None = None
        self._complete: Service | None = None
        self._make_loops()

    def _make_loops(self) -> None:
        self._loop = Loop(self._database)
        # Apart from the rest: a slow statement must not look like death either.
        self.pulse = Pulse(self._database)
        # Nor may the watch over claims wait for them.
        self._watch = Loop(self._database)
        # To count a million jobs takes half a second, and must not hold up those that are due.
        self._metrics = Loop(self._database)
        self._is_pruning = False

    def start(self, heartbeat: Heartbeat, watch: Watch, settings: Settings) -> None:
        """Run the services of a process that claims, after its first heartbeat."""
        self.pulse.add(heartbeat)
        self._watch.add(watch)
        self._loop.add(self.settle)
        self._loop.add(self.post)
        self.throttle.limit = settings.metrics_limit
        self._loop.add(self.throttle)
        self._rescue.bound = settings.max_interruptions
        if settings.maintenance:
            for service in (self._stage, self._rescue, self._reap, self._resume):
                self._loop.add(service)
            self._metrics.add(Fold(settings.metrics_limit))
            self._start_pruning(settings)
        self.heartbeat = heartbeat

    def serve_results(self, complete: Service, settings: Settings) -> None:
        """Run the services of results, ``complete`` for their chords."""
        self._complete = complete
        self._loop.add(complete)
        self._start_pruning(settings)

    def _start_pruning(self, settings: Settings) -> None:
        if not self._is_pruning:
            self._is_pruning = True
            self._loop.add(Prune(settings))

    def stop(self) -> None:
        """Stop all services; they may be started again."""
        for loop in (self._loop, self.pulse, self._watch, self._metrics):
            loop.stop()
        self._make_loops()

    def expect_outcome(self) -> None:
        """An outcome waits to be written."""
        self._loop.expect(self.settle)

    def expect_due(self) -> None:
        """A job was scheduled, or a pause set or ended, before the one that was the nearest."""
        self._loop.hurry(self._stage)

    def send(self, event: Routed) -> None:
        """Send an event, soon and with others."""
        self.post.put(event)
        self._loop.expect(self.post)

    def announce(self) -> None:
        """Tell other nodes at once of this one's state."""
        if self.heartbeat is not None:
            self.pulse.hurry(self.heartbeat)

    def rescue(self) -> None:
        """Rescue the jobs of other nodes, which are dead."""
        self._rescue.tell()
        self._loop.hurry(self._rescue)

    def complete_chords(self) -> None:
        """A chord may be complete; does nothing in a process without results."""
        if self._complete is not None:
            self._loop.hurry(self._complete)

    def hurry_all(self) -> None:
        """Run every service at once, but for those that wait to be told."""
        self._loop.hurry_all()
        self._metrics.hurry_all()
