"""Run the jobs that wait in the database, in the test's own transaction if it has one."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

from celery.exceptions import Reject
from kombu.message import Message

from ...control.app import database_of
from ...control.jobs import jobs
from ...job.envelope import decode_envelope
from ...job.exceptions import LONGEST_DELAY
from ...job.flow import LANE_RANK, rank_of
from ...job.held_claim import held_claim
from ...job.job import Job
from ...job.outcome import (
    Outcome,
    cancelled,
    completed,
    discarded,
    error_entry,
    error_from,
    released,
    requeued,
    retried,
)
from ...job.rows import HIGHEST_RANK, Bucket, Claim, Fence
from ...job.states import WAITING, State
from ...job.steps import Kind, Memory
from ...maintenance.complete import Complete
from ...results.backend import PgBackend
from .clock import span
from .draining import MOST_ROUNDS, never_ends
from .executing import HOSTNAME, Attempt, Performed, execute, is_ignored

#: Seconds for which the node of a test may claim: it has no heartbeat.
LEASE = 3600.0
#: How many jobs one round takes.
MOST_CLAIMS = 10_000


class RowDraining:
    """The jobs of an app in its database, for one call of the helpers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.database = database_of(app)
        self.counts: Counter[str] = Counter()

    def due(self, queue: str | None = None, *, with_scheduled: bool = False) -> list[Job]:
        """Those that may run, in the order that one worker would take them."""
        chosen = jobs(self.app).filter(state=list(WAITING))
        if queue is not None:
            chosen = chosen.filter(queue=queue)
        # The database's now() is the start of the test's transaction, which may be long ago.
        now = datetime.now(timezone.utc)
        ready = [job for job in chosen if with_scheduled or _is_due(job, now)]
        return sorted(ready, key=lambda job: (job.priority, job.id or 0))

    def memories(self, task_id: str) -> dict[str, Memory]:
        """The values that a job's steps have returned, by their names."""
        with self.database.joining():
            return {
                step.name: Memory(Kind(step.kind), step.value, step.value_type)
                for step in self.database.steps.list_steps(task_id)
            }

    def advance(self, seconds: float | timedelta) -> None:
        """Make scheduled jobs due that much sooner."""
        by = span(seconds)
        with self.database.joining():
            self.database.steps.advance_waits(by.total_seconds())
        for job in [*jobs(self.app).filter(state=[State.SCHEDULED, State.RETRYABLE])]:
            if job.scheduled_at is not None:
                jobs(self.app).filter(id=job.task_id).reschedule(eta=job.scheduled_at - by)

    def run(
        self, queue: str | None, *, with_scheduled: bool, with_recursion: bool, with_safety: bool
    ) -> Counter[str]:
        """Run them; return the number of each outcome."""
        for _ in range(MOST_ROUNDS):
            with self.database.joining():
                self.database.steps.wake_waiting(MOST_CLAIMS)
            ready = self._ready(queue, with_scheduled=with_scheduled)
            error = None
            with self.database.joining():
                if ready:
                    error = self._run_all(ready, with_safety)
                self._complete_chords()
            if error is not None:
                raise error
            if not ready or not with_recursion:
                return self.counts
        raise never_ends(queue, self.counts)

    def _ready(self, queue: str | None, *, with_scheduled: bool) -> list[Job]:
        """Those to run now: of those that wait for a signal, only whose time is over."""
        ready = self.due(queue, with_scheduled=with_scheduled)
        if not with_scheduled:
            return ready
        due = {job.id for job in self.due(queue)}
        early = [job for job in ready if job.id is not None and job.id not in due]
        with self.database.joining():
            waits = {job.id: self.database.steps.find_wait(job.task_id) for job in early}
            asleep = [id for id, wait in waits.items() if id is not None and wait is not None]
            self.database.steps.advance_waits(LONGEST_DELAY, asleep, sleeps_only=True)
        return [job for job in ready if (wait := waits.get(job.id)) is None or not wait.signal]

    def _run_all(self, ready: list[Job], with_safety: bool) -> BaseException | None:
        """Claim these, as a worker with room for all would, and run them."""
        node = uuid4()
        queues = sorted({job.queue for job in ready})
        for job in ready:
            if job.state is not State.AVAILABLE:
                jobs(self.database).filter(id=job.task_id).reschedule(countdown=0)
        self.database.nodes.beat_node(node, HOSTNAME, queues, LEASE)
        # A test runs jobs at once, whatever their rates and limits.
        buckets = [Bucket(queue, highest=LANE_RANK + HIGHEST_RANK) for queue in queues]
        limit = min(len(ready), MOST_CLAIMS)
        claims, _ = self.database.claims.claim_jobs(node, HOSTNAME, buckets, limit)
        if any(claim.priority > HIGHEST_RANK for claim in claims):
            claims.sort(key=lambda claim: (rank_of(claim.priority), claim.seq))
        try:
            while claims:
                claim = claims.pop(0)
                performed = self._run_one(node, claim)
                self.counts[performed.outcome] += 1
                if not with_safety and performed.error is not None:
                    return performed.error
        finally:
            self._settle(node, [released(claim) for claim in claims])
            self.database.nodes.delete_node(node)
        return None

    def _run_one(self, node: UUID, claim: Claim) -> Performed:
        if claim.expires_in is not None and claim.expires_in <= 0:
            performed = Performed("cancelled", reason="expired")
        else:
            try:
                performed = execute(self.app, self._attempt(node, claim))
            except BaseException:
                self._settle(node, [released(claim)])
                raise
        # Values that the task, or its backend, has already written stay.
        outcome = _outcome(claim, performed)
        headers = decode_envelope(claim.message, claim.queue).headers
        has_failed = outcome.state in (State.DISCARDED, State.RETRYABLE)
        if has_failed and is_ignored(self.app, headers):
            outcome = outcome._replace(is_stored=False)
        self._settle(node, [outcome])
        return performed

    def _attempt(self, node: UUID, claim: Claim) -> Attempt:
        envelope = decode_envelope(claim.message, claim.queue)
        message = Message(
            body=claim.body,
            content_type=envelope.content_type,
            content_encoding=envelope.content_encoding,
            headers=envelope.headers,
            properties=envelope.properties,
            delivery_info={
                "exchange": envelope.exchange,
                "routing_key": envelope.routing_key,
                "priority": envelope.properties.get("priority"),
                "redelivered": claim.redelivered,
            },
        )
        fence = Fence(node, claim.attempt)
        return Attempt(
            message, claim.attempt, claim.max_attempts, fence, self.database.key, self._find_steps
        )

    def _find_steps(self, request: Any) -> Any:
        from .stepping import JoinedSteps

        held = held_claim(request)
        assert held is not None
        return JoinedSteps(self.database, request.id, held)

    def _settle(self, node: UUID, outcomes: list[Outcome]) -> None:
        if outcomes:
            self.database.claims.settle_jobs(node, outcomes)

    def _complete_chords(self) -> None:
        backend = self.app.backend
        if isinstance(backend, PgBackend):
            Complete(backend, None).run(self.database)


def _is_due(job: Job, now: datetime) -> bool:
    return job.state is State.AVAILABLE or job.scheduled_at is None or job.scheduled_at <= now


def _outcome(claim: Claim, performed: Performed) -> Outcome:
    """The outcome for its row: as of a job that a worker has run."""
    if performed.row is not None:
        return performed.row._replace(id=claim.id, attempt=claim.attempt)
    error = performed.error
    if performed.outcome == "retried":
        if isinstance(error, Reject):
            return requeued(claim)
        entry = error_from(error) if error else error_entry("Retry", "the task retries itself")
        return retried(claim, performed.delay or 0.0, entry)
    if performed.outcome == "cancelled":
        return cancelled(claim, performed.reason)
    if error is not None:
        return discarded(claim, error_from(error))
    return completed(claim)
