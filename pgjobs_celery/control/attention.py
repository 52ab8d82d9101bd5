"""Whether anything needs somebody, in one line: findings, queues that are late, tasks that fail.

Decides; reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .doctor.findings import Finding
    from .history import Failing
    from .overview import QueueNow

#: How long the oldest ready job of a queue may have been due, in seconds, before it is late.
LATE = 60.0
#: How many tasks are named in the line.
NAMED = 1


@dataclass(frozen=True)
class Part:
    """A part of the line."""

    text: str
    #: ``finding``, ``queue`` or ``task``: which list tells more.
    kind: str
    #: Since when, if that is known.
    since: datetime | None = None


@dataclass(frozen=True)
class Attention:
    """All that needs somebody."""

    #: Empty if nothing does.
    line: tuple[Part, ...]
    #: Errors and warnings of the doctor, and what is worth knowing.
    findings: tuple[Finding, ...] = ()
    notices: tuple[Finding, ...] = ()
    #: The queues whose oldest job has waited too long, the longest first.
    late: tuple[QueueNow, ...] = ()
    #: Of whose jobs many fail, the worst first.
    failing: tuple[Failing, ...] = ()

    @property
    def is_well(self) -> bool:
        """True if nothing needs anybody."""
        return not self.line


def attention(
    findings: Iterable[Finding], queues: Iterable[QueueNow], failing: Sequence[Failing]
) -> Attention:
    """All that needs somebody."""
    found = list(findings)
    wrong = tuple(each for each in found if each.is_wrong)
    notices = tuple(each for each in found if not each.is_wrong)
    late = late_queues(queues)
    line = []
    if wrong:
        line.append(Part(_count(len(wrong), "finding"), "finding"))
    if late:
        line.append(Part(f"{_count(len(late), 'queue')} late", "queue"))
    for task in failing[:NAMED]:
        line.append(Part(f"{percent(task.share)} of {task.task} failing", "task", task.since))
    if (more := len(failing) - NAMED) > 0:
        line.append(Part(f"{_count(more, 'more task')} failing", "task"))
    return Attention(tuple(line), wrong, notices, late, tuple(failing))


def late_queues(queues: Iterable[QueueNow]) -> tuple[QueueNow, ...]:
    """The queues whose oldest ready job is late, unless they are held back on purpose."""
    late = [
        each
        for each in queues
        if (each.oldest_wait or 0.0) > LATE and each.paused_at is None and each.concurrency != 0
    ]
    return tuple(sorted(late, key=lambda each: (-(each.oldest_wait or 0.0), each.name)))


def percent(share: float) -> str:
    """``14 %``; ``0.4 %`` below one; and neither 0 nor 100 unless it is so."""
    value = 100 * share
    if 0 < value < 1:
        return f"{max(0.1, value):.1f} %"
    if 99 <= value < 100:
        return f"{min(99.9, value):.1f} %"
    return f"{value:.0f} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
