"""drain_queue, due and advance, over an inbox."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from celery import Celery, chain, chord, group

from pgjobs_celery import PgTask, Snooze
from pgjobs_celery.errors import InvalidOption, NeverEnds, UnknownTask
from pgjobs_celery.testing import advance, all_enqueued, drain_queue, due, due_entries, testing


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app whose servers are not there, captured."""
    app = Celery("drain", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
    app.task = functools.partial(app.task, shared=False)
    with testing(app):
        yield app
    app.close()


@pytest.fixture
def ran() -> list:
    return []


@pytest.fixture
def note(app, ran):
    @app.task
    def note(what):
        ran.append(what)
        return what

    return note


def test_what_is_enqueued_runs_and_is_counted(note, ran):
    note.delay(1)
    note.delay(2)
    assert drain_queue() == {"completed": 2}
    assert ran == [1, 2]
    assert drain_queue() == {}
    assert ran == [1, 2]


def test_only_the_queue_that_is_named_runs(note, ran):
    note.apply_async([1], queue="mail")
    note.apply_async([2], queue="other")
    assert drain_queue("mail") == {"completed": 1}
    assert ran == [1]


def test_they_run_by_priority_and_then_in_order(note, ran):
    for what, priority in enumerate([5, 0, 9, 0]):
        note.apply_async([what], priority=priority)
    assert [job.args[0] for job in due()] == [1, 3, 0, 2]
    drain_queue()
    assert ran == [1, 3, 0, 2]


def test_on_rabbitmq_the_highest_priority_runs_first(app, note, ran):
    app.conf.broker_url = "amqp://"
    for what, priority in enumerate([5, 0, 9]):
        note.apply_async([what], priority=priority)
    drain_queue()
    assert ran == [2, 0, 1]


def test_each_outcome_is_counted(ending):
    for how in ("snooze", "cancel", "discard", "fail", "fail", "nothing"):
        ending.delay(how)
    assert drain_queue() == {
        "snoozed": 1, "cancelled": 1, "discarded": 1, "retried": 2, "completed": 1,
    }  # fmt: skip
    assert drain_queue(with_scheduled=True) == {"snoozed": 1, "discarded": 2}


def test_a_pgtask_counts_its_attempts_and_a_snooze_costs_none(app, ran):
    @app.task(base=PgTask, bind=True, max_attempts=3)
    def work(self):
        ran.append(self.request.attempt)
        self.meta["runs"] = self.meta.get("runs", 0) + 1
        if len(ran) == 2:
            raise self.snooze(5)
        if len(ran) < 4:
            raise ValueError("again")
        return dict(self.meta)

    sent = work.delay()
    counts = drain_queue(with_scheduled=True, with_recursion=True)
    assert counts == {"retried": 2, "snoozed": 1, "completed": 1}
    assert ran == [1, 2, 2, 3]
    assert sent.get() == {"runs": 4, "snoozed": 1}


def test_celerys_retry_comes_back_as_the_same_job(app, ran):
    @app.task(bind=True, max_retries=2)
    def work(self):
        ran.append(self.request.retries)
        raise self.retry(countdown=60)

    sent = work.delay()
    assert drain_queue() == {"retried": 1}
    (job,) = all_enqueued(work)
    assert (job.task_id, job.state) == (sent.id, "retryable")
    assert drain_queue() == {}
    assert drain_queue(with_scheduled=True, with_recursion=True) == {"retried": 1, "discarded": 1}
    assert ran == [0, 1, 2]


def test_what_is_scheduled_waits_for_its_time(note, ran):
    note.apply_async([1], countdown=60)
    note.apply_async([2], eta=datetime.now(timezone.utc) + timedelta(hours=2))
    assert drain_queue() == {}
    advance(61)
    assert drain_queue() == {"completed": 1}
    advance(timedelta(hours=2))
    assert drain_queue() == {"completed": 1}
    assert ran == [1, 2]


def test_what_is_published_after_a_move_waits_from_then_on(note, ran):
    advance(3600)
    note.apply_async([1], countdown=60)
    assert drain_queue() == {}
    advance(60)
    assert drain_queue() == {"completed": 1}


def test_a_retry_after_a_move_waits_for_its_own_delay(app):
    class Flaky(PgTask):
        name = "flaky"

        def backoff(self, job):
            return 100

        def run(self):
            raise ValueError

    flaky = app.register_task(Flaky())
    flaky.apply_async(countdown=60)
    advance(60)
    assert drain_queue() == {"retried": 1}
    advance(99)
    assert drain_queue() == {}
    advance(1)
    assert drain_queue() == {"retried": 1}


@pytest.mark.parametrize("seconds", [-1, True, "5", float("inf"), timedelta(-1)])
def test_the_clock_is_not_moved_by_what_is_no_time(app, seconds):
    with pytest.raises(InvalidOption):
        advance(seconds)


def test_with_recursion_what_the_jobs_enqueue_runs_too(app, note, ran):
    @app.task
    def first():
        note.delay(1)

    first.delay()
    assert drain_queue() == {"completed": 1}
    assert drain_queue() == {"completed": 1}
    first.delay()
    assert drain_queue(with_recursion=True) == {"completed": 2}


def test_without_safety_the_error_is_raised_and_noted(app):
    @app.task
    def work():
        raise ValueError("no")

    work.delay()
    with pytest.raises(ValueError, match="no"):
        drain_queue(with_safety=False)
    assert all_enqueued(work) == []
    assert drain_queue() == {}


def test_what_has_expired_is_cancelled(note, ran):
    note.apply_async([1], expires=30)
    note.apply_async([2], expires=90)
    advance(60)
    assert drain_queue() == {"cancelled": 1, "completed": 1}
    assert ran == [2]


def test_what_was_revoked_does_not_run(app, note, ran):
    sent = note.delay(1)
    app.control.revoke(sent.id)
    assert drain_queue() == {}


def test_canvas_runs_to_its_end(app, note, ran):
    @app.task
    def add(*numbers):
        return sum(numbers)

    @app.task
    def total(numbers):
        return sum(numbers)

    chained = chain(add.s(1, 2), add.s(3))()
    body = chord(group(add.s(n, 1) for n in range(3)))(total.s())
    assert drain_queue(with_recursion=True) == {"completed": 6}
    assert chained.get() == 6
    assert body.get() == 6


def test_a_task_that_replaces_itself_is_followed(app):
    @app.task
    def add(x, y):
        return x + y

    @app.task(bind=True)
    def begin(self):
        raise self.replace(add.s(1, 2))

    sent = begin.delay()
    assert drain_queue(with_recursion=True) == {"replaced": 1, "completed": 1}
    assert sent.get() == 3


def test_a_job_that_always_comes_back_is_an_error(app):
    @app.task(base=PgTask)
    def never():
        raise Snooze(1)

    never.delay()
    with pytest.raises(NeverEnds, match="still something"):
        drain_queue(with_scheduled=True, with_recursion=True)


def test_a_task_that_is_not_registered_is_an_error_and_stays(app):
    app.send_task("elsewhere.work")
    with pytest.raises(UnknownTask, match=r"elsewhere\.work"):
        drain_queue()
    assert [job.task for job in due()] == ["elsewhere.work"]


def test_beats_entries_in_a_span_are_told_in_order(app):
    from celery.schedules import crontab

    from pgjobs_celery import cron

    app.conf.beat_schedule = {
        "nightly": {"task": "report", "schedule": crontab(minute=0, hour=2)},
        "often": {"task": "poll", "schedule": 6 * 3600},
        "weekly": {"task": "sweep", "schedule": cron("30 3 * * sun")},
    }
    start = datetime(2026, 1, 3, tzinfo=timezone.utc)  # a Saturday
    ticks = due_entries(app, start, timedelta(days=2))
    assert [name for name, _ in ticks] == [
        "nightly", "often", "often", "often", "often", "nightly", "weekly", *["often"] * 4,
    ]  # fmt: skip
    assert ticks[0].at == start.replace(hour=2)
    assert due_entries(app, datetime(2026, 1, 3), 3600 * 2) == ticks[:1]
    with pytest.raises(InvalidOption, match="before it begins"):
        due_entries(app, start, start - timedelta(1))
