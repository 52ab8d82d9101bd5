"""What a process holds, and how much of it is in the pool."""

from __future__ import annotations

from pgjobs_celery.job.rows import Claim
from pgjobs_celery.node.holdings import Holdings


def claim(id: int, attempt: int = 1, queue: str = "q") -> Claim:
    return Claim(id, attempt, 20, queue, 0, id, False, "{}", b"")


def test_what_is_kept_takes_no_place_in_the_pool():
    held = Holdings()
    for id in (1, 2, 3):
        held.take(claim(id))
    held.keep(2)
    assert (len(held), held.in_pool, held.claims_in_pool()) == (3, 2, {(1, 1), (3, 1)})
    held.hand_to_pool(2)
    assert held.in_pool == 3
    held.keep(2)
    assert held.end(2, 1) == "q"
    assert (sorted(held), held.in_pool) == ([1, 3], 2)


def test_what_has_ended_in_another_thread_is_not_kept():
    held = Holdings()
    held.take(claim(1))
    held.end(1, 1)
    held.keep(1)
    held.take(claim(1, attempt=2))
    assert held.in_pool == 1


def test_an_attempt_that_is_not_ours_any_more_ends_nothing():
    held = Holdings()
    held.take(claim(1, attempt=2, queue="other"))
    assert held.end(1, 1) is None
    assert held.end(7, 1) is None
    assert list(held.queues()) == ["other"]
    assert held.end(1, 2) == "other"
    assert not held
