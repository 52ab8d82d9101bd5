"""A bell counts for which jobs it was rung, and passes on those that its worker will not claim."""

from __future__ import annotations

import pytest

from pgjobs_celery.broker.bell import Bell
from pgjobs_celery.db.notify import BELLS
from pgjobs_celery.job.rows import Claim


def claims(*queues: str) -> list[Claim]:
    return [
        Claim(number, 1, 20, queue, 0, number, False, "", b"")
        for number, queue in enumerate(queues)
    ]


@pytest.fixture
def bell() -> Bell:
    bell = Bell()
    bell.queues = {"q", "other"}
    return bell


def test_workers_have_bells_of_their_own_as_far_as_there_are_enough():
    numbers = {Bell().number for _ in range(50 * BELLS)}
    assert numbers == set(range(BELLS))


def test_a_job_that_is_claimed_is_met(bell: Bell):
    assert not bell
    for _ in range(3):
        bell.ring("q")
    bell.meet(claims("q", "q"), ())
    assert bell.pass_on(lambda queue: False) == {"q": 1}
    assert not bell


def test_a_queue_in_which_there_is_nothing_more_is_met_and_others_are_not(bell: Bell):
    bell.ring("q")
    bell.ring("other")
    bell.meet([], ["q"])
    assert bell.pass_on(lambda queue: False) == {"other": 1}


def test_jobs_that_came_without_a_ring_are_not_kept_for_later_ones(bell: Bell):
    bell.meet(claims("q", "q"), ())
    bell.ring("q")
    bell.meet(claims("other", "other"), ())
    assert bell.pass_on(lambda queue: False) == {"q": 1}


def test_only_what_will_not_be_claimed_is_passed_on(bell: Bell):
    bell.ring("q")
    bell.ring("other")
    assert bell.pass_on(lambda queue: queue == "q") == {"other": 1}
    assert bell
    assert bell.pass_on(lambda queue: queue == "q") == {}
    assert bell.pass_on(lambda queue: False) == {"q": 1}


def test_a_ring_for_a_queue_that_it_was_not_hung_for_says_nothing(bell: Bell):
    bell.ring("x" * 8000)
    assert not bell
