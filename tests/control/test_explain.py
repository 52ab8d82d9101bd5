"""The decision which reason counts: a pure function of facts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from pgjobs_celery.control.explain import decide
from pgjobs_celery.control.explain_chord import explain_chord
from pgjobs_celery.control.explanation import KINDS, Explanation, Facts, GateFacts, span, when
from pgjobs_celery.db.rows.explain import (
    ChordFacts,
    Consumer,
    Held,
    InLane,
    JobFacts,
    LastRun,
    Line,
    Lock,
    Running,
    WaitFacts,
)
from pgjobs_celery.db.rows.rules import PauseRow
from pgjobs_celery.job.flow import FlowRow
from pgjobs_celery.job.states import State

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=timezone.utc)
HOSTILE = "\x1b[2J\nx\u202e'; drop"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def job(state: str = "available", **fields: Any) -> JobFacts:
    given: dict[str, Any] = {
        "task_id": "a", "task": "tasks.add", "queue": "mail", "state": State(state), "attempt": 0,
        "max_attempts": 20, "priority": 0, "seq": 1, "has_message": True, "acks_late": True,
        "reported_state": None, "attempted_by": None, "now": NOW, "inserted_at": at(-60),
        "scheduled_at": at(-60),
    }  # fmt: skip
    return JobFacts(**given | fields)


def running(**fields: Any) -> JobFacts:
    """A job that a worker has, whose last heartbeat came a second ago."""
    given: dict[str, Any] = {
        "attempt": 2, "attempted_by": "w1@web", "attempted_at": at(-30), "node": "w1@web",
        "heartbeat_at": at(-1), "lease": 13.0, "live_nodes": 1,
    }  # fmt: skip
    return job("executing", **given | fields)


def ended(state: str, message: str = "", type: str = "TaskRevokedError", **fields: Any) -> JobFacts:
    error = {"type": type, "message": message} if message else {}
    given: dict[str, Any] = {"finished_at": at(-5), "error": error}
    return job(state, **given | fields)


def consumer(number: int = 1, *, is_alive: bool = True, since: float = 1) -> Consumer:
    return Consumer(UUID(int=number), f"w{number}@web", at(-since), is_alive, ["mail"])


IDLE, BUSY = Held(0, None), Held(3, at(-90))
LIVE: dict[str, Any] = {"consumers": (consumer(),), "held": (BUSY,)}
LOCK = Lock(42, "app", "report", at(-60), at(-50), "idle in transaction", "SELECT 1")

#: The same of jobs in lanes.
FLOW_CASES: list[tuple[Facts, str, str]] = [
    (
        Facts(job(), pauses=(PauseRow("tag", "import", "", at(-60), at(60)),)),
        "jobs_paused",
        "Tag import is paused since 2026-11-24 09:59:00 UTC, 60 s ago, until 2026-11-24 10:01:00",
    ),
    (
        Facts(
            job(lane="rate/queue/mail=7"),
            **LIVE,
            lane=InLane(412),
            gates=(
                GateFacts(
                    "rate/queue/mail=7", FlowRow("rate/queue/mail", 100, 60.0, "args.0"), 100, 3.2
                ),
            ),
        ),
        "rate_used_up",
        "a token of rate/queue/mail, key 7 (100/m): next in 3.2 s; 412 jobs are before it.",
    ),
    (
        Facts(
            job(lane="running/stripe"),
            **LIVE,
            gates=(
                GateFacts(
                    "running/stripe",
                    FlowRow("running/stripe", 1),
                    1,
                    holders=(Running("b", "tasks.add", "w1@web", at(-5)),),
                ),
            ),
        ),
        "key_full",
        "1 of running/stripe, which allows 1 at once, is running: b on w1@web. 0 jobs are before",
    ),
    (
        Facts(job(lane="share=7", fair_by="args.0"), **LIVE, lane=InLane(2, 3)),
        "waits_for_turn",
        "key 7 waits for its turn: 2 jobs are before it, and 3 lanes with an earlier turn.",
    ),
]
#: Facts, and the kind and a part of the text that they make.
CASES: list[tuple[Facts, str, str]] = [
    *FLOW_CASES,
    (
        Facts(
            job("scheduled", due_at=at(200)),
            wait=WaitFacts(True, None, None, at(-9), at(200), []),
        ),
        "asleep",
        "Its task sleeps until 2026",
    ),
    (
        Facts(
            job("scheduled", due_at=at(9e7)),
            wait=WaitFacts(True, "approved", "order-7", at(-9), None, ["charge", "mail"]),
        ),
        "waits_for_signal",
        "and has no timeout. Steps done: charge, mail.",
    ),
    (Facts(job("scheduled", due_at=at(200))), "not_due", "10:03:20 UTC, in 3 min 20 s"),
    (Facts(job("scheduled", due_at=at(200), paused_at=at(-7))), "not_due", "is paused since"),
    (Facts(job("scheduled", due_at=at(-2))), "not_due", "it is due at"),
    (Facts(job("scheduled", due_at=at(-20))), "no_maintenance", "0 workers of any queue are alive"),
    (Facts(job("retryable", due_at=at(-20), live_nodes=1)), "no_maintenance", "1 worker of any"),
    (
        Facts(job("retryable", due_at=at(9), attempt=2, error={"type": "KeyError"})),
        "retry_waiting",
        "Attempt 2 of 20 failed (KeyError); the next one is due at 2026-11-24 10:00:09 UTC, in 9 s",
    ),
    (
        Facts(job(), consumers=(consumer()._replace(slots=4, knows_task=True),), held=(BUSY,)),
        "at_capacity",
        "w1@web holds 3 jobs in 4 slots, the oldest since",
    ),
    (
        Facts(
            job(concurrency=1),
            line=Line(running=1),
            consumers=tuple(consumer(n)._replace(knows_task=False) for n in (1, 2)),
            held=(BUSY, IDLE),
        ),
        "unknown_to_workers",
        "knows the task tasks.add (w1@web, w2@web): the one that claims the job discards it",
    ),
    (
        Facts(
            job(),
            consumers=(
                consumer(1)._replace(knows_task=False),
                consumer(2)._replace(knows_task=True),
            ),
            held=(BUSY, BUSY),
        ),
        "at_capacity",
        "w2@web holds",
    ),
    (Facts(job(), LOCK), "row_locked", "A session (PID 42, application report, user app) has lock"),
    (Facts(job(), LOCK), "row_locked", "is idle in transaction; its last query began 2026-11-24"),
    (Facts(job("scheduled", due_at=at(9)), LOCK), "row_locked", "its row since"),
    (Facts(job(), LOCK._replace(is_table=True)), "row_locked", "has locked the table of the jobs"),
    (Facts(job(), Lock(None, xact_start=None)), "row_locked", "A prepared transaction has locked"),
    (Facts(job(), Lock(42)), "row_locked", "A session (PID 42) has locked its row, and"),
    (Facts(job(), LOCK._replace(xact_start=at(-0.5))), "no_consumer", "No live worker"),
    (Facts(job(expires_at=at(-1), paused_at=at(-9))), "expired", "will cancel it"),
    (Facts(job(expires_at=at(1), paused_at=at(-9))), "queue_paused", "since 2026-11-24 09:59:51"),
    (Facts(job(paused_at=at(-9), concurrency=0), **LIVE), "queue_paused", "9 s ago"),
    (Facts(job()), "no_consumer", "No other worker is alive, either."),
    (Facts(job(live_nodes=2)), "no_consumer", "2 workers of other queues are alive."),
    (
        Facts(job(), consumers=(consumer(is_alive=False, since=7200),), held=(IDLE,)),
        "no_consumer",
        "The last that did was w1@web: its last heartbeat came at 2026-11-24 08:00:00 UTC, 2 h 0",
    ),
    (
        Facts(job(), last_run=LastRun("w9@web", at(-300))),
        "no_consumer",
        "w9@web was the last to end a job of it, at 2026-11-24 09:55:00 UTC, 5 min 0 s ago.",
    ),
    (
        Facts(
            job(concurrency=12),
            line=Line(0, 12),
            running=tuple(Running(f"j{n}", "t", "w1@web", at(-n)) for n in range(10)),
            **LIVE,
        ),
        "limit_full",
        "j9 on w1@web and 2 more. It is the next of queue mail.",
    ),
    (Facts(job(concurrency=0), **LIVE), "limit_full", "limited to 0 at once, and 0 jobs of it are"),
    (Facts(job(concurrency=2), line=Line(1, 1), **LIVE), "in_line", "is running of 2 at once;"),
    (Facts(job(), line=Line(1, 0), **LIVE), "in_line", "position 2 of queue mail, behind 1 job. 0"),
    (
        Facts(job(), line=Line(10_000, 4, True), **LIVE),
        "in_line",
        "behind 10,000 jobs. At least 4 jobs of it are running; 1 worker consumes from it.",
    ),
    (Facts(job(), line=Line(7, 9999, True, False), **LIVE), "in_line", "behind at least 7 jobs."),
    (Facts(job(), line=Line(0, 9999, True, False), **LIVE), "in_line", "behind at least 0 jobs."),
    (Facts(job(), line=Line(10_001, 4, True), **LIVE), "in_line", "behind more than 10,000 jobs."),
    (Facts(job(), **LIVE), "at_capacity", "w1@web holds 3 jobs, the oldest since 2026-11-24 09:58"),
    (Facts(job(), consumers=(consumer(),), held=(IDLE,)), "idle_workers", "which w1@web consumes"),
    (
        Facts(job(), consumers=(consumer(), consumer(2)), held=(BUSY, IDLE)),
        "idle_workers",
        "which w2@web consumes",
    ),
    (
        Facts(job(), consumers=(consumer(), consumer(2, is_alive=False)), held=(BUSY, IDLE)),
        "at_capacity",
        "is busy: w1@web holds",
    ),
    (Facts(job(inserted_at=at(-1)), **LIVE), "about_to_begin", "has been ready for 1 s."),
    (Facts(job(scheduled_at=at(-1)), **LIVE), "about_to_begin", "has been ready for 1 s."),
    (Facts(running()), "running", "w1@web has had it since 2026-11-24 09:59:30 UTC, 30 s ago, a"),
    (Facts(running()), "running", "It runs or is about to: w1@web has"),
    (Facts(running(reported_state="RETRY")), "running", "It runs or is about to: w1@web has"),
    (Facts(running(reported_state="STARTED")), "running", "It runs: w1@web has had it since"),
    (Facts(running()), "running", "attempt 2 of 20, and sent its last heartbeat 1 s ago."),
    (Facts(running(paused_at=NOW, concurrency=0, expires_at=at(-9))), "running", "It runs"),
    (Facts(running(heartbeat_at=at(-6))), "running", "6 s ago"),
    (Facts(running(attempted_at=at(-900_000))), "running", "10 days ago"),
    (Facts(running(cancel_requested_at=at(-3))), "running", "It was told to stop at 2026-11-24 09"),
    (Facts(running(heartbeat_at=at(-7))), "worker_silent", "after 2026-11-24 10:00:06 UTC, in 6 s"),
    (Facts(running(heartbeat_at=at(-14))), "held_by_dead_worker", "it then goes back in line."),
    (Facts(running(heartbeat_at=at(-14), acks_late=False)), "held_by_dead_worker", "may have run."),
    (
        Facts(running(heartbeat_at=at(-14), attempt=20)),
        "held_by_dead_worker",
        "it is then discarded, because this was its last attempt.",
    ),
    (
        Facts(running(heartbeat_at=at(-14), cancel_requested_at=at(-20))),
        "held_by_dead_worker",
        "it is then cancelled.",
    ),
    (Facts(running(heartbeat_at=None, lease=None)), "held_by_dead_worker", "no node row any more"),
    (Facts(running(heartbeat_at=at(-14), live_nodes=0)), "no_maintenance", "No live worker exists"),
    (Facts(running(heartbeat_at=at(-99))), "no_maintenance", "no live worker does the maintenance"),
    (Facts(running(has_message=False)), "awaits_result", "The row waits for the result."),
    (Facts(ended("completed", attempt=1, attempted_by="w1@web")), "completed", "on w1@web at 2026"),
    (Facts(ended("completed", attempt=1)), "completed", "in attempt 1 of 20."),
    (Facts(ended("discarded", "'x'", "KeyError", attempt=3)), "discarded", "attempt 3 of 20: KeyE"),
    (Facts(ended("discarded")), "discarded", "no error is recorded."),
    (Facts(ended("discarded", "w1 was lost", "WorkerLostError")), "worker_lost", "its worker died"),
    (Facts(ended("discarded", "'t'", "NotRegistered")), "unknown_task", "know the task tasks.add"),
    (Facts(ended("cancelled", "revoked")), "cancelled", "before it had begun, without a reason."),
    (
        Facts(ended("cancelled", "expired", cancel_reason="expired")),
        "cancelled",
        "before it had begun: expired.",
    ),
    (Facts(ended("cancelled", "no address", attempt=1)), "cancelled", "in attempt 1: no address."),
    (Facts(ended("cancelled", "expired")), "expired", "It expired before a worker began it"),
    (
        Facts(ended("cancelled", "expired", expires_at=at(-9))),
        "expired",
        "It had to begin by 2026-11-24 09:59:51 UTC, 9 s ago.",
    ),
    (
        Facts(ended("cancelled", "a duplicate of job b", superseded_by="b")),
        "duplicate",
        "it is a duplicate of job b, which",
    ),
    (
        Facts(ended("cancelled", "superseded by b", superseded_by="b")),
        "superseded",
        "Job b took over its unique key",
    ),
    (Facts(ended("cancelled", "enough", superseded_by="b")), "cancelled", "begun: enough."),
    (Facts(ended("cancelled", "dropped", "QueueFull")), "dropped", "Queue mail was full at 2026"),
    (
        Facts(ended("cancelled", "revoked before it was published", has_message=False)),
        "revoked_before_publishing",
        "before a job was published under it",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "kind", "part"), CASES, ids=range(len(CASES)))
def test_the_facts_decide(facts: Facts, kind: str, part: str) -> None:
    found = decide(facts)
    assert found.kind == kind, found
    assert part in found.text
    check(found)


def check(found: Explanation) -> None:
    assert found.kind in KINDS
    assert found.text.isprintable()
    assert found.text.endswith(".")
    assert "  " not in found.text
    assert found.remedy is None or found.remedy.isprintable()
    json.dumps(found.details, allow_nan=False)


def test_every_kind_has_a_case() -> None:
    kinds = {kind for _, kind, _ in CASES}
    # Of ids that have no row.
    assert kinds | {"waits_for_chord", "no_row"} == set(KINDS)


@pytest.mark.parametrize("facts", [facts for facts, _, _ in CASES], ids=range(len(CASES)))
def test_strangers_words_come_out_harmless(facts: Facts) -> None:
    """Whatever stands in the rows, and however often."""
    texts = {
        name: HOSTILE
        for name in ("task", "queue", "task_id", "attempted_by", "node", "cancel_reason")
        if getattr(facts.job, name) is not None or name == "cancel_reason"
    }
    lock = facts.lock and facts.lock._replace(application=HOSTILE, query=HOSTILE, user=HOSTILE)
    found = decide(Facts(facts.job._replace(**texts), lock, facts.line, (), facts.consumers,
                         facts.held, facts.last_run))  # fmt: skip
    check(found)


def test_a_chord_names_a_few_of_its_tasks() -> None:
    unfinished = (("b", State.AVAILABLE), ("c\x1b", State.EXECUTING))
    chord = ChordFacts("g", at(-60), 5, 2, NOW, unfinished)
    found = explain_chord("a", chord)
    assert found.kind == "waits_for_chord"
    assert "and 3 of the 5 tasks of its header have not finished: b (available), c" in found.text
    assert found.text.endswith("(executing), ....")
    assert found.details["missing"] == 3
    assert found.remedy == "celery -A proj pgjobs explain b"
    assert found.text.isprintable()
    assert explain_chord("a", chord._replace(unfinished=())).remedy is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min 0 s"), (599, "9 min 59 s"),
        (601, "10 min"), (7199, "119 min"), (7200, "2 h 0 min"), (172_799, "47 h 59 min"),
        (172_800, "2 days"), (1e10, "115,740 days"),
    ],
)  # fmt: skip
def test_spans_are_short(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_times_are_shown_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert when(at(-5).astimezone(zone), NOW) == "2026-11-24 09:59:55 UTC, 5 s ago"
    assert when(at(5), NOW) == "2026-11-24 10:00:05 UTC, in 5 s"
