"""Watch a database for all visitors of its pages: one thread, while anybody looks."""

from __future__ import annotations

import logging
import selectors
import signal
import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..control.changes import ALL, compare, heard
from ..db.database import answered_by
from ..printable import guarded
from ..scopes.steady import monotonic

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.notify import Listener
    from ..db.rows.changes import Marks

logger = guarded(logging.getLogger(__name__))

#: How often the database is looked at, in seconds, and how long it may take to answer.
LOOK_EVERY, ANSWER_SECONDS = 1.0, 5.0
#: How often the thread sees that the server is being stopped.
TICK = 0.2
#: After how many seconds without LISTEN that is tried again: its connection was lost, or a pooler
#: was in between.
LISTEN_AGAIN = 60.0


class Watch:
    """A thread that looks and listens, and calls ``tell`` with what has changed.

    ``tell(topics)`` says what may have changed, ``lose(since)`` that the database does not answer,
    and ``lose(None)`` that it does again. It goes on for as long as ``goes_on()`` is true; that is
    asked a few times a second.
    """

    def __init__(
        self,
        database: Database,
        tell: Callable[[Iterable[str]], None],
        lose: Callable[[datetime | None], None],
        goes_on: Callable[[], bool],
    ) -> None:
        self._database = database
        self._tell, self._lose, self._goes_on = tell, lose, goes_on
        self._stopping = threading.Event()
        self._listener: Listener | None = None
        self._listen_at = self._look_at = 0.0
        self._marks: Marks | None = None
        self._is_lost = False
        self._thread = threading.Thread(target=self._run, name="pgjobs-web-watch", daemon=True)

    @property
    def is_alive(self) -> bool:
        """False when it has ended, and in a child that was forked since."""
        return self._thread.is_alive()

    @property
    def has_looked(self) -> bool:
        """True once a change is noticed; all is told with the first look."""
        return self._marks is not None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout: float | None = 0.0) -> None:
        """Have it end, and wait so many seconds until it has; None for as long as it takes."""
        self._stopping.set()
        if timeout != 0.0 and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while self._goes_on() and not self._stopping.is_set():
                topics = set(heard(self._wait()))
                if monotonic() >= self._look_at:
                    topics |= self._look()
                if topics:
                    self._tell(topics)
        finally:
            self._stop_listening(again_in=0.0)

    def _look(self) -> AbstractSet[str]:
        """The topics that have changed since the last look."""
        self._look_at = monotonic() + LOOK_EVERY
        try:
            with answered_by(monotonic() + ANSWER_SECONDS):
                marks = self._database.changes.look_for_changes()
        except Exception as error:  # whatever it is, it is to be seen, and may pass
            self._note_lost(error)
            return frozenset()
        before, self._marks = self._marks, marks
        if self._is_lost:
            self._note_works()
            return ALL
        self._listen()
        # Whoever came before the first look has a page from before it.
        return ALL if before is None else compare(before, marks)

    def _note_lost(self, error: Exception) -> None:
        self._database.outage.lost("web", error)
        self._stop_listening(again_in=0.0)
        if not self._is_lost:
            self._is_lost = True
            self._lose(datetime.now(timezone.utc))

    def _note_works(self) -> None:
        self._database.outage.works("web")
        self._is_lost = False
        self._lose(None)

    # Notifications bring what happens to waiting workers at once; looks alone bring all of it a
    # second later.

    def _listen(self) -> None:
        if self._listener is not None or monotonic() < self._listen_at:
            return
        self._listen_at = monotonic() + LISTEN_AGAIN
        try:
            with answered_by(monotonic() + ANSWER_SECONDS):
                self._listener = self._database.changes.listen()
        except Exception as error:  # no place for another connection, perhaps
            logger.info(
                "the page's changes are looked for once a second, without LISTEN: %s", error
            )

    def _wait(self) -> set[str]:
        """The notifications that were heard, after a moment or at once."""
        if self._listener is None:
            self._stopping.wait(TICK)
            return set()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._listener, selectors.EVENT_READ)
                selector.select(TICK)
            payloads = self._listener.read()
        except Exception:  # the look says whether more is lost than this connection
            self._stop_listening(again_in=0.0)
            self._look_at = 0.0
            return set()
        if payloads:
            self._stopping.wait(TICK)  # of 1,000 a second five are read
        return payloads

    def _stop_listening(self, *, again_in: float) -> None:
        listener, self._listener = self._listener, None
        self._listen_at = monotonic() + again_in
        if listener is not None:
            listener.close()


def server_is_stopping() -> bool:
    """True once uvicorn, where it runs in this process, has been told to end.

    It waits for all responses to end first, and tells the application of its end afterwards only.
    Whoever handles the signal is asked, and nothing of it is changed.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return bool(getattr(getattr(handler, "__self__", None), "should_exit", False))
