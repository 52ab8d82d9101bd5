"""Sleep until there is work: a connection that listens, and the news that others have of it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..db import notify
from ..db.connection import Call
from ..db.database import CONNECTION_ERRORS, Database
from ..db.notify import Listener
from ..db.refusals import LONGEST
from ..printable import guarded
from .bell import Bell

logger = guarded(logging.getLogger(__name__))

#: For so many seconds after we found a job of which we were not told, we look at the pace of one
#: whose announcement was refused: those who were told of it may have stopped, with their host.
DOUBT = 60.0


class Sleep:
    """A transport's wait for work, announced to all who publish. For one thread.

    ``hear`` is called with each notification, its kind first; so it is when the connection opens,
    for what was scheduled before that was not announced to us.
    """

    def __init__(self, database: Database, hear: Callable[[str], None]) -> None:
        self._database = database
        self._hear = hear
        self.bell = Bell()
        #: What we wait for.
        self._queues: set[str] = set()
        self._loop: Any = None
        #: The socket in the event loop: a lost connection has no number any more to remove it by.
        self._reader: int | None = None
        #: The connection that listens; None until it is needed.
        self.listener: Listener | None = None
        #: Others know that we wait, and notify us of what becomes ready for us.
        self.is_asleep = False
        #: We have a bell, and no room: it must not be rung.
        self.is_silent = False
        #: Jobs were found; those that are found now came without a notification.
        self.has_found_jobs = self._is_untold = False
        #: Such jobs were found: until when there may be more, and when to look for them.
        self._doubt_until, self._look_at = float("-inf"), float("inf")

    def open(self) -> Listener:
        """Listen, in the event loop if there is one."""
        if self.listener is None:
            self.listener = self._database.listen_for_work([self.bell.number])
            self.listener.announce([""])
            self._hear(notify.DUE)
            if self._loop is not None:
                self._reader = self.listener.fileno()
                self._loop.add_reader(self._reader, self.read)
        return self.listener

    def close(self) -> None:
        """Listen no more."""
        listener, self.listener = self.listener, None
        self.is_asleep = False
        if listener is not None:
            listener.close()

    def abandon(self) -> None:
        """Forget everything: the process has forked, and the connection is the parent's."""
        self.listener = self._loop = self._reader = None
        self.is_asleep = False

    def join(self, loop: Any) -> None:
        """Read in this event loop from now on."""
        self._loop = loop

    def leave(self) -> None:
        """Read in no event loop any more."""
        loop, self._loop = self._loop, None
        if loop is not None:
            self._stop_reading(loop)

    def _stop_reading(self, loop: Any) -> None:
        if self._reader is not None:
            loop.remove(self._reader)
            self._reader = None

    @property
    def retry_at(self) -> float:
        """When to look, and to ask once more for what was refused; infinite if all is well."""
        if self.listener is not None and self.listener.is_refused:
            return min(self.listener.refusals.due_at, self._look_at)
        return self._look_at

    def _time_of_look(self) -> float:
        now = time.monotonic()
        return now + LONGEST if now < self._doubt_until else float("inf")

    @property
    def is_undisturbed(self) -> bool:
        """True while we sleep and are told of what comes, as far as we know."""
        return self.is_asleep and time.monotonic() < self._look_at

    def begin(self, queues: set[str], rung: set[str] | None) -> bool:
        """Announce that we wait for these; False where no wake-up is needed.

        ``rung``: those of them for whose jobs our bell may be rung; None if we have no bell.
        If it is True all must be looked at once more: what came before was not announced to us.
        """
        listener = self.open()
        if listener.is_refused and time.monotonic() < listener.refusals.due_at:
            return False  # we look when it is asked for again
        self._queues = queues | {""}
        self.is_silent = rung is not None and not rung
        self._look_at = self._time_of_look()
        self.is_asleep = self._announce(rung or ())
        return True

    def _announce(self, rung: set[str] | tuple[()]) -> bool:
        self.bell.queues = rung or self.bell.queues
        is_known = self.open().announce(self._queues, rung)
        self.read()
        return is_known

    def hang_bell(self, rung: set[str]) -> None:
        """Have our bell rung again for jobs of these queues."""
        self.is_silent = False
        self._announce(rung)

    def silence(self, calls: Iterable[Call]) -> None:
        """Have our bell rung no more until it is hung again, and run the calls, which ring others.

        We are still told of what all are told.
        """
        self.is_silent = True
        self.open().silence(list(calls))
        self.read()

    def retire(self, pass_on: Callable[[], None]) -> None:
        """We claim no more jobs: have our bell rung no more, and pass on what it was rung for.

        A signal handler may call it, in the midst of a statement. On a lost connection no bell is
        rung.
        """
        if self.listener is not None and self.listener.may_be_silenced:
            with contextlib.suppress(*CONNECTION_ERRORS):
                self.silence([])
                pass_on()

    def end(self) -> None:
        """There is so much to do that no wake-up is needed."""
        if self.is_asleep and self.listener is not None:
            self.listener.announce([""])
            self.read()
            self.is_asleep = False

    def begin_anew(self) -> None:
        """What was announced holds no more: announce before the next wait."""
        self.is_asleep = False

    def make_sure(self) -> None:
        """Jobs were found, in our sleep perhaps: make sure that we are notified, if we were not."""
        self.has_found_jobs = False
        if self._is_untold and self.is_asleep:
            self._doubt_until = time.monotonic() + DOUBT
            self._look_at = self._time_of_look()
            self.check()

    def poll(self, *, must_check: bool) -> None:
        """Time has passed: ask again for what was refused, and see whether we are notified."""
        if self.listener is not None:
            self.listener.announce_again()
            if must_check:
                self.check()
        self._is_untold = True

    def check(self) -> None:
        """Listen anew if notifications have stopped, which only asking shows."""
        self._is_untold = False
        with contextlib.suppress(*CONNECTION_ERRORS):
            if self.open().is_heard():
                self.read()  # what came meanwhile is not on the socket any more
                return
        logger.warning(
            "LISTEN had died without a word, listening on a new connection; where a pooler stands "
            "between, set listen_url, or listen=False"
        )
        if self._loop is not None:
            self._stop_reading(self._loop)
        self.close()
        self.open()

    def read(self) -> None:
        """Hear what has come; does not wait."""
        assert self.listener is not None
        for payload in self.listener.read():
            self._is_untold = False
            self._hear(payload)
