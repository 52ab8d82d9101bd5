"""Queues: what runs first."""

from recipe.tasks import work


def test_high_priority_jobs_are_processed_first(pgjobs):
    low = work.apply_async(["low_priority"], priority=3)
    high = work.apply_async(["high_priority"], priority=1)
    pgjobs.assert_enqueued(work, args=["high_priority"], priority=1)
    pgjobs.assert_enqueued(work, args=["low_priority"], priority=3)
    assert [job.task_id for job in pgjobs.due("priority")] == [high.id, low.id]


def test_in_the_database_as_well(pgjobs_real, session):
    work.apply_async(["low_priority"], priority=3)
    work.apply_async(["high_priority"], priority=1)
    assert [job.args for job in pgjobs_real.due()] == [["high_priority"], ["low_priority"]]
