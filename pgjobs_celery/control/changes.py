"""Decide which parts of a page may have changed, from two looks and from notifications."""

from __future__ import annotations

from ..db import notify
from ..db.rows.changes import Marks

__all__ = ["ALL", "AUDIT", "JOBS", "QUEUES", "SCHEDULES", "TOTALS", "WORKERS", "compare", "heard"]

#: The topics that a part of a page may tell of.
JOBS, QUEUES, WORKERS = "jobs", "queues", "workers"
SCHEDULES, AUDIT, TOTALS = "schedules", "audit", "totals"
ALL = frozenset({JOBS, QUEUES, WORKERS, SCHEDULES, AUDIT, TOTALS})

#: The marks that tell of each.
_MARKS = {
    "newest_job": JOBS, "newest_end": JOBS, "jobs_written": JOBS, "limits": QUEUES,
    "nodes": WORKERS, "schedules": SCHEDULES, "audit": AUDIT, "totals": TOTALS,
}  # fmt: skip
#: The kinds of notifications that tell of each. The others are of messages, and of events for who
#: listens to them: no page shows these.
_KINDS = {
    notify.JOB: JOBS, notify.RUNG: JOBS, notify.BACK: JOBS, notify.DUE: JOBS,
    notify.CANCEL: JOBS, notify.QUEUE: QUEUES,
}  # fmt: skip


def compare(before: Marks, now: Marks) -> frozenset[str]:
    """The topics that have changed between two looks."""
    return frozenset(
        topic for mark, topic in _MARKS.items() if getattr(before, mark) != getattr(now, mark)
    )


def heard(payloads: set[str]) -> frozenset[str]:
    """The topics that these notifications to workers tell of."""
    return frozenset(_KINDS[each[:1]] for each in payloads if each[:1] in _KINDS)
