"""Run the jobs that wait in an inbox, as workers would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from celery.app.task import Context
from kombu.message import Message

from ...errors import NeverEnds
from ...job.checks import is_number
from ...job.envelope import rank
from ...job.exceptions import LONGEST_DELAY
from ...job.options import HEADER
from ...job.states import State
from ..capturing.capture import Enqueued, Inbox
from .clock import InboxClock
from .executing import Attempt, Performed, execute, is_ignored

#: The most rounds of one call: a job that always requeues itself would run for ever.
MOST_ROUNDS = 1_000

#: The state of a job after its last attempt.
FINAL_STATES = {
    "completed": State.COMPLETED,
    "cancelled": State.CANCELLED,
    "discarded": State.DISCARDED,
    "replaced": State.COMPLETED,
}


class Draining:
    """One call of :func:`drain_queue` over an inbox."""

    def __init__(self, app: Any, inbox: Inbox, clock: InboxClock) -> None:
        self.app = app
        self.inbox = inbox
        self.clock = clock
        self.counts: Counter[str] = Counter()

    def due(self, queue: str | None = None, *, with_scheduled: bool = False) -> list[Enqueued]:
        """Those that may run, in the order that one worker would take them."""
        order = priority_order(self.app)
        waiting = self.inbox.waiting(queue)
        ready = [job for job in waiting if self._is_ready(job, with_scheduled)]
        return sorted(ready, key=lambda job: (rank(job.priority, order), job.number))

    def _is_ready(self, job: Enqueued, with_scheduled: bool) -> bool:
        """One that waits for a signal is not ready before its time, or the signal, has come."""
        if self.clock.is_due(job):
            return True
        wait = self.inbox.memories.waits_for(job.task_id)
        if wait is None or wait.name is None:
            return with_scheduled
        return self.inbox.memories.has_signal(job.task_id)

    def advance(self, seconds: float | timedelta) -> None:
        """Move the inbox's clock on."""
        self.clock.advance(seconds)

    def run(
        self, queue: str | None, *, with_scheduled: bool, with_recursion: bool, with_safety: bool
    ) -> Counter[str]:
        """Run them; return the number of each outcome."""
        for _ in range(MOST_ROUNDS):
            ready = self.due(queue, with_scheduled=with_scheduled)
            for job in ready:
                self._run_one(job, with_safety)
            if not ready or not with_recursion:
                return self.counts
        raise never_ends(queue, self.counts)

    def _run_one(self, job: Enqueued, with_safety: bool) -> None:
        performed = run_captured(self.app, self.inbox, self.clock, job, left_as=job.state)
        if performed is None:
            return
        self.counts[performed.outcome] += 1
        if not with_safety and performed.error is not None:
            raise performed.error


def run_captured(
    app: Any,
    inbox: Inbox,
    clock: InboxClock,
    job: Enqueued,
    *,
    left_as: State,
    hurries: bool | None = None,
) -> Performed | None:
    """Run a waiting job, and record its outcome; None if it no longer waits.

    ``left_as``: its state if the run is broken off. ``hurries``: it does not wait where it sleeps;
    None: if it runs before its time.
    """
    if hurries is None:
        hurries = not clock.is_due(job)
    taken = inbox.take(job)
    if taken is None:
        return None
    if clock.is_expired(taken):
        expire(app, inbox, taken)
        return Performed("cancelled", reason="expired")
    try:
        steps = captured_steps(inbox, clock, job.task_id, hurries=hurries)
        performed = execute(app, attempt_of(taken)._replace(find_steps=steps))
    except BaseException:
        inbox.update(taken, state=left_as)
        raise
    settle(inbox, clock, taken, performed)
    return performed


def captured_steps(
    inbox: Inbox, clock: InboxClock, task_id: str, *, hurries: bool = False
) -> Callable[[Any], Any]:
    """Finds the memory of a captured job, once its task is a PgTask and has a request."""

    def find(request: Any) -> Any:
        from .stepping import CapturedSteps  # loads the database driver, as a PgTask has

        return CapturedSteps(inbox.memories, task_id, clock.now, hurries=hurries)

    return find


def never_ends(queue: str | None, counts: Mapping[str, int]) -> NeverEnds:
    """The error for a queue that does not become empty."""
    return NeverEnds(
        f"after {MOST_ROUNDS:,} rounds there is still something in "
        f"{'line' if queue is None else f'queue {queue!r}'} ({dict(counts)}): a job always puts "
        "itself, or another, back; drain without with_recursion, or without with_scheduled"
    )


def attempt_of(job: Enqueued, number: int | None = None) -> Attempt:
    """A captured job's next attempt."""
    message = Message(
        body=job.body,
        content_type=job.content_type,
        content_encoding=job.content_encoding,
        headers=dict(job.headers),
        properties=dict(job.properties),
        delivery_info={
            "exchange": job.exchange,
            "routing_key": job.routing_key or job.queue,
            "priority": job.priority,
            "redelivered": False,
        },
    )
    return Attempt(message, number or job.retries + 1, job.max_attempts)


def expire(app: Any, inbox: Inbox, job: Enqueued) -> None:
    """Revoke an expired job, as a worker does."""
    inbox.update(job, state=State.CANCELLED)
    task = app.tasks.get(job.task)
    if task is None:
        return
    request = Context({**job.headers, "chord": job.chord, "errbacks": list(job.errbacks)})
    task.backend.mark_as_revoked(
        job.task_id,
        "expired",
        request=request,
        store_result=not is_ignored(app, job.headers),
    )


def settle(inbox: Inbox, clock: InboxClock, job: Enqueued, performed: Performed) -> None:
    """Record the outcome of a job."""
    newest = inbox.get(job.task_id)
    if newest is not None and newest.is_again and newest.number != job.number:
        inbox.renew(job, newest)
        return
    job = inbox.update(job, **_with_meta(job, performed))
    if performed.outcome in FINAL_STATES:
        inbox.update(job, state=FINAL_STATES[performed.outcome])
        return
    delay = performed.delay or 0.0
    eta = datetime.now(timezone.utc) + timedelta(seconds=delay) if delay else None
    if performed.outcome == "suspended":
        # Of a wait without an end that is a hundred years.
        span = LONGEST_DELAY if performed.delay is None else delay
        eta = datetime.now(timezone.utc) + timedelta(seconds=span)
        inbox.update(job, state=State.SCHEDULED, eta=eta)
    elif performed.outcome == "snoozed":
        inbox.update(job, state=State.SCHEDULED, eta=eta)
    else:
        retries = job.retries + 1
        headers = {**job.headers, "retries": retries}
        state = State.RETRYABLE if delay else State.AVAILABLE
        inbox.update(job, state=state, eta=eta, retries=retries, headers=headers)
    clock.put_back(job)


def _with_meta(job: Enqueued, performed: Performed) -> dict[str, Any]:
    """The attempt's meta for the next one, with the number of snoozes."""
    meta = performed.meta
    if performed.outcome == "snoozed":
        meta = {**meta, "snoozed": 1 + _number(meta.get("snoozed"))}
    if meta == job.meta:
        return {}
    header = {**(job.headers.get(HEADER) or {}), "meta": meta}
    return {"meta": meta, "headers": {**job.headers, HEADER: header}}


def _number(value: Any) -> Any:
    """A count, or 0 for a value edited by hand: as settle_others.sql reads it."""
    return value if is_number(value) else 0


def priority_order(app: Any) -> str:
    """Whether 0 runs first, as on Redis and here by default, or the highest, as on RabbitMQ."""
    options = app.conf.broker_transport_options or {}
    if order := options.get("priority_order"):
        return str(order)
    scheme = str(app.conf.broker_url or "").partition("://")[0]
    return "desc" if scheme in ("amqp", "amqps", "pyamqp") else "asc"
