"""A thread that looks for ``celery pgjobs top``: keys are answered while the database is slow."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ..control.overview import Overview, overview
from ..control.queues import Queues
from ..db.database import CONNECTION_ERRORS, answered_by
from ..db.failures import SERVER_ERRORS
from ..errors import PgJobsError
from ..scopes.steady import monotonic
from .top_view import Action

if TYPE_CHECKING:
    from ..db.database import Database

#: How long the database may take for a look, or a change, in seconds.
ANSWER_SECONDS = 10.0
#: Looking takes this part of the database's time at most.
SHARE = 0.1
#: The errors that the next look may be without.
ERRORS = (PgJobsError, SERVER_ERRORS, *CONNECTION_ERRORS)


def look(database: Database) -> Overview:
    """How all stands now, or an error in time."""
    with answered_by(monotonic() + ANSWER_SECONDS):
        return overview(database)


class Looker:
    """Looks every ``interval`` seconds, and changes queues, until the process ends."""

    def __init__(
        self,
        database: Database,
        app: Any,
        interval: float,
        first: Overview,
        on_news: Callable[[], None],
    ) -> None:
        self._database = database
        self._queues = Queues(database, app)
        self._interval = interval
        self._on_news = on_news
        self.overview = first
        #: When that was, by the monotonic clock.
        self.looked_at = time.monotonic()
        #: Why the last look failed; empty if it did not.
        self.trouble = ""
        #: The outcome of the last change.
        self.message = ""
        self._asked: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            # The audit is to say that it was asked for here.
            target=copy_context().run,
            args=(self._run,),
            name="pgjobs-look",
            daemon=True,
        )

    def start(self) -> None:
        """Begin, with a pause."""
        self._thread.start()

    def ask(self, action: Action) -> None:
        """Have it change a queue, or look, at once."""
        self._asked.put(action)

    def stop(self) -> bool:
        """Have it end; False if it waits for the database."""
        self._asked.put(None)
        self._thread.join(1.0)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = self._interval
        while True:
            try:
                action = self._asked.get(timeout=pause)
            except queue.Empty:
                action = Action("look")
            if action is None:
                return
            began = time.monotonic()
            if action.kind != "look":
                self.message = self._change(action)
            self._look()
            taken = time.monotonic() - began
            pause = max(self._interval, taken / SHARE - taken if taken > 0.05 else 0.0)
            self._on_news()

    def _look(self) -> None:
        try:
            self.overview = look(self._database)
        except ERRORS as error:
            self.trouble = " ".join(str(error).split()) or type(error).__name__
        else:
            self.trouble, self.looked_at = "", time.monotonic()

    def _change(self, action: Action) -> str:
        queues = self._queues
        try:
            with answered_by(monotonic() + ANSWER_SECONDS):
                if action.kind == "pause":
                    queues.pause(action.queue)
                    return f"{action.queue} is paused"
                if queues.resume(action.queue):
                    return f"{action.queue} is resumed"
                return f"{action.queue} was not paused"
        except ERRORS as error:
            return " ".join(str(error).split())
