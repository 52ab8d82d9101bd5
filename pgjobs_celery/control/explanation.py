"""Why a job is where it is, as a value: a word for machines, a paragraph for people, the facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ..db.rows.audit import Doer
from ..db.rows.explain import (
    Consumer,
    Held,
    InLane,
    JobFacts,
    LastRun,
    Line,
    Lock,
    Running,
    WaitFacts,
)  # fmt: skip
from ..db.rows.rules import PauseRow
from ..job.flow import BUCKET, FlowRow
from ..printable import one_line

#: How much of an error's message is shown.
LONGEST = 200
#: The command that the remedies begin with.
COMMAND = "celery -A proj pgjobs"


@dataclass(frozen=True)
class Explanation:
    """Why a job does not run, or did not, or that it does."""

    #: A stable word for programs, one of :data:`KINDS`.
    kind: str
    #: One paragraph for people, printable whatever the rows hold.
    text: str
    #: The facts that ``text`` tells; JSON can hold them, times in ISO 8601.
    details: dict[str, Any] = field(default_factory=dict)
    #: A command that helps, where one does.
    remedy: str | None = None


#: Every kind of explanation, and its meaning.
KINDS = {
    "not_due": "its time has not come",
    "asleep": "its task sleeps, and goes on at a time",
    "waits_for_signal": "its task waits for a signal",
    "retry_waiting": "it failed, and waits for its next attempt",
    "no_maintenance": "it is due, or held by a dead worker, and no process sees to that",
    "row_locked": "a session has locked its row, or the table",
    "expired": "it may not begin any more",
    "queue_paused": "its queue is paused",
    "jobs_paused": "its task, its tag or its key is paused",
    "rate_used_up": "as many jobs have begun as its rate allows, and it waits for a token",
    "key_full": "as many jobs run as a limit of its key, task or name allows",
    "waits_for_turn": "its key waits for its turn in a queue that is shared fairly",
    "no_consumer": "no live worker consumes from its queue",
    "unknown_to_workers": "no live worker of its queue knows the task",
    "limit_full": "as many jobs of its queue run as may",
    "in_line": "other jobs of its queue are ahead of it",
    "at_capacity": "it is the next, and every worker of its queue holds jobs",
    "idle_workers": "it is the next, and a worker that holds no job has not claimed it",
    "about_to_begin": "it is the next, since less than a few seconds",
    "running": "a live worker has it",
    "worker_silent": "its worker has missed heartbeats, and may be dead",
    "held_by_dead_worker": "its worker is dead; others will take the job",
    "awaits_result": "its row stands for a task that runs elsewhere, or that was replaced",
    "completed": "it has succeeded",
    "discarded": "it has failed for good",
    "unknown_task": "its worker did not know the task",
    "worker_lost": "its worker died after the task was acknowledged",
    "cancelled": "it was cancelled",
    "duplicate": "another job stands for it, since it was published",
    "superseded": "another job took over its unique key",
    "dropped": "its queue was full, and it was cancelled for a newer job",
    "revoked_before_publishing": "its id was revoked before it was published",
    "waits_for_chord": "it is the body of a chord whose header has not finished",
    "no_row": "its row was deleted after it was found, or is not committed yet",
}


#: Of a job that stands in none.
NO_LINE = Line()
NO_LANE = InLane()


@dataclass(frozen=True)
class GateFacts:
    """A gate that a job has to pass, and its rule."""

    gate: str
    rule: FlowRow
    used: int = 0
    next_in: float = 0.0
    #: The jobs that hold its places, if it limits how many run.
    holders: tuple[Running, ...] = ()

    @property
    def is_shut(self) -> bool:
        """True while nothing may begin there."""
        rule = self.rule
        most = rule.burst if rule.algorithm == BUCKET and rule.burst else rule.amount
        return most is not None and (self.used >= most or self.next_in > 0)


@dataclass(frozen=True)
class Facts:
    """All that an explanation is decided by; the rest of a job that runs or has ended is empty."""

    job: JobFacts
    lock: Lock | None = None
    line: Line = NO_LINE
    #: Those of its queue, the oldest first.
    running: tuple[Running, ...] = ()
    #: The nodes that consume from its queue.
    consumers: tuple[Consumer, ...] = ()
    #: What each of them holds, in the order of ``consumers``.
    held: tuple[Held, ...] = ()
    last_run: LastRun | None = None
    #: The one that has cancelled it or paused its queue; None where the audit does not say so.
    doer: Doer | None = None
    #: The pauses that keep it from running, besides that of its queue.
    pauses: tuple[PauseRow, ...] = ()
    #: Its lane, the gates of that as they stand, and who holds the places of each.
    lane: InLane = NO_LANE
    gates: tuple[GateFacts, ...] = ()
    #: The sleep, or the signal, that a scheduled job waits for; None where it does neither.
    wait: WaitFacts | None = None

    @property
    def live(self) -> list[tuple[Consumer, Held]]:
        """The consumers that live, and what each holds."""
        pairs = zip(self.consumers, self.held, strict=True)
        return [(consumer, held) for consumer, held in pairs if consumer.is_alive]


def explanation(
    job: JobFacts, kind: str, text: str, remedy: str | None = None, **details: Any
) -> Explanation:
    """An explanation whose details begin with the job's own."""
    own = {
        "task_id": job.task_id, "task": job.task, "queue": job.queue, "state": job.state.value,
        "attempt": job.attempt, "max_attempts": job.max_attempts, "at": job.now,
    }  # fmt: skip
    return Explanation(
        kind, one_line(text), as_data(own | details), None if remedy is None else one_line(remedy)
    )


def as_data(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): as_data(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_data(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    return value


def by(doer: Doer | None) -> str:
    """`` by alice@web-1``; nothing where it is not known."""
    return f" by {doer.actor}" if doer else ""


def until(end: datetime | None, now: datetime) -> str:
    """``, until 2026-11-24 10:00:31 UTC, in 12 s``; nothing without an end."""
    return "" if end is None else f", until {when(end, now)}"


def when(moment: datetime, now: datetime) -> str:
    """``2026-11-24 10:00:31 UTC, 12 s ago``."""
    shown = f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    return f"{shown}, in {span(moment - now)}" if moment > now else f"{shown}, {ago(moment, now)}"


def ago(moment: datetime, now: datetime) -> str:
    """``12 s ago``."""
    return f"{span(now - moment)} ago"


def span(duration: timedelta | float) -> str:
    """``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 days``."""
    total = duration.total_seconds() if isinstance(duration, timedelta) else duration
    seconds = max(0, round(total))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min" + (f" {seconds % 60} s" if seconds < 600 else "")
    if seconds < 172_800:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86_400:,} days"


def count(number: int, noun: str) -> str:
    """``1 job``, ``2,000 jobs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def error_text(error: dict[str, Any]) -> str:
    """``KeyError: 'x'``; empty without an error."""
    words = [str(error[name]) for name in ("type", "message") if error.get(name)]
    text = ": ".join(words)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
