"""Explain a job: why it does not run, or did not, or that it does.

:func:`gather` reads the facts, :func:`decide` is a pure function of them. The command line, and
whatever else tells people of jobs, stands on these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..db.deadline import answered_by
from ..db.rows.audit import ENDING
from ..db.rows.explain import FEW, MOST_AHEAD, Held, JobFacts
from ..job.recorded import read_time
from ..job.states import State
from ..scopes.steady import monotonic
from .explain_begun import explain_ended, explain_executing
from .explain_chord import explain_chord
from .explain_flow import explain_lane, explain_paused, gather_flow
from .explain_wait import explain_wait
from .explanation import (
    COMMAND,
    Explanation,
    Facts,
    by,
    count,
    error_text,
    explanation,
    span,
    until,
    when,
)  # fmt: skip

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.audit import Audit, Doer
    from ..db.rows.explain import Consumer, Explain, Lock
    from ..db.rows.rules import PauseRow, Rules

#: For how many seconds a job may be due before maintenance is missed: it looks each second, and at
#: the time of the nearest job.
STAGE_SECONDS = 10.0
#: How long a ready job may wait for idle workers before that is worth a word, in seconds: each
#: looks every second, whether it was told or not.
CLAIM_SECONDS = 5.0
#: For how long a transaction may hold a row before it is blamed, in seconds: a claim is over
#: sooner.
LOCK_SECONDS = 1.0
#: How long the database may take for all of it, in seconds.
ANSWER_SECONDS = 10.0
#: Said of a pause by an older release, or that a role must not read of.
UNRECORDED = " The audit does not tell who paused it."
#: How often the facts are read anew if the job changes meanwhile.
TRIES = 3


def explain(database: Database, task_id: str) -> Explanation | None:
    """Why the job with this id does not run, or did not; None if nothing is known of the id.

    Raises :class:`~pgjobs_celery.db.deadline.OutOfTime` after ANSWER_SECONDS, as where a session
    has locked the whole table.
    """
    with answered_by(monotonic() + ANSWER_SECONDS):
        return _explain(database, task_id)


def _explain(database: Database, task_id: str) -> Explanation | None:
    rows = database.explain
    facts = gather(rows, task_id, database.rules)
    for _ in range(TRIES):
        # The surroundings of a job that a worker claims meanwhile do not explain it any more.
        if facts is None or not is_waiting(facts.job):
            break
        if _same(facts.job, rows.explain_job(task_id)):
            break
        facts = gather(rows, task_id, database.rules)
    if facts is not None:
        return decide(replace(facts, doer=find_doer(database.audit, facts.job, facts.pauses)))
    chord = rows.explain_chord(task_id)
    return None if chord is None else explain_chord(task_id, chord)


def gather(rows: Explain, task_id: str, rules: Rules) -> Facts | None:
    """The facts about a job, as many as its state needs; None if it has no row."""
    job = rows.explain_job(task_id)
    if job is None or not is_waiting(job):
        return job and Facts(job)
    lock = _lasting_lock(rows, task_id)
    if job.state is not State.AVAILABLE:
        is_scheduled = job.state is State.SCHEDULED
        return Facts(job, lock, wait=rows.explain_steps(task_id) if is_scheduled else None)
    consumers = tuple(rows.explain_consumers(job.queue, job.task))
    queues = sorted({queue for each in consumers if each.is_alive for queue in each.queues})
    held = rows.explain_held(queues) if queues else {}
    return Facts(
        job,
        lock,
        rows.explain_line(job.queue, job.priority, job.seq),
        tuple(rows.explain_running(job.queue)),
        consumers,
        tuple(held.get(each.node, Held(0, None)) for each in consumers),
        None if any(each.is_alive for each in consumers) else rows.explain_last_run(job.queue),
        **gather_flow(rows, rules, job),
    )


def find_doer(audit: Audit, job: JobFacts, pauses: Sequence[PauseRow] = ()) -> Doer | None:
    """The one that has cancelled the job, or paused the queue that it waits in."""
    if is_waiting(job):
        if job.paused_at is None:
            begun = [each.paused_at for each in pauses]
            return audit.find_action(begun, ["pause_jobs"]) if begun else None
        return audit.find_action([job.paused_at], ["pause_queue"], queue=job.queue)
    # The end of a job that waited is the clock's; its error has the time of the transaction.
    marks = (job.finished_at, job.cancel_requested_at, read_time(job.error.get("at")))
    times = [at for at in marks if at is not None]
    if job.cancel_requested_at is None and job.state is not State.CANCELLED:
        return None
    return audit.find_action(times, ENDING, task_id=job.task_id)


def _lasting_lock(rows: Explain, task_id: str) -> Lock | None:
    """The lock on the row; looks twice where the role may not see since when it is held."""
    lock = rows.explain_lock(task_id)
    if lock is None or lock.pid is None or lock.xact_start is not None:
        return lock
    time.sleep(LOCK_SECONDS)
    again = rows.explain_lock(task_id)
    return again if again is not None and again.pid == lock.pid else None


def is_waiting(job: JobFacts) -> bool:
    """True if no worker has it, and it has not ended."""
    return not job.state.is_final and job.state is not State.EXECUTING


def _same(job: JobFacts, again: JobFacts | None) -> bool:
    return again is not None and (again.state, again.attempt, again.queue, again.seq) == (
        job.state, job.attempt, job.queue, job.seq,
    )  # fmt: skip


def decide(facts: Facts) -> Explanation:
    """The reason that counts: of several, the one that must be gone first."""
    job = facts.job
    if job.state.is_final:
        return explain_ended(job, facts.doer)
    if job.state is State.EXECUTING:
        return explain_executing(job, facts.doer)
    if facts.lock is not None and (found := _locked(facts)):
        return found
    if job.state is not State.AVAILABLE:
        return explain_wait(facts) or _waiting_for_its_time(job, facts.doer)
    if job.expires_at is not None and job.expires_at <= job.now:
        return explanation(
            job,
            "expired",
            f"It had to begin by {when(job.expires_at, job.now)}, and did not: the worker that"
            " comes to it will cancel it.",
            expires_at=job.expires_at,
        )
    if job.paused_at is not None:
        return explanation(
            job,
            "queue_paused",
            f"Queue {job.queue} is paused since {when(job.paused_at, job.now)}{by(facts.doer)}"
            f"{until(job.paused_until, job.now)}: no worker begins a job of it."
            f"{'' if facts.doer else UNRECORDED}",
            f"{COMMAND} resume {quote(job.queue)}",
            paused_at=job.paused_at,
            paused_by=facts.doer and facts.doer.actor,
        )
    if facts.pauses:
        return explain_paused(facts)
    return _in_line(facts)


def _locked(facts: Facts) -> Explanation | None:
    job, lock = facts.job, facts.lock
    assert lock is not None
    held = None if lock.xact_start is None else job.now - lock.xact_start
    if held is not None and held < timedelta(seconds=LOCK_SECONDS):
        return None
    what = "the table of the jobs" if lock.is_table else "its row"
    if lock.pid is None:
        who = "A prepared transaction"
    else:
        names = [f"PID {lock.pid}"]
        names += [f"application {lock.application}"] if lock.application else []
        names += [f"user {lock.user}"] if lock.user else []
        who = f"A session ({', '.join(names)})"
    since = f" since {when(lock.xact_start, job.now)}" if lock.xact_start else ""
    query = ""
    if lock.query_start is not None:
        ran = "runs since" if lock.state == "active" else f"is {lock.state}; its last query began"
        query = f" It {ran} {when(lock.query_start, job.now)}: {lock.query or ''}."
    return explanation(
        job,
        "row_locked",
        f"{who} has locked {what}{since}, and workers pass over what is locked until that"
        f" transaction ends.{query}",
        None if lock.pid is None else f'psql -c "SELECT pg_terminate_backend({lock.pid})"',
        session=lock._asdict(),
    )


def _waiting_for_its_time(job: JobFacts, doer: Doer | None) -> Explanation:
    due = job.due_at or job.scheduled_at
    if due <= job.now - timedelta(seconds=STAGE_SECONDS):
        live = f"{count(job.live_nodes, 'worker')} of any queue {_are(job.live_nodes)} alive"
        return explanation(
            job,
            "no_maintenance",
            f"It was due at {when(due, job.now)}, and no process has put it in line: no maintenance"
            f" is running, though every worker does it unless pgjobs_maintenance is off. {live}.",
            f"{COMMAND} maintain",
            due_at=due,
            live_nodes=job.live_nodes,
        )
    now = f"{COMMAND} reschedule {quote(job.task_id)} --in 0"
    paused = ""
    if job.paused_at is not None:
        since = f"since {when(job.paused_at, job.now)}{by(doer)}"
        paused = f" Queue {job.queue} is paused {since}, too."
    if job.state is State.RETRYABLE:
        error = error_text(job.error) or "it asked for that itself"
        return explanation(
            job,
            "retry_waiting",
            f"Attempt {job.attempt:,} of {job.max_attempts:,} failed{_on(job)} ({error}); the next"
            f" one is due at {when(due, job.now)}.{paused}",
            now,
            due_at=due,
            paused_at=job.paused_at,
            error=job.error,
            worker=job.attempted_by,
        )
    text = f"It waits for its time: it is due at {when(due, job.now)}.{paused}"
    return explanation(job, "not_due", text, now, due_at=due, paused_at=job.paused_at)


def _in_line(facts: Facts) -> Explanation:
    job, line, live = facts.job, facts.line, facts.live
    if not live:
        return _without_consumer(facts)
    if all(consumer.knows_task is False for consumer, _ in live):
        return _unknown_to_workers(facts)
    consumers = [consumer.name for consumer, _ in live]
    details: dict[str, Any] = {
        "ahead": min(line.ahead, MOST_AHEAD),
        "ahead_is_more": line.ahead > MOST_AHEAD or not line.has_all_ahead,
        "running": line.running, "concurrency": job.concurrency, "consumers": consumers,
        "oldest": [each._asdict() for each in facts.running],
    }  # fmt: skip
    if job.lane is not None and (found := explain_lane(facts, details)):
        return found
    if job.concurrency is not None and line.running >= job.concurrency:
        named = ", ".join(f"{each.task_id} on {each.worker}" for each in facts.running)
        holders = f": {named}" if named else ""
        more = line.running - len(facts.running)
        holders += f" and {more:,} more" if named and more > 0 else ""
        return explanation(
            job,
            "limit_full",
            f"Queue {job.queue} is limited to {job.concurrency:,} at once, and"
            f" {count(line.running, 'job')} of it {_are(line.running)} running{holders}."
            f" {_place(facts)}",
            f"{COMMAND} limit {quote(job.queue)} {line.running + 1}",
            **details,
        )
    if line.ahead or not line.has_all_ahead:
        return explanation(job, "in_line", f"{_place(facts)} {_running(facts)}", **details)
    return _next_in_line(facts, details)


def _next_in_line(facts: Facts, details: dict[str, Any]) -> Explanation:
    job = facts.job
    waits = job.now - max(job.scheduled_at, job.inserted_at)
    idle = [consumer.name for consumer, held in facts.live if not held.jobs]
    if waits < timedelta(seconds=CLAIM_SECONDS):
        text = f"It is the next of queue {job.queue}, and has been ready for {span(waits)}."
        return explanation(job, "about_to_begin", f"{text} {_running(facts)}", **details)
    if idle:
        return explanation(
            job,
            "idle_workers",
            f"It is the next of queue {job.queue}, which {', '.join(idle[:FEW])} consumes from"
            " without holding a job. A worker looks each second: the worker's own limit for the"
            " queue (pgjobs_queues), a rate limit, or a worker that is stuck keeps it from"
            " claiming. Its log tells.",
            **details,
        )
    holds = "; ".join(_holds(consumer, held, job) for consumer, held in facts.live[:FEW])
    return explanation(
        job,
        "at_capacity",
        f"It is the next of queue {job.queue}, and every worker that consumes from it is busy:"
        f" {holds}. The first that has room begins it.",
        f"celery -A proj worker -Q {quote(job.queue)}",
        holds={consumer.name: held.jobs for consumer, held in facts.live},
        slots={consumer.name: consumer.slots for consumer, held in facts.live},
        **details,
    )


def _holds(consumer: Consumer, held: Held, job: JobFacts) -> str:
    since = f", the oldest since {when(held.since, job.now)}" if held.since else ""
    slots = "" if consumer.slots is None else f" in {count(consumer.slots, 'slot')}"
    return f"{consumer.name} holds {count(held.jobs, 'job')}{slots}{since}"


def _unknown_to_workers(facts: Facts) -> Explanation:
    job = facts.job
    names = [consumer.name for consumer, _ in facts.live]
    shown = ", ".join(names[:FEW]) + (", ..." if names[FEW:] else "")
    return explanation(
        job,
        "unknown_to_workers",
        f"No live worker that consumes from queue {job.queue} knows the task {job.task} ({shown}):"
        " the one that claims the job discards it. Pause the queue until a worker whose app"
        f" registers the task consumes from it. {_place(facts)}",
        f"{COMMAND} pause {quote(job.queue)}",
        consumers=names,
    )


def _without_consumer(facts: Facts) -> Explanation:
    job = facts.job
    last: dict[str, Any] = {"worker": None, "last_seen": None}
    text = f"No live worker consumes from queue {job.queue}."
    if facts.consumers:
        gone = facts.consumers[0]
        last = {"worker": gone.name, "last_seen": gone.heartbeat_at}
        text += f" The last that did was {gone.name}: its last heartbeat came at"
        text += f" {when(gone.heartbeat_at, job.now)}."
    elif facts.last_run is not None:
        last = {"worker": facts.last_run.worker, "last_seen": facts.last_run.finished_at}
        text += f" {facts.last_run.worker} was the last to end a job of it, at"
        text += f" {when(facts.last_run.finished_at, job.now)}."
    else:
        text += " The newest ends of jobs do not show one that did."
    others = f"{count(job.live_nodes, 'worker')} of other queues {_are(job.live_nodes)} alive."
    return explanation(
        job,
        "no_consumer",
        f"{text} {others if job.live_nodes else 'No other worker is alive, either.'}",
        f"celery -A proj worker -Q {quote(job.queue)}",
        live_nodes=job.live_nodes,
        **last,
    )


def _place(facts: Facts) -> str:
    """Its position, which is counted up to MOST_AHEAD."""
    job, ahead = facts.job, facts.line.ahead
    if ahead > MOST_AHEAD:
        return f"It is in queue {job.queue} behind more than {MOST_AHEAD:,} jobs."
    if not facts.line.has_all_ahead:
        return f"It is in queue {job.queue} behind at least {count(ahead, 'job')}."
    if not ahead:
        return f"It is the next of queue {job.queue}."
    return f"It is at position {ahead + 1:,} of queue {job.queue}, behind {count(ahead, 'job')}."


def _running(facts: Facts) -> str:
    """How many jobs of the queue run, and the oldest of them."""
    job, running = facts.job, facts.line.running
    more = "at least " if facts.line.is_cut else ""
    text = f"{more}{count(running, 'job')} of it {_are(running)} running"
    text = text[0].upper() + text[1:]
    if job.concurrency is not None:
        text += f" of {job.concurrency:,} at once"
    if facts.running and (oldest := facts.running[0]).since:
        text += f", the oldest since {when(oldest.since, job.now)} on {oldest.worker}"
    return f"{text}; {count(len(facts.live), 'worker')} {_consume(len(facts.live))} from it."


def _on(job: JobFacts) -> str:
    return f" on {job.attempted_by}" if job.attempted_by else ""


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _consume(number: int) -> str:
    return "consumes" if number == 1 else "consume"
