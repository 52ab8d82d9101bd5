"""Tell who publishes a job what became of it: kombu returns nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Publication:
    """One call of ``apply_async`` for a job that must be the only one of its kind."""

    #: Somebody has been given the job's id already and will look for it: a group, a chord, a chain,
    #: whoever chose it.
    is_promised: bool
    #: The id of the job that is there instead.
    conflict: str | None = None


_current: ContextVar[Publication | None] = ContextVar("pgjobs_publication", default=None)


@contextmanager
def publication(*, is_promised: bool) -> Iterator[Publication]:
    """Within this block one job is published; afterwards it says whether it was."""
    this = Publication(is_promised)
    token = _current.set(this)
    try:
        yield this
    finally:
        _current.reset(token)


def report_conflict(task_id: str) -> bool:
    """That job is there instead. True if somebody looks for the id of the one that is not put."""
    this = _current.get()
    if this is None:
        return True
    this.conflict = task_id
    return this.is_promised
