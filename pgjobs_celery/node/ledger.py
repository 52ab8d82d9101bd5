"""The notes of a process on its claims that are still to be written into the database.

Any thread notes, and none waits for another: appending to a deque and taking from it are atomic.
Notes that could not be written go back to the front.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from ..db.rows.claims import Pending
from ..job.outcome import Outcome

T = TypeVar("T")


class Ledger:
    """Notes in the order of their arrival, a deque for each kind. Thread-safe."""

    def __init__(self) -> None:
        #: A mark for each task of a chord that has ended, and was not followed up.
        self.parts: deque[bool] = deque()
        self.outcomes: deque[Outcome] = deque()
        #: Messages that were acknowledged, and those that go back into their queue.
        self.read: deque[int] = deque()
        self.returned: deque[int] = deque()
        #: Queues in which a job of ours has ended, where others may wait for its place.
        self.freed: deque[str] = deque()
        #: Attempts that must not be repeated if we die, and of which the row does not say so.
        self.begun: deque[tuple[int, int]] = deque()
        #: Queues that have lost a consumer here.
        self.left: deque[str] = deque()
        #: When the oldest note came, by the monotonic clock.
        self.since = 0.0
        #: How many transactions that write outcomes have begun, and how many have ended.
        self.writes_begun = 0
        self.writes_ended = 0

    @property
    def unwritten(self) -> int:
        """How many notes are still to be written."""
        acknowledged = len(self.outcomes) + len(self.read) + len(self.returned) + len(self.begun)
        return acknowledged + len(self.freed) + len(self.left) + len(self.parts)

    def note(self, notes: deque[T], what: T) -> bool:
        """Add ``what`` to one of the deques above; True if it is the only note."""
        is_only = not self.unwritten
        if is_only:
            self.since = time.monotonic()
        notes.append(what)
        return is_only

    def take(self) -> Pending:
        """Take the notes that one transaction writes.

        Parts first: an outcome is noted before its part, so the outcome of a part that is taken
        here is taken too, or written already.
        """
        parts = _take_all(self.parts)
        if self.outcomes:  # before they are taken: who finds none of them must find this
            self.writes_begun += 1
        outcomes = _take_all(self.outcomes)
        return Pending(
            parts=parts,
            outcomes=outcomes,
            read=_take_all(self.read),
            returned=_take_all(self.returned),
            freed=_take_all(self.freed),
        )

    def end_write(self) -> None:
        """What was taken is written, or put back. One takes at a time."""
        self.writes_ended = self.writes_begun

    def put_back(self, pending: Pending) -> None:
        """Put back what was taken and not written, before what came since."""
        for name, taken in zip(Pending._fields, pending, strict=True):
            getattr(self, name).extendleft(reversed(taken))
        self.end_write()

    def write(self, notes: deque[T], write: Callable[[list[T]], None]) -> None:
        """Take the notes of a kind that no other goes with, and have them written.

        An error of ``write`` puts them back.
        """
        taken = _take_all(notes)
        try:
            if taken:
                write(taken)
        except BaseException:
            notes.extendleft(reversed(taken))
            raise

    def jobs(self) -> list[int]:
        """The rows of the jobs whose outcome is noted."""
        # A copy, for other threads go on noting.
        return [outcome.id for outcome in list(self.outcomes)]

    def messages(self) -> list[int]:
        """The rows of the messages of which is noted that they were read, or go back."""
        return [*list(self.read), *list(self.returned)]


def _take_all(notes: deque[T]) -> list[T]:
    taken: list[T] = []
    try:  # suppress() would cost each claim 0.5 µs for each kind
        while notes:
            taken.append(notes.popleft())
    except IndexError:
        pass  # another thread has taken the last
    return taken
