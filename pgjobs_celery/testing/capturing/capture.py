"""Captured jobs: one record for each, in an inbox for each app."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ...job.idempotency import digest_arguments
from ...job.states import WAITING, State
from ...job.unique import Unique
from ...publishing.receipt import Receipt
from ...scopes.steady import monotonic
from .forked import Spool
from .memories import Memories
from .receipts import Receipts

#: Seconds between two looks for jobs that forked children have published.
CHILD_INTERVAL = 0.05
#: The states of a job that has not run yet, or will run again.
ENQUEUED = WAITING


@dataclass(frozen=True)
class Enqueued:
    """A job as it was published, with the fields that a worker would find in its message."""

    task_id: str
    task: str
    #: As the serializer of the message brings them back.
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    #: All queues of a message that an exchange has routed to several.
    queues: tuple[str, ...] = ()
    #: As the publisher gave it; 0 without one.
    priority: int = 0
    eta: datetime | None = None
    expires: datetime | None = None
    #: When it was published, by this machine's clock.
    published_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    state: State = State.AVAILABLE
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    #: How many times it was tried before, as Celery counts.
    retries: int = 0
    #: It was published by its own run: a retry, or a snooze.
    is_again: bool = False
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    max_attempts: int | None = None
    #: The rates and limits that hold it up, and how many tokens it takes; None for none, and for 1.
    lane: str | None = None
    cost: int | None = None
    unique: Unique | None = None
    #: The key that makes it unique: no two jobs that count share it.
    unique_key: bytes | None = None
    #: The key with which it is published once.
    idempotency_key: str | None = None
    #: The signatures that follow: a chain's in order, a chord's body, ``link``, ``link_error``.
    chain: tuple[Any, ...] = ()
    chord: Any = None
    callbacks: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    exchange: str = ""
    routing_key: str = ""
    headers: dict[str, Any] = field(default_factory=dict, repr=False)
    properties: dict[str, Any] = field(default_factory=dict, repr=False)
    content_type: str | None = field(default=None, repr=False)
    content_encoding: str | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)
    #: Its place among all that were published to this inbox; 1 for the first.
    number: int = 0
    #: Its arguments by the task's names for them, once they are bound.
    bound: Any = field(default=None, init=False, repr=False, compare=False)

    @property
    def countdown(self) -> float | None:
        """Seconds from its publication until it is due; None if it was due at once."""
        return None if self.eta is None else (self.eta - self.published_at).total_seconds()

    @property
    def is_waiting(self) -> bool:
        """True until it runs, or is cancelled."""
        return self.state in ENQUEUED


class Inbox:
    """The jobs that one app has published, in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._jobs: dict[int, Enqueued] = {}
        self._by_task: dict[str, list[int]] = {}
        self._by_id: dict[str, int] = {}
        self._by_key: dict[bytes, list[int]] = {}
        self._receipts = Receipts()
        self._last = 0
        #: The memories of the jobs' steps, and the signals that were sent to them.
        self.memories = Memories()
        self._spool: Spool | None = None

    def before_fork(self) -> None:
        """Prepare to receive the jobs that the child will publish."""
        if self._spool is None:
            self._spool = Spool()

    def after_fork(self) -> None:
        """In the child: renew the lock, which a thread of the parent may have held."""
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        if self._spool is not None:
            self._spool.is_child = True

    def _take_in(self) -> None:
        """Take in jobs that children have published."""
        if self._spool is not None and not self._spool.is_child:
            with self._lock:
                for job in self._spool.read():
                    self.insert(job)

    def __len__(self) -> int:
        """How many were published."""
        return len(self._jobs)

    @property
    def last(self) -> int:
        """The number of the newest; 0 without any."""
        self._take_in()
        return self._last

    def insert(self, job: Enqueued, receipt: Receipt | None = None) -> Enqueued | None:
        """Take a job in, unless an equal one exists: then None, as from the table."""
        with self._lock:
            first_id = self._find_first(job)
            same = self._find_same(job) if first_id is None else None
            if first_id is None and same is None:
                if self._spool is not None and self._spool.is_child:
                    self._spool.write(job)
                return self._add(job)
            if same is not None:
                assert job.unique is not None
                if replaced := job.unique.replaced(same.state):
                    self.update(same, **_replacements(job, replaced, same.published_at))
                first_id = same.task_id
                self._receipts.redirect(job.task, job.idempotency_key, first_id)
        if receipt is not None and first_id is not None:
            receipt.report_conflict(first_id)
        return None

    def _find_first(self, job: Enqueued) -> str | None:
        """The id of the job that was published with its idempotency key before."""
        before = self.get(job.task_id)
        if job.idempotency_key is None or (before and before.state is State.EXECUTING):
            return None
        digest = digest_arguments(job.content_type, job.body)
        return self._receipts.find_first(job.task, job.idempotency_key, job.task_id, digest)

    def _add(self, job: Enqueued) -> Enqueued:
        with self._news:
            self._last += 1
            job = replace(job, number=self._last)
            before = self.get(job.task_id)
            if before is not None and before.state is State.EXECUTING and before.task == job.task:
                is_failure = job.retries > before.retries and job.state is State.SCHEDULED
                state = State.RETRYABLE if is_failure else job.state
                job = replace(job, is_again=True, state=state)
            self._jobs[job.number] = job
            self._by_task.setdefault(job.task, []).append(job.number)
            self._by_id[job.task_id] = job.number
            if job.unique_key is not None:
                self._by_key.setdefault(job.unique_key, []).append(job.number)
            self._news.notify_all()
        return job

    def find(self, task: str | None = None, after: int = 0) -> list[Enqueued]:
        """Those of a task, or all, in the order they were published, in any state."""
        self._take_in()
        with self._lock:
            numbers: Iterable[int] = self._jobs if task is None else self._by_task.get(task, ())
            return [self._jobs[number] for number in numbers if number > after]

    def get(self, task_id: str) -> Enqueued | None:
        """The newest of this id."""
        self._take_in()
        with self._lock:
            number = self._by_id.get(task_id)
            return None if number is None else self._jobs[number]

    def waiting(self, queue: str | None = None) -> list[Enqueued]:
        """Those that wait to be run, in the order they were published."""
        return [
            job for job in self.find() if job.is_waiting and (queue is None or job.queue == queue)
        ]

    def update(self, job: Enqueued, **changes: Any) -> Enqueued:
        """Change fields of a job, above all its ``state``."""
        with self._news:
            job = replace(self._jobs.get(job.number, job), **changes)
            if job.number in self._jobs:  # not after clear()
                self._jobs[job.number] = job
            self._news.notify_all()
        return job

    def take(self, job: Enqueued) -> Enqueued | None:
        """Claim a job to run it; None if another thread has, or it no longer waits."""
        with self._lock:
            current = self._jobs.get(job.number)
            if current is None or not current.is_waiting:
                return None
            return self.update(current, state=State.EXECUTING)

    def cancel(self, task_ids: Iterable[str]) -> None:
        """Cancel waiting jobs: they never run."""
        with self._lock:
            for task_id in task_ids:
                job = self.get(str(task_id))
                if job is not None and job.is_waiting:
                    self.update(job, state=State.CANCELLED)

    def remove(self, job: Enqueued) -> None:
        """Forget one."""
        with self._lock:
            del self._jobs[job.number]
            self._by_task[job.task].remove(job.number)
            if self._by_id[job.task_id] == job.number:
                del self._by_id[job.task_id]
                for number in self._by_task[job.task]:
                    if self._jobs[number].task_id == job.task_id:
                        self._by_id[job.task_id] = number
            if job.unique_key is not None:
                self._by_key[job.unique_key].remove(job.number)

    def renew(self, job: Enqueued, again: Enqueued) -> Enqueued:
        """A job that has published itself again is the same one, as it is the same row."""
        with self._news:
            self.remove(again)
            job = self._jobs[job.number] = replace(again, number=job.number, is_again=False)
            self._by_id[job.task_id] = job.number
            self._news.notify_all()
        return job

    def clear(self) -> None:
        """Forget all; numbers go on."""
        with self._lock:
            self._jobs.clear()
            self._by_task.clear()
            self._by_id.clear()
            self._by_key.clear()
            self._receipts.clear()
            self.memories.clear()

    def wait_until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``holds()``, for ``timeout`` seconds at most; return whether it does.

        It is called again whenever a job is published or changes.
        """
        end = monotonic() + timeout
        with self._news:
            while not holds():
                left = end - monotonic()
                if left <= 0:
                    return False
                self._news.wait(left if self._spool is None else min(left, CHILD_INTERVAL))
        return True

    def _find_same(self, job: Enqueued) -> Enqueued | None:
        rule = job.unique
        if rule is None or job.unique_key is None:
            return None
        since = None if rule.seconds is None else job.published_at - timedelta(seconds=rule.seconds)
        for number in self._by_key.get(job.unique_key, ()):
            other = self._jobs[number]
            if (
                other.task_id != job.task_id
                and other.state.value in rule.states
                and (since is None or other.published_at >= since)
            ):
                return other
        return None


#: The fields that each option replaces, unless the field has the option's name.
_REPLACED = {
    "args": ("args", "kwargs", "body", "content_type", "content_encoding"),
    "eta": ("eta", "published_at"),
}


def _replacements(job: Enqueued, names: Iterable[str], since: datetime) -> dict[str, Any]:
    fields = [each for name in names for each in _REPLACED.get(name, (name,))]
    changes = {name: getattr(job, name) for name in fields}
    if "eta" in changes:
        changes["state"] = job.state
        if job.eta is not None and job.unique is not None and job.unique.latest is not None:
            # It counts from the first: that stays.
            changes["eta"] = min(job.eta, since + timedelta(seconds=job.unique.latest))
            changes.pop("published_at")
    return changes
