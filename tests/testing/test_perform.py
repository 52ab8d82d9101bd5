"""perform_job: one task, once, as a worker would run it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import celery
import pytest
from celery import Celery
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject

from pgjobs_celery import Cancel, Discard, PgTask, Snooze
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.testing import all_enqueued, drain_queue, perform_job, testing


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app whose servers are not there."""
    app = Celery("perform", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
    # Not for the apps of other tests.
    app.task = functools.partial(app.task, shared=False)
    yield app
    app.close()


@pytest.fixture(params=[celery.Task, PgTask], ids=["celery", "pgtask"])
def base(request: pytest.FixtureRequest) -> type:
    return request.param


def test_what_the_task_returns_is_its_result(app, base):
    @app.task(base=base)
    def add(x, y):
        return x + y

    performed = perform_job(add, [2], {"y": 3})
    assert (performed.outcome, performed.result, performed.get()) == ("completed", 5, 5)


def test_arguments_come_out_of_the_real_serializer(app, base):
    @app.task(base=base)
    def kind(value):
        return type(value).__name__

    assert perform_job(kind, [(1, 2)]).get() == "list"
    app.conf.accept_content = ["json", "pickle"]
    assert perform_job(kind, [(1, 2)], serializer="pickle").get() == "tuple"


def test_arguments_that_json_cannot_hold_are_refused_as_by_delay(app, base):
    @app.task(base=base)
    def take(value):
        pass

    with pytest.raises(Exception, match="not JSON serializable"):
        perform_job(take, [object()])


def test_arguments_that_do_not_fit_the_signature_are_refused_as_by_delay(app, base):
    @app.task(base=base)
    def take(value):
        pass

    with pytest.raises(TypeError, match="other"):
        perform_job(take, kwargs={"other": 1})


def test_the_request_is_filled(app, base):
    @app.task(base=base, bind=True)
    def look(self, x):
        request = self.request
        return {
            "id": request.id,
            "retries": request.retries,
            "args": request.args,
            "queue": request.delivery_info["routing_key"],
            "priority": request.delivery_info["priority"],
            "eager": request.is_eager,
            "direct": request.called_directly,
            "header": request.headers.get("trace"),
            "name": app.current_worker_task.name,
        }

    seen = perform_job(
        look, [1], attempt=3, task_id="t-1", queue="mail", priority=5, headers={"trace": "abc"}
    ).get()
    assert seen == {
        "id": "t-1", "retries": 2, "args": [1], "queue": "mail", "priority": 5, "eager": False,
        "direct": False, "header": "abc", "name": look.name,
    }  # fmt: skip


def test_a_pgtask_knows_its_attempt_tags_and_meta(app):
    @app.task(base=PgTask, bind=True, max_attempts=5, meta={"from": "task"})
    def look(self):
        self.meta["seen"] = self.request.attempt
        return self.request.attempt, self.request.max_attempts, self.is_cancelled()

    performed = perform_job(look, attempt=4, meta={"tenant": 1})
    assert performed.get() == (4, 5, False)
    assert performed.meta == {"from": "task", "tenant": 1, "seen": 4}


def test_a_failed_pgtask_is_retried_after_its_backoff(app):
    class Fetch(PgTask):
        name = "fetch"

        def run(self):
            raise ConnectionError("down")

        def backoff(self, job):
            return 10 * job.attempt

    fetch = app.register_task(Fetch())
    performed = perform_job(fetch, attempt=3)
    assert (performed.outcome, performed.delay) == ("retried", 30)
    with pytest.raises(ConnectionError, match="down"):
        performed.get()


def test_the_last_attempt_of_a_pgtask_discards_the_job(app):
    @app.task(base=PgTask, max_attempts=3)
    def fetch():
        raise ConnectionError("down")

    assert perform_job(fetch, attempt=2).outcome == "retried"
    performed = perform_job(fetch, attempt=3)
    assert performed.outcome == "discarded"
    assert isinstance(performed.error, ConnectionError)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (Snooze(45), {"outcome": "snoozed", "delay": 45}),
        (Cancel("not wanted"), {"outcome": "cancelled", "reason": "not wanted"}),
        (Discard("broken"), {"outcome": "discarded"}),
    ],
)
def test_the_ends_of_a_pgtask_are_outcomes(app, end, outcome):
    @app.task(base=PgTask)
    def ending():
        raise end

    performed = perform_job(ending)
    assert {name: getattr(performed, name) for name in outcome} == outcome


def test_celerys_retry_is_an_outcome_and_enqueues_nothing(app, base):
    @app.task(base=base, bind=True)
    def fetch(self):
        raise self.retry(exc=ConnectionError("down"), countdown=20)

    with testing(app):
        performed = perform_job(fetch)
        assert (performed.outcome, performed.delay) == ("retried", 20)
        assert isinstance(performed.error, ConnectionError)
        assert all_enqueued() == []


def test_celerys_retry_by_eta_says_in_how_many_seconds(app, base):
    @app.task(base=base, bind=True)
    def fetch(self):
        raise self.retry(eta=datetime.now(timezone.utc) + timedelta(hours=1))

    assert perform_job(fetch).delay == pytest.approx(3600, abs=5)


def test_celerys_retry_at_its_limit_discards_the_job(app, base):
    @app.task(base=base, bind=True, max_retries=2)
    def fetch(self):
        raise self.retry()

    assert perform_job(fetch, attempt=2).outcome == "retried"
    performed = perform_job(fetch, attempt=3)
    assert performed.outcome == "discarded"
    assert isinstance(performed.error, MaxRetriesExceededError)


def test_autoretry_for_retries(app, base):
    @app.task(base=base, autoretry_for=(ConnectionError,), retry_kwargs={"countdown": 7})
    def fetch():
        raise ConnectionError("down")

    performed = perform_job(fetch)
    assert (performed.outcome, performed.delay) == ("retried", 7)


def test_ignore_completes_and_reject_discards_or_comes_back(app, base):
    @app.task(base=base)
    def ending(kind):
        raise {"ignore": Ignore(), "reject": Reject("no"), "requeue": Reject("no", requeue=True)}[
            kind
        ]

    outcomes = [perform_job(ending, [kind]) for kind in ("ignore", "reject", "requeue")]
    assert [each.outcome for each in outcomes] == ["completed", "discarded", "retried"]


def test_what_the_task_publishes_is_enqueued_and_not_run(app, base):
    @app.task(base=base)
    def second(x):
        raise AssertionError("nobody is to run this")

    @app.task(base=base)
    def first():
        second.delay(1)

    with testing(app):
        perform_job(first)
        (job,) = all_enqueued(second)
    assert job.args == [1]
    assert job.parent_id


def test_outside_of_testing_nothing_is_left_behind(app, base):
    @app.task(base=base)
    def second(x): ...

    @app.task(base=base)
    def first():
        return second.delay(1).id

    assert perform_job(first).get()
    with testing(app):
        assert all_enqueued() == []


def test_a_task_with_a_call_of_its_own_keeps_its_request(app, base):
    class Base(base):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    @app.task(base=Base, bind=True, max_retries=5)
    def look(self):
        if self.request.retries == 1:
            raise self.retry(countdown=3)
        return self.request.id

    before = celery.Task.__call__
    assert perform_job(look, task_id="t-1").get() == "t-1"
    assert perform_job(look, attempt=2).delay == 3
    assert celery.Task.__call__ is before


def test_a_task_that_leaves_its_process_is_an_outcome_as_in_a_worker(app):
    @app.task(max_attempts=2, base=PgTask)
    def leave():
        raise SystemExit(1)

    @app.task
    def leave_for_good():
        raise SystemExit(1)

    tried = [perform_job(leave), perform_job(leave, attempt=2), perform_job(leave_for_good)]
    assert [each.outcome for each in tried] == ["retried", "discarded", "discarded"]
    assert isinstance(tried[0].error, SystemExit)


def test_that_holds_in_several_threads_too(app, base):
    both = threading.Barrier(2, timeout=10)

    class Base(base):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            both.wait()
            if args[0] == "second":
                first.join(10)
            return super().__call__(*args, **kwargs)

    @app.task(base=Base, bind=True)
    def look(self, which):
        return self.request.id

    before = celery.Task.__call__
    with testing(app):
        first = threading.Thread(target=perform_job, args=(look, ["first"]))
        first.start()
        assert perform_job(look, ["second"], task_id="t-2").get() == "t-2"
    assert celery.Task.__call__ is before


def test_a_signature_and_a_captured_job_can_be_performed(app, base):
    @app.task(base=base, bind=True)
    def add(self, x, y):
        return x + y, self.request.id

    assert perform_job(add.s(1, y=2)).get()[0] == 3
    with testing(app):
        sent = add.delay(2, 3)
        (job,) = all_enqueued(add)
        assert perform_job(job).get() == (5, sent.id)
        assert len(all_enqueued(add)) == 1


def test_a_captured_job_that_retries_itself_stays_as_it_was_captured(app, base):
    @app.task(base=base, bind=True)
    def fetch(self):
        raise self.retry(countdown=20)

    with testing(app):
        fetch.delay()
        (job,) = all_enqueued(fetch)
        assert perform_job(job).delay == 20
        assert all_enqueued(fetch) == [job]
        assert drain_queue() == {"retried": 1}


def test_signals_and_hooks_are_the_workers(app, base):
    seen = []

    class Base(base):
        abstract = True

        def before_start(self, task_id, args, kwargs):
            seen.append("before_start")

        def on_success(self, retval, task_id, args, kwargs):
            seen.append("on_success")

        def after_return(self, *args):
            seen.append("after_return")

    @app.task(base=Base)
    def work():
        seen.append("run")

    def prerun(**_: Any) -> None:
        seen.append("prerun")

    celery.signals.task_prerun.connect(prerun, weak=False, sender=work)
    perform_job(work)
    assert seen == ["prerun", "before_start", "run", "on_success", "after_return"]


def test_task_always_eager_makes_no_difference(app, base):
    app.conf.task_always_eager = True

    @app.task(base=base, bind=True)
    def look(self):
        return self.request.is_eager

    assert perform_job(look).get() is False
    assert app.conf.task_always_eager is True


@pytest.mark.parametrize("attempt", [0, -1, True, "2"])
def test_an_attempt_that_is_none_is_refused(app, attempt):
    @app.task
    def work(): ...

    with pytest.raises(InvalidOption, match="from 1 on"):
        perform_job(work, attempt=attempt)
