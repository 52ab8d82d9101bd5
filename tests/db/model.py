"""What each statement does to the rows of ``jobs``, in Python: test_model.py holds SQL to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple
from uuid import UUID

from pgjobs_celery.db.rows.claims import Rescued
from pgjobs_celery.job.outcome import Outcome, Result
from pgjobs_celery.job.rows import Bucket, Fence, NewJob
from pgjobs_celery.job.states import State

#: Who holds what only a report stands for.
NOBODY = UUID(int=0)

#: How long a node may be silent, in seconds. No sum of the steps in which time passes comes near
#: to it, to its half, to an eta or to an age: the clock itself goes on while a test runs.
LEASE = 150.0

#: Above every place in line that the database gives: where it is not known yet.
_TAIL = 10**12


class Token(NamedTuple):
    """A claim as the worker that got it remembers it."""

    task_id: str
    id: int
    node: UUID
    attempt: int

    @property
    def fence(self) -> Fence:
        return Fence(self.node, self.attempt)


@dataclass
class Node:
    """A row of ``nodes``; times are the model's."""

    name: str
    heartbeat: float


@dataclass
class Job:
    """A row of ``jobs``, as far as it decides what may become of it."""

    task_id: str
    task: str
    queue: str
    priority: int
    place: int
    message: str | None
    parent_id: str | None = None
    id: int = 0
    state: State = State.AVAILABLE
    attempt: int = 0
    max_attempts: int = 20
    holder: UUID | None = None
    acks_late: bool = False
    redelivered: bool = False
    due: float | None = None
    finished: float | None = None
    reported: str | None = None
    result: bytes | None = None
    #: Somebody has stored one; it may be None.
    has_result: bool = False
    #: Type and attempt of each entry.
    errors: list[tuple[str, int]] = field(default_factory=list)

    @property
    def fence(self) -> Fence | None:
        return Fence(self.holder, self.attempt) if self.holder else None

    @property
    def is_waiting(self) -> bool:
        return self.holder is None and self.finished is None

    @property
    def is_only_reported(self) -> bool:
        return self.message is None and self.finished is None

    def add_error(self, entry: str | None) -> None:
        if entry is not None:
            self.errors.append((json.loads(entry)["type"], self.attempt))

    def end_attempt(self, state: State, now: float) -> None:
        """What the attempt, or an earlier one, has said of itself goes with it."""
        self.state, self.holder, self.due = state, None, None
        self.finished = now if state.is_final else None
        self.reported = self.result = None
        self.has_result = False


class Model:
    """The tables ``jobs`` and ``nodes``. Methods are named as those of the database, and answer as
    they do."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.nodes: dict[UUID, Node] = {}
        self.now = 0.0
        self._places = count(_TAIL)
        #: Whose attempt has been given back, or begun anew, by the step that runs.
        self.given_back: set[str] = set()

    # -- what the rules ask ----------------------------------------------------------------------

    def is_alive(self, node: UUID) -> bool:
        return node in self.nodes and self.now - self.nodes[node].heartbeat < LEASE

    @property
    def held(self) -> list[Token]:
        """Every claim that counts."""
        return [
            Token(job.task_id, job.id, job.holder, job.attempt)
            for job in self.jobs.values()
            if job.holder and job.message is not None
        ]

    def holds(self, token: Token) -> bool:
        return token.task_id in self.jobs and self.jobs[token.task_id].fence == token.fence

    # -- jobs ------------------------------------------------------------------------------------

    def insert_job(
        self, new: NewJob, eta: float | None, holder: Fence | None, is_repeated: bool = False
    ) -> bool:
        old = self.jobs.get(new.task_id)
        if holder is not None and (old is None or old.fence != holder):
            return False
        if old and old.message is not None:
            is_known = is_repeated and new.parent_id is not None and old.parent_id == new.parent_id
            if holder is None and (old.finished is None or is_known):
                return False
        job = Job(new.task_id, new.task, new.queue, new.priority, next(self._places), new.message)
        job.parent_id = new.parent_id
        if eta is not None and eta > 0:
            job.due, job.state = self.now + eta, State.SCHEDULED
        if old:
            self.given_back.add(job.task_id)
        if old and old.finished is None:
            job.id = old.id
            job.errors = old.errors
            if old.is_only_reported:
                job.reported, job.result = old.reported, old.result
                job.has_result = old.has_result
            else:
                self.given_back.discard(job.task_id)
                job.attempt = old.attempt
                # What it published when it was lost it may publish again.
                is_same = old.task == new.task
                job.redelivered = is_same and (old.redelivered or is_repeated)
                job.max_attempts = max(old.max_attempts, old.attempt + 20)
                job.state = State.AVAILABLE if job.due is None else State.RETRYABLE
        self.jobs[job.task_id] = job
        return True

    def find_ready(self, buckets: Sequence[Bucket], limit: int) -> list[Job]:
        """What a claim takes, in the order of the buckets."""
        found: list[Job] = []
        for bucket in buckets:
            ready = [
                job
                for job in self.jobs.values()
                if job.queue == bucket.queue
                and job.state is State.AVAILABLE
                and (job.priority, job.place) >= (bucket.lowest, bucket.floor)
                and job.priority <= bucket.highest
            ]
            found += sorted(ready, key=lambda job: (job.priority, job.place))[:limit]
        return found[:limit]

    def claim_jobs(
        self, node: UUID, buckets: Sequence[Bucket], limit: int, late: Collection[str]
    ) -> list[Job]:
        """What ``node`` gets, as a worker gets it: by priority, bucket and place in line."""
        if not self.is_alive(node):
            return []
        claimed = self.find_ready(buckets, limit)
        for job in claimed:
            job.state, job.holder = State.EXECUTING, node
            job.attempt += 1
            job.max_attempts = max(job.max_attempts, job.attempt)
            job.acks_late = job.task in late
        order = [bucket.queue for bucket in buckets]
        return sorted(claimed, key=lambda job: (job.priority, order.index(job.queue), job.place))

    def settle_jobs(self, node: UUID, outcomes: Iterable[Outcome]) -> list[Outcome]:
        return [outcome for outcome in outcomes if not self._settle(node, outcome)]

    def _settle(self, node: UUID, outcome: Outcome) -> bool:
        job = next((job for job in self.jobs.values() if job.id == outcome.id), None)
        if job is None or job.fence != Fence(node, outcome.attempt):
            return False
        is_back = outcome.state is State.AVAILABLE
        is_spent = is_back and outcome.counts and job.attempt >= job.max_attempts
        is_silent = outcome.state is State.COMPLETED and outcome.result is None
        if is_spent and outcome.error is None:
            job.errors.append(("DeliveryLimitExceeded", job.attempt))
        else:
            job.add_error(outcome.error)
        job.redelivered = job.redelivered or is_back or outcome.was_lost
        reported, result, has_result = job.reported, job.result, job.has_result
        job.end_attempt(State.DISCARDED if is_spent else outcome.state, self.now)
        if outcome.result:
            job.result, job.has_result = outcome.result.result, True
        if not outcome.counts:
            job.attempt -= 1
            job.reported, job.result, job.has_result = reported, result, has_result
            self.given_back.add(job.task_id)
        elif (not outcome.is_stored or is_silent) and not is_spent:
            # Nothing is stored of its end: what was stored last stands.
            job.reported, job.result, job.has_result = reported, result, has_result
            if outcome.state is State.DISCARDED:
                job.reported = reported or "PENDING"
            elif reported == "SUCCESS":
                job.reported = None
        return True

    def release_unknown_jobs(
        self, node: UUID, queues: Collection[str], known: Collection[int]
    ) -> int:
        unknown = [
            job
            for job in self.jobs.values()
            if job.holder == node and job.queue in queues and job.id not in known
        ]
        for job in unknown:
            job.state, job.holder, job.redelivered = State.AVAILABLE, None, True
            job.attempt -= 1
            self.given_back.add(job.task_id)
        return len(unknown)

    def stage_jobs(self, limit: int) -> dict[str, int]:
        due = [job for job in self.jobs.values() if job.due is not None and job.due <= self.now]
        queues: dict[str, int] = {}
        # Of two with the same due time the one that was published first was due first: the model's
        # clock stands still between them, the database's did not.
        for job in sorted(due, key=lambda job: (job.due, job.place))[:limit]:
            job.state, job.due, job.place = State.AVAILABLE, None, next(self._places)
            queues[job.queue] = queues.get(job.queue, 0) + 1
        return queues

    def rescue_jobs(self, spared: Collection[UUID] = ()) -> Rescued:
        """``spared``: whose row is locked by a claim that is not committed yet."""
        dead = [node for node in self.nodes if not self.is_alive(node) and node not in spared]
        names = [self.nodes.pop(node).name for node in dead]
        rescued = [
            job
            for job in self.jobs.values()
            if job.holder in dead or (job.message and job.holder and job.holder not in self.nodes)
        ]
        for job in rescued:
            is_lost = not job.acks_late or job.attempt >= job.max_attempts
            job.errors.append(("WorkerLostError", job.attempt))
            job.end_attempt(State.DISCARDED if is_lost else State.AVAILABLE, self.now)
            job.redelivered = True
        lost = sum(job.finished is not None for job in rescued)
        return Rescued(names, len(rescued) - lost, lost)

    def purge_jobs(self, queue: str) -> int:
        purged = [job for job in self.jobs.values() if job.is_waiting and job.queue == queue]
        for job in purged:
            job.errors.append(("Purged", job.attempt))
            job.end_attempt(State.CANCELLED, self.now)
        return len(purged)

    def find_old(self, state: State, max_age: float) -> list[Job]:
        """What pruning may delete."""
        return [
            job
            for job in self.jobs.values()
            if job.state is state and job.finished is not None and self.now - job.finished > max_age
        ]

    # -- results ---------------------------------------------------------------------------------

    def finish_job(self, result: Result, state: State, fence: Fence) -> bool:
        job = self.jobs.get(result.task_id)
        if job is None or job.fence != fence:
            return False
        job.add_error(result.error)
        job.end_attempt(state, self.now)
        job.result, job.has_result = result.result, True
        return True

    def report_job(self, result: Result, reported: str, fence: Fence | None) -> bool:
        job = self.jobs.get(result.task_id)
        if job is None or job.finished is not None or (fence and job.fence != fence):
            return False
        job.reported, job.result, job.has_result = reported, result.result, True
        return True

    def takes_retry(self, task_id: str, fence: Fence) -> bool:
        """True where a failed attempt leaves its error: its job went on since, or still waits."""
        job = self.jobs.get(task_id)
        if job is None or job.attempt < fence.attempt:
            return False
        if any(attempt == fence.attempt for _, attempt in job.errors):
            return False
        return job.attempt > fence.attempt or job.is_waiting or job.fence == fence

    def record_retry(self, result: Result, fence: Fence) -> bool:
        if not self.takes_retry(result.task_id, fence):
            return False
        job = self.jobs[result.task_id]
        has_stored = job.reported is not None or job.has_result
        is_open = not job.state.is_final or job.state is State.COMPLETED
        if job.attempt == fence.attempt or (is_open and not has_stored):
            job.reported, job.result, job.has_result = "RETRY", result.result, True
        assert result.error is not None
        job.errors.append((json.loads(result.error)["type"], fence.attempt))
        return True

    def upsert_result(
        self, result: Result, state: State, reported: str | None, queue: str, attempt: int
    ) -> bool:
        """What no claim stands behind: from another broker, or written by hand."""
        if state is State.RETRYABLE:
            state = State.EXECUTING
        job = self.jobs.get(result.task_id)
        if job is None:
            job = Job(result.task_id, "elsewhere", queue, 0, next(self._places), None)
            self.jobs[job.task_id] = job
        elif job.finished is not None:
            # One that was completed without a result may be given one.
            is_open = job.state is State.COMPLETED and not job.has_result
            if not is_open or state not in (State.COMPLETED, State.DISCARDED):
                return False
            self.given_back.add(job.task_id)
        elif not (state.is_final or job.message is None):
            return False
        if job.message is None:
            job.attempt, job.max_attempts = attempt, max(20, attempt)
            self.given_back.add(job.task_id)
        if result.error is not None:
            job.errors.append((json.loads(result.error)["type"], attempt))
        job.end_attempt(state, self.now)
        job.holder = NOBODY if state is State.EXECUTING else None
        job.reported, job.result, job.has_result = reported, result.result, True
        return True

    def forget_result(self, task_id: str) -> None:
        job = self.jobs.get(task_id)
        if job is None:
            return
        if job.finished is not None or job.message is None:
            del self.jobs[task_id]
        else:
            job.reported = job.result = None
            job.has_result = False

    # -- nodes -----------------------------------------------------------------------------------

    def beat_node(self, node: UUID, name: str) -> bool:
        old = self.nodes.get(node)
        is_steady = old is not None and self.now - old.heartbeat < LEASE / 2
        self.nodes[node] = Node(name, self.now)
        others = (other for other in self.nodes if other != node)
        return is_steady and any(not self.is_alive(other) for other in others)

    def silence(self, node: UUID) -> None:
        if node in self.nodes:
            self.nodes[node].heartbeat = self.now - 2 * LEASE

    def delete_node(self, node: UUID) -> None:
        self.nodes.pop(node, None)

    # -- what people do by hand ------------------------------------------------------------------

    def cancel_by_hand(self, task: str) -> None:
        for job in self.jobs.values():
            if job.is_waiting and job.task == task:
                job.state, job.finished, job.due = State.CANCELLED, self.now, None

    def spend_by_hand(self, task: str) -> None:
        for job in self.jobs.values():
            if job.finished is None and job.task == task:
                job.max_attempts = max(job.attempt, 1)

    def repeat_by_hand(self, task: str) -> None:
        for job in self.jobs.values():
            last = job.errors[-1][0] if job.errors else None
            if job.task == task and job.state is State.DISCARDED and last == "WorkerLostError":
                job.state, job.finished = State.AVAILABLE, None
                job.max_attempts += 1

    # -- transactions ----------------------------------------------------------------------------

    def copy_jobs(self) -> dict[str, Job]:
        """The rows as they are, to be put back by a ROLLBACK."""
        return {
            task_id: replace(job, errors=list(job.errors)) for task_id, job in self.jobs.items()
        }
