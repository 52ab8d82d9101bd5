"""Where to look next: floors make claims cheap and hide no job for ever, and queues take turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pgjobs_celery.broker.claim_plan import (
    ECHOES,
    FULL_LOOK_INTERVAL,
    FULL_LOOK_SPACING,
    LANES_AHEAD,
    PART,
    SHARED_INTERVAL,
    ClaimPlan,
)
from pgjobs_celery.job.rows import FIRST_PLACE, HIGHEST_RANK, Bucket, Claim

INFINITE = float("inf")
QUEUES = ["a", "b", "c"]
#: What a claim takes, in seconds.
DURATION = 0.001


@dataclass(frozen=True)
class Job:
    queue: str
    priority: int
    seq: int


class Line:
    """The jobs that may be claimed, and a plan that claims them: claim_jobs.sql in small."""

    def __init__(self, queues: list[str] = QUEUES, max_claim: int = 10, part: int = PART) -> None:
        self.plan = ClaimPlan(max_claim, 0.1, part)
        self.plan.set_queues(queues)
        self.ready: set[Job] = set()
        self.now = 100.0
        self.looks: list[list[Bucket]] = []
        #: How many jobs of a queue this process may run, and all of them together; what runs here.
        self.own: dict[str, int] = {}
        self.shared: dict[str, int] = {}
        self.elsewhere: Counter[str] = Counter()
        self.running: Counter[str] = Counter()

    def places(self) -> dict[str, int]:
        """As the node tells the plan: it knows what runs here."""
        limits = [*self.own.items(), *self.shared.items()]
        return {
            queue: min(max(0, n - self.running[queue]) for name, n in limits if name == queue)
            for queue in {**self.own, **self.shared}
        }

    def left(self, queue: str) -> int:
        """How many places the database sees."""
        running = self.running[queue] + self.elsewhere[queue]
        return max(0, self.shared.get(queue, 1_000_000) - running)

    def finish(self, queue: str) -> None:
        """A job of the queue has ended here."""
        self.running[queue] -= 1
        self.plan.place_freed(queue)

    def claim(self, limit: int) -> list[Job]:
        """One claim, as claim_jobs.sql and Jobs.claim_jobs order it."""
        buckets = self.plan.buckets(self.now, self.places())
        if not buckets:
            return []
        self.looks.append(buckets)
        taken: list[Job] = []
        for bucket in buckets:
            here = [
                job
                for job in self.ready.difference(taken)
                if job.queue == bucket.queue
                and (job.priority, job.seq) >= (bucket.lowest, bucket.floor)
                and job.priority <= bucket.highest
            ]
            here.sort(key=lambda job: (job.priority, job.seq))
            most = min(limit - len(taken), self.left(bucket.queue))
            taken += here[: most if bucket.places is None else min(most, bucket.places)]
        order = {bucket.queue: index for index, bucket in reversed(list(enumerate(buckets)))}
        taken.sort(key=lambda job: (job.priority, order[job.queue], job.seq))
        self.ready -= set(taken)
        claims = [Claim(j.seq, 1, 20, j.queue, j.priority, j.seq, False, "", b"") for j in taken]
        self.running.update(job.queue for job in taken)
        full = {queue: self.left(queue) == 0 for queue in self.shared}
        self.plan.record(limit, claims, self.now, self.now + DURATION, full)
        self.now += DURATION
        return taken

    def run(self, limit: int = 5) -> list[Job]:
        """Claim whenever the plan says that it is worth it, until it expects nothing."""
        taken = []
        for _ in range(1000):
            if self.plan.due_at == INFINITE:
                return taken
            self.now = max(self.now, self.plan.due_at)
            taken += self.claim(limit)
        raise AssertionError("the plan never comes to rest")

    def put(self, *jobs: Job) -> None:
        """Put jobs in line and tell the plan."""
        self.ready.update(jobs)
        for job in jobs:
            self.plan.expect(self.now, job.queue)


# -- floors --------------------------------------------------------------------------------------


class Floors(RuleBasedStateMachine):
    """Whatever is announced is claimed before the plan rests, wherever it stands."""

    part = PART

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(part=self.part)
        self.seq = 0
        self.uncommitted: list[Job] = []
        self.put: set[Job] = set()
        self.claimed: list[Job] = []

    def new(self, queue: str, priority: int) -> Job:
        self.seq += 1
        return Job(queue, priority, self.seq)

    def commit(self, job: Job) -> None:
        self.put.add(job)
        self.line.put(job)

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from([0, 3, 9, 255]))
    def publish(self, queue: str, priority: int) -> None:
        self.commit(self.new(queue, priority))

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from([0, 3, 9, 255]))
    def begin(self, queue: str, priority: int) -> None:
        """A transaction takes its place in line now and commits later."""
        self.uncommitted.append(self.new(queue, priority))

    @rule(data=st.data())
    def commit_late(self, data: st.DataObject) -> None:
        if self.uncommitted:
            index = data.draw(st.integers(0, len(self.uncommitted) - 1))
            self.commit(self.uncommitted.pop(index))

    @rule(limit=st.integers(1, 8))
    def claim(self, limit: int) -> None:
        if self.line.plan.due_at <= self.line.now:
            self.claimed += self.line.claim(limit)

    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        if self.claimed:
            job = self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1)))
            self.line.ready.add(job)
            self.line.plan.look_again()

    @rule(seconds=st.sampled_from([0.0005, 0.01, 0.3, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.line.now += seconds

    @rule(data=st.data())
    def queues_change(self, data: st.DataObject) -> None:
        queues = data.draw(st.lists(st.sampled_from(QUEUES), unique=True, min_size=1))
        self.line.plan.set_queues(queues)

    @rule(limit=st.integers(1, 8))
    def run_until_it_rests(self, limit: int) -> None:
        self.claimed += self.line.run(limit)
        queues = self.line.plan.queues
        assert [job for job in self.line.ready if job.queue in queues] == []

    @invariant()
    def no_job_is_claimed_twice_or_lost(self) -> None:
        assert len(self.claimed) == len(set(self.claimed))
        assert set(self.claimed) | self.line.ready == self.put


class FloorsInParts(Floors):
    """As many queues as a claim under load does not look at together."""

    part = 2


TestFloors = Floors.TestCase
TestFloorsInParts = FloorsInParts.TestCase
for case in (TestFloors, TestFloorsInParts):
    case.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_under_load_a_claim_starts_at_the_last_place_it_took():
    line = Line(["a"])
    line.put(*(Job("a", 0, seq) for seq in range(1, 30)))
    line.claim(5)
    line.claim(5)
    assert line.looks[0] == [Bucket("a")]
    assert line.looks[1] == [Bucket("a", 0, 0, 5)]


def test_a_full_look_costs_at_most_two_percent_and_comes_at_least_every_second_under_load():
    line = Line(["a"])
    began = line.now
    for seq in range(0, 20_000, 5):
        line.put(*(Job("a", 0, seq + number) for number in range(5)))
        line.claim(5)
    full = [index for index, look in enumerate(line.looks) if look == [Bucket("a")]]
    assert len(full) * DURATION <= (line.now - began) / FULL_LOOK_SPACING + DURATION
    gaps = [(b - a) * DURATION for a, b in pairwise(full)]
    assert max(gaps) <= FULL_LOOK_INTERVAL + 2 * DURATION


def test_under_load_a_priority_that_was_never_met_is_found_within_the_interval():
    line = Line(["a"])
    urgent = Job("a", 0, 100_000)
    for seq in range(0, 20_000, 5):
        line.put(*(Job("a", 3, seq + number) for number in range(5)))
        line.claim(5)
        if seq == 50:
            line.put(urgent)
            since = line.now
        elif seq > 50 and urgent not in line.ready:
            break
    assert line.now - since <= FULL_LOOK_INTERVAL + 2 * DURATION


@pytest.mark.parametrize("job", [Job("a", 0, 1), Job("a", 7, 99)])
def test_what_a_floor_hides_is_found_right_after_the_claim_that_missed_it(job):
    """Committed late by another transaction, or in a priority that we have not met."""
    line = Line(["a"])
    line.put(Job("a", 0, 50))
    line.run()
    line.now += 0.01  # too soon for a full look, as one has just been
    line.put(job)
    since = line.now
    assert line.run() == [job]
    assert line.looks[-1] == [Bucket("a")]
    assert line.now - since < 0.5


def test_a_look_for_news_is_repeated_and_one_for_time_that_has_passed_is_not():
    line = Line(["a"])
    looks = []
    for has_news in (True, False):
        line.plan.look_again(has_news=has_news)
        line.looks.clear()
        assert line.run() == []
        looks.append(len(line.looks))
    assert looks == [1 + len(ECHOES), 1]


def test_a_look_for_time_that_has_passed_does_not_end_the_repeats():
    line = Line(["a"])
    line.claim(5)
    line.plan.look_again(has_news=False)
    line.looks.clear()
    assert line.run() == []
    assert len(line.looks) == 1 + len(ECHOES) - 1


def test_a_plan_without_queues_expects_nothing():
    plan = ClaimPlan(10, 0.1)
    plan.set_queues([])
    plan.expect(0.0)
    plan.look_again()
    assert plan.due_at == INFINITE
    assert plan.buckets(0.0) == []


def test_all_priorities_are_in_a_full_look():
    whole = Bucket("a", 0, HIGHEST_RANK, FIRST_PLACE)
    assert ClaimPlan.everything(["a", "b"]) == [whole, Bucket("b")]


# -- turns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5, 10])
@pytest.mark.parametrize("priorities", [[0], [0, 5]])
def test_full_queues_get_the_same_share(limit, priorities):
    line = Line()
    line.put(*(Job(q, p, seq) for q in QUEUES for p in priorities for seq in range(1000)))
    counts = Counter(job.queue for _ in range(30) for job in line.claim(limit))
    assert max(counts.values()) - min(counts[queue] for queue in QUEUES) <= 2 * limit


def test_a_full_queue_does_not_starve_one_with_a_job_now_and_then():
    line = Line(["busy", "quiet"])
    line.put(*(Job("busy", 0, seq) for seq in range(1000)))
    for number in range(5):
        job = Job("quiet", 0, 2000 + number)
        line.put(job)
        line.claim(3)
        line.claim(3)
        assert job not in line.ready


def test_priorities_go_before_queues_in_a_full_look_too():
    """As in a claim with floors, and on Redis: no queue's 5 goes before another's 0."""
    line = Line(["a", "b"])
    line.put(*(Job("a", 5, seq) for seq in range(10)), *(Job("b", 0, seq) for seq in range(10)))
    assert {job.priority for job in line.claim(5)} == {0}


def test_under_load_a_claim_looks_at_a_part_of_many_queues_and_each_has_its_turn():
    line = Line([f"q{number}" for number in range(3 * PART)])
    line.put(*(Job(queue, 0, seq) for queue in line.plan.queues for seq in range(4)))
    taken = Counter(job.queue for _ in range(3 * PART) for job in line.claim(3))
    assert {len(look) for look in line.looks if look[0].floor != FIRST_PLACE} == {PART}
    assert len(taken) == 3 * PART
    assert len(line.run()) + sum(taken.values()) == 12 * PART
    assert not line.ready


def test_a_part_that_comes_back_short_is_followed_by_a_look_at_all_at_once():
    """Of many queues only the last has jobs: it is found without a wait."""
    line = Line([f"q{number}" for number in range(2 * PART)])
    line.put(*(Job("q0", 0, seq) for seq in range(10)))
    line.claim(10)  # everything, and full
    line.put(*(Job("q0", 0, 100 + seq) for seq in range(50)))
    assert line.claim(10) == []
    assert len(line.looks[-1]) == PART  # those after the queue that had its turn
    assert line.plan.due_at <= line.now
    assert len(line.claim(10)) == 10


def test_the_most_urgent_jobs_come_first_whatever_part_their_queue_is_in():
    line = Line([f"q{number}" for number in range(2 * PART)])
    urgent = [Job(queue, 0, 1) for queue in line.plan.queues]
    line.put(*urgent, *(Job(queue, 5, 2 + seq) for queue in line.plan.queues for seq in range(3)))
    first = [job for _ in range(PART // 2) for job in line.claim(4)]
    assert {job.priority for job in first} == {0}
    assert len(first) == len(urgent)


# -- limits --------------------------------------------------------------------------------------


def limited(**line: Any) -> Line:
    """A line with a hundred jobs in queue a, and nothing expected any more but of it."""
    made = Line(["a"])
    for name, value in line.items():
        setattr(made, name, value)
    made.put(*(Job("a", 0, seq) for seq in range(100)))
    return made


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_a_queue_is_not_claimed_from_beyond_its_limit(kind):
    line = limited(**{kind: {"a": 3}})
    assert len(line.run(limit=10)) == 3
    assert line.plan.due_at == INFINITE


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_a_place_that_is_freed_is_looked_at_at_once_above_the_floor_and_alone(kind):
    line = limited(**{kind: {"a": 3, "b": 3}})
    line.plan.set_queues(["a", "b"])
    line.run(limit=10)
    looks = len(line.looks)
    line.finish("a")
    assert line.plan.due_at <= line.now
    assert len(line.run(limit=10)) == 1
    assert line.looks[looks:] == [[Bucket("a", 0, HIGHEST_RANK, 2, 1)]]


def test_freed_places_are_looked_at_from_the_start_as_often_as_under_load():
    line = limited(own={"a": 3})
    line.run(limit=10)
    line.put(urgent := Job("a", 0, -5))
    for _ in range(90):
        line.now += 0.02
        line.finish("a")
        line.run(limit=10)
        if urgent not in line.ready:
            break
    assert urgent not in line.ready
    full = [index for index, look in enumerate(line.looks) if look[0].floor == FIRST_PLACE]
    assert len(full) <= 4


def test_a_queue_without_a_place_left_expects_nothing_new():
    line = limited(own={"a": 3})
    line.run(limit=10)
    line.put(Job("a", 0, 1000))
    assert line.plan.due_at == INFINITE


def test_what_ends_in_a_queue_that_was_not_full_is_no_reason_to_look():
    line = Line(["a"])
    line.own = {"a": 3}
    line.put(Job("a", 0, 1))
    line.run()
    line.finish("a")
    assert line.plan.due_at == INFINITE


def test_a_limited_queue_has_one_bucket_and_others_one_for_each_priority():
    line = Line(["a", "b"])
    line.own = {"a": 4}
    line.put(*(Job(q, p, 10 * p + n) for q in "ab" for p in (3, 5) for n in range(4)))
    line.claim(5)
    assert Bucket("a", places=4) in line.looks[0]
    line.plan.look_again()
    line.run(limit=100)
    for look in line.looks:
        assert Counter(bucket.queue for bucket in look)["a"] <= 1
    assert line.running["a"] == 4
    assert line.running["b"] == 8


def test_other_queues_are_claimed_from_while_one_is_full():
    line = Line(["a", "b"])
    line.own = {"a": 2}
    line.put(*(Job(q, 0, n) for n, q in enumerate("ab" * 20)))
    assert Counter(job.queue for job in line.run(limit=10)) == {"a": 2, "b": 20}


def test_a_queue_that_others_have_filled_is_left_alone_under_load():
    """A look at it locks it for all."""
    line = Line(["a", "b"])
    line.shared, line.elsewhere["a"] = {"a": 2}, 2
    line.put(*(Job("b", 0, seq) for seq in range(10_000)), Job("a", 0, 0))
    began = line.now
    for _ in range(400):
        line.claim(10)
    looks = sum(any(bucket.queue == "a" for bucket in look) for look in line.looks)
    assert looks <= (line.now - began) / SHARED_INTERVAL + 2
    line.elsewhere.clear()
    since = line.now
    while Job("a", 0, 0) in line.ready:
        line.claim(10)
    assert line.now - since <= SHARED_INTERVAL + 5 * DURATION


def test_who_left_a_queue_alone_looks_at_it_before_it_waits():
    """Whoever waits says so, and looks at everything again."""
    line = Line(["a"])
    line.shared, line.elsewhere["a"] = {"a": 2}, 2
    line.put(Job("a", 0, 0))
    assert line.run() == []
    assert line.plan.is_dry
    line.elsewhere.clear()
    line.plan.look_again()
    assert line.run() == [Job("a", 0, 0)]


class Limits(RuleBasedStateMachine):
    """With limits, too, whatever has a place is claimed before the plan rests, and nothing else."""

    part = PART

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(part=self.part)
        self.line.own = {"a": 2}
        self.line.shared = {"b": 3}
        self.seq = 0

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from([0, 3, 255]))
    def publish(self, queue: str, priority: int) -> None:
        self.seq += 1
        self.line.put(Job(queue, priority, self.seq))

    @rule(limit=st.integers(1, 8))
    def claim(self, limit: int) -> None:
        if self.line.plan.due_at <= self.line.now:
            self.line.claim(limit)

    @rule(queue=st.sampled_from(QUEUES))
    def finish(self, queue: str) -> None:
        if self.line.running[queue]:
            self.line.finish(queue)

    @rule(count=st.integers(-3, 3))
    def others_work(self, count: int) -> None:
        before = self.line.elsewhere["b"]
        room = 3 - self.line.running["b"]
        self.line.elsewhere["b"] = max(0, min(room, before + count))
        if self.line.elsewhere["b"] < before:
            self.line.plan.look_again()

    @rule(seconds=st.sampled_from([0.0005, 0.01, 0.06, 0.3, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.line.now += seconds

    @rule(own=st.none() | st.integers(1, 4), shared=st.none() | st.integers(0, 4))
    def limits_change(self, own: int | None, shared: int | None) -> None:
        self.line.own = {} if own is None else {"a": own, "b": own}
        self.line.shared = {} if shared is None else {"b": shared}
        self.line.plan.look_again()

    @rule(limit=st.integers(1, 8))
    def run_until_it_rests(self, limit: int) -> None:
        self.line.run(limit)
        self.line.plan.look_again()  # as whoever begins to wait
        self.line.run(limit)
        places = self.line.places()
        for job in self.line.ready:
            assert min(places.get(job.queue, 9), self.line.left(job.queue)) == 0, job

    @rule(limit=st.integers(1, 8))
    def finish_one_and_run(self, limit: int) -> None:
        """What a queue without places had waiting is begun when one is freed, at once."""
        self.run_until_it_rests(limit)
        for queue in QUEUES:
            if self.line.running[queue]:
                self.line.finish(queue)
                self.line.run(limit)
                places = min(self.line.places().get(queue, 9), self.line.left(queue))
                assert not places or not [job for job in self.line.ready if job.queue == queue]


class LimitsInParts(Limits):
    """As many queues as a claim under load does not look at together."""

    part = 2


TestLimits = Limits.TestCase
TestLimitsInParts = LimitsInParts.TestCase
for case in (TestLimits, TestLimitsInParts):
    case.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# -- how much ------------------------------------------------------------------------------------


def plan_at(rate: float, max_claim: int = 100, read_ahead: float = 0.1) -> ClaimPlan:
    """A plan that has seen so many jobs a second finish."""
    plan = ClaimPlan(max_claim, read_ahead)
    for step in range(1, 40):
        plan.count_finished(int(rate * 0.1), step * 0.1 + 1e-9)
    return plan


@pytest.mark.parametrize(
    ("rate", "window", "limit"),
    [(0, 4, 4), (0, 0, 0), (0, -3, 0), (2000, 0, 0), (200, 4, 20), (2000, 4, 100)],
)
def test_as_much_is_claimed_as_fits_or_is_finished_soon(rate, window, limit):
    assert plan_at(rate).limit(window) == pytest.approx(limit, abs=1 if rate else 0)


def test_without_read_ahead_no_more_is_claimed_than_fits():
    assert plan_at(10_000, read_ahead=0.0).limit(4) == 4
    assert plan_at(10_000, read_ahead=0.0).limit(4, LANES_AHEAD) == 4


def test_a_look_at_lanes_takes_more_for_it_costs_more():
    assert plan_at(100).limit(4, LANES_AHEAD) == pytest.approx(10 * LANES_AHEAD, abs=1)


def test_a_worker_that_has_stopped_finishing_soon_claims_no_more_than_fits():
    plan = plan_at(1000)
    for step in range(40, 60):
        plan.count_finished(0, step * 0.1)
    assert plan.limit(4) == 4


@given(st.floats(0, 1e5), st.integers(1, 500), st.floats(0, 2), st.integers(-5, 1000))
def test_a_limit_is_never_below_nothing_or_above_what_is_allowed(
    rate, max_claim, read_ahead, window
):
    limit = plan_at(rate, max_claim, read_ahead).limit(window)
    assert 0 <= limit <= max_claim
    assert limit <= max(window, int(rate * read_ahead) + 1)
