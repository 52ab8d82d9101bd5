"""Tell the publisher of a job of a conflict: kombu returns nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class Receipt:
    """One call of ``apply_async`` for a job that must be the only one of its kind."""

    #: A caller has the job's id already and will look for it: a group, a chord, a chain,
    #: the caller that chose it.
    is_promised: bool
    #: The id of the job that is there instead.
    conflict: str | None = None
    #: The handle that was returned before it was known whether there is a conflict.
    result: Any = None
    #: Its job's own id.
    own_id: str = ""

    def report_conflict(self, task_id: str) -> bool:
        """That job exists instead. True if a caller looks for the id of the one not inserted."""
        self.conflict = task_id
        if self.result is not None:
            self.result.conflict = True
            if not self.is_promised:
                # Its waiters have not seen the id yet.
                self.own_id = self.own_id or self.result.id
                self.result.id = task_id
        return self.is_promised

    def withdraw(self) -> None:
        """Take a reported conflict back: its transaction was rolled back."""
        self.conflict = None
        if self.result is not None:
            self.result.conflict = False
            self.result.id = self.own_id or self.result.id


_current: ContextVar[Receipt | None] = ContextVar("pgjobs_receipt", default=None)


@contextmanager
def receipt(*, is_promised: bool) -> Iterator[Receipt]:
    """Publish one job in this block; the receipt then tells whether it was inserted."""
    this = Receipt(is_promised)
    token = _current.set(this)
    try:
        yield this
    finally:
        _current.reset(token)


def current_receipt() -> Receipt | None:
    """The call that publishes here, and waits to hear of a conflict."""
    return _current.get()
