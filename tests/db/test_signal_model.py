"""Jobs that wait and signals that come, in any order, with runs that are lost: a model of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgjobs_celery import Key, signal
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.outcome import completed, requeued, snoozed
from pgjobs_celery.job.rows import Bucket, Claim, Fence
from pgjobs_celery.job.steps import Kind, Memory, Wait
from tests.support.rows import alive, put

from ..conftest import Connection, empty_database
from .test_matches import A

JOBS = ("a", "b")
#: How many signals each job takes before it ends.
WANTED = 3
#: What may happen next, to one of the jobs or to both.
EVENTS = [
    f"{event} {job}" for event in ("send", "wait", "settle", "lose", "stale") for job in JOBS
] + ["send key", "claim", "look"]  # fmt: skip


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


class World:
    """The rows, and what must be true of them."""

    def __init__(self, app: Celery, database: Database) -> None:
        self.app, self.database = app, database
        #: What was sent to each, and what each has taken, in order.
        self.sent: dict[str, list[int]] = {job: [] for job in JOBS}
        self.taken: dict[str, list[int]] = {job: [] for job in JOBS}
        self.running: dict[str, Claim] = {}
        self.suspended: set[str] = set()
        self.lost: dict[str, list[Claim]] = {job: [] for job in JOBS}
        self.ended: set[str] = set()
        self._count = 0
        put(database, *JOBS)
        alive(database, A)

    def happen(self, event: str) -> None:
        what, _, job = event.partition(" ")
        getattr(self, what)(*filter(None, [job]))

    def send(self, to: str) -> None:
        self._count += 1
        # Job a alone waits with the key.
        self.sent["a" if to == "key" else to].append(self._count)
        assert signal(self.app, Key("key") if to == "key" else to, "x", self._count)

    def claim(self) -> None:
        claims, _ = self.database.claims.claim_jobs(A, "n", [Bucket("celery")], 10)
        for claim in claims:
            (job,) = self._names(claim)
            known = self.database.steps.read_steps(job, Fence(A, claim.attempt))
            assert known is not None
            # What it remembers is what it has taken, in every run.
            assert [int(memory.value or b"0") for memory in known.memories.values()] == (
                self.taken[job]
            )
            self.running[job] = claim

    def _names(self, claim: Claim) -> Iterator[str]:
        rows = self.database.matches.find_ids("", 10)
        for job in rows:
            known = self.database.steps.read_steps(job, Fence(A, claim.attempt))
            if known is not None and known.job == claim.id:
                yield job

    def wait(self, job: str) -> None:
        """The run comes to its next wait."""
        if job not in self.running or job in self.suspended:
            return
        passed = self._pass(job, self.running[job])
        assert passed is not None
        if passed.memory is None:
            assert not self.sent[job][len(self.taken[job]) :], "a signal that is there is taken"
            self.suspended.add(job)
            return
        self.taken[job].append(int(passed.memory.value))
        if len(self.taken[job]) == WANTED:
            assert not self.database.claims.settle_jobs(A, [completed(self.running.pop(job))])
            self.ended.add(job)

    def _pass(self, job: str, claim: Claim) -> Any:
        wait = Wait(f"x#{len(self.taken[job]) + 1}", "x", "key" if job == "a" else None)
        return self.database.steps.pass_wait(claim.id, Fence(A, claim.attempt), wait)

    def settle(self, job: str) -> None:
        """The end of a suspended run is written."""
        if job in self.suspended:
            self.suspended.remove(job)
            claim = self.running.pop(job)
            assert not self.database.claims.settle_jobs(A, [snoozed(claim, 1e9)])

    def lose(self, job: str) -> None:
        """The run is taken away."""
        if job in self.running:
            self.suspended.discard(job)
            claim = self.running.pop(job)
            assert not self.database.claims.settle_jobs(A, [requeued(claim)])
            self.lost[job].append(claim)

    def stale(self, job: str) -> None:
        """A run that was taken away goes on."""
        for claim in self.lost[job]:
            fence = Fence(A, claim.attempt)
            assert self._pass(job, claim) is None
            assert not self.database.steps.record_step(claim.id, fence, "s", Memory(Kind.STEP))

    def look(self) -> None:
        self.database.steps.wake_waiting(100)

    def come_to_rest(self) -> None:
        """Everybody goes on until nobody can."""
        for _ in range(2 * WANTED + 2):
            for job in JOBS:
                self.settle(job)
            self.look()
            self.claim()
            for job in JOBS:
                while job in self.running and job not in self.suspended:
                    self.wait(job)

    def check(self) -> None:
        for job in JOBS:
            assert self.taken[job] == self.sent[job][:WANTED]
            assert (job in self.ended) == (len(self.sent[job]) >= WANTED)


@given(events=st.lists(st.sampled_from(EVENTS), max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_signal_is_taken_once_in_order_and_none_is_missed(
    app: Celery, database: Database, url: str, connection: Connection, events: list[str]
):
    empty_database(url)
    world = World(app, database)
    for event in events:
        world.happen(event)
    world.come_to_rest()
    world.check()
