"""What is published in a test: captured by Celery's own way to publish, and by no other."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, chain, chord, group, signals
from kombu import Exchange, Queue
from kombu.exceptions import EncodeError

from pgjobs_celery import PgTask, Unique, bulk, enqueue_many, jobs
from pgjobs_celery.errors import InvalidOption, NothingRuns, PgJobsError
from pgjobs_celery.job.states import State
from pgjobs_celery.testing import all_enqueued, testing

from .conftest import NOWHERE


@pytest.mark.parametrize("broker", NOWHERE)
def test_a_task_is_captured_whatever_the_broker_and_nothing_is_connected_to(
    make_app: Callable[..., Celery], broker: str
):
    app = make_app(broker)
    with testing(app) as captured:
        result = app.tasks["proj.add"].apply_async((1,), {"y": 3}, priority=4, queue="sums")
    [job] = captured.inbox.find()
    assert (job.task, job.args, job.kwargs) == ("proj.add", [1], {"y": 3})
    assert (job.task_id, job.priority, job.queue) == (result.id, 4, "sums")
    assert job.state is State.AVAILABLE


def test_after_the_block_the_app_leads_where_it_did(app: Celery, add: Any):
    places = app.amqp._producer_pool, app._pool, app._backend_cache
    with testing(app):
        assert app.amqp._producer_pool is not places[0]
    assert (app.amqp._producer_pool, app._pool, app._backend_cache) == places


def test_a_task_goes_the_way_that_the_routes_say(make_app: Callable[..., Celery]):
    app = make_app(task_routes={"proj.add": {"queue": "sums", "priority": 7}})
    with testing(app) as captured:
        app.tasks["proj.add"].delay(1)
        app.send_task("proj.other", (1,))
    assert [(job.queue, job.priority) for job in captured.inbox.find()] == [
        ("sums", 7),
        ("celery", 0),
    ]


def test_a_task_for_a_topic_exchange_is_in_the_queue_that_is_bound_to_it(
    make_app: Callable[..., Celery],
):
    exchange = Exchange("events", "topic")
    queue = Queue("mail", exchange, routing_key="mail.#")
    app = make_app(task_queues=[queue])
    with testing(app) as captured:
        app.tasks["proj.add"].apply_async((1,), queue="mail", routing_key="mail.new")
    [job] = captured.inbox.find()
    assert (job.queue, job.exchange, job.routing_key) == ("mail", "events", "mail.new")


def test_arguments_come_back_as_the_serializer_makes_them(app: Celery, welcome: Any):
    at = datetime(2027, 1, 2, tzinfo=timezone.utc)
    one = UUID(int=7)
    with testing(app) as captured:
        welcome.delay((1, 2), at=at, id=one)
    [job] = captured.inbox.find()
    assert job.args == [[1, 2]]
    assert job.kwargs == {"at": at, "id": one}


def test_what_cannot_be_serialised_raises_where_it_is_published(app: Celery, add: Any):
    with testing(app) as captured, pytest.raises(EncodeError):
        add.delay(object())
    assert not captured.inbox.find()


@pytest.mark.parametrize("options", [{"serializer": "pickle"}, {"compression": "zlib"}])
def test_any_serializer_and_compression_can_be_read(app: Celery, add: Any, options: Any):
    with testing(app) as captured:
        add.apply_async((1,), {"y": 3}, **options)
    [job] = captured.inbox.find()
    assert (job.args, job.kwargs) == ([1], {"y": 3})


def test_the_signals_of_publishing_are_sent_and_may_change_the_headers(app: Celery, add: Any):
    sent = []

    def stamp(headers: Any, **_: Any) -> None:
        headers["trace"] = "t-1"

    def note(sender: str, **_: Any) -> None:
        sent.append(sender)

    signals.before_task_publish.connect(stamp, weak=False)
    signals.after_task_publish.connect(note, weak=False)
    try:
        with testing(app) as captured:
            add.apply_async((1,), headers={"tenant": 3})
    finally:
        signals.before_task_publish.disconnect(stamp)
        signals.after_task_publish.disconnect(note)
    [job] = captured.inbox.find()
    assert (job.headers["trace"], job.headers["tenant"]) == ("t-1", 3)
    assert sent == ["proj.add"]


def test_a_countdown_is_scheduled_and_an_expiry_kept(app: Celery, add: Any):
    with testing(app) as captured:
        add.apply_async((1,), countdown=60, expires=90)
    [job] = captured.inbox.find()
    assert job.state is State.SCHEDULED
    assert job.countdown == pytest.approx(60, abs=1)
    assert job.expires is not None
    assert job.expires - job.published_at == pytest.approx(
        timedelta(seconds=90), abs=timedelta(seconds=1)
    )


def test_chains_groups_and_chords_say_what_follows(app: Celery, add: Any):
    with testing(app) as captured:
        chain(add.s(1), add.s(2), add.s(3)).delay()
        group(add.s(1), add.s(2)).delay()
        chord([add.s(1), add.s(2)])(add.s(3))
    first, *rest = captured.inbox.find()
    assert [step["args"] for step in first.chain] == [[2], [3]]
    assert len(rest) == 4
    assert rest[0].group_id == rest[1].group_id
    assert all(job.chord["args"] == [3] for job in rest[2:])


def test_many_are_seen_as_any(app: Celery, add: Any):
    with testing(app) as captured:
        assert enqueue_many(add, ((n,) for n in range(5))) == 5
    assert [job.args for job in captured.inbox.find()] == [[n] for n in range(5)]


def test_a_block_of_bulk_that_raises_has_published_nothing(app: Celery, add: Any):
    with testing(app) as captured:
        with bulk():
            add.delay(1)
            assert not captured.inbox.find()
        with suppress(ZeroDivisionError), bulk():
            add.delay(2 // 0)
        with suppress(ZeroDivisionError), bulk():
            add.delay(3)
            add.delay(3 // 0)
        with bulk(size=2):
            for n in range(3):
                add.delay(n)
            assert len(captured.inbox) == 3
    assert [job.args for job in captured.inbox.find()] == [[1], [0], [1], [2]]


@pytest.fixture
def once(app: Celery) -> Any:
    """A unique PgTask."""

    @app.task(base=PgTask, name="proj.once", shared=False, tags=["mail"], meta={"a": 1})
    def once(user_id: int, text: str = "") -> None: ...

    return once


def test_the_options_of_a_pgtask_are_there(app: Celery, once: Any):
    with testing(app) as captured:
        once.apply_async((1,), tags=["new"], meta={"b": 2}, max_attempts=3)
    [job] = captured.inbox.find()
    assert (job.tags, job.meta, job.max_attempts) == (("mail", "new"), {"a": 1, "b": 2}, 3)
    assert job.unique is None


def test_a_unique_job_meets_the_one_that_is_there(app: Celery, once: Any):
    rule = Unique(keys=["user_id"], period=None)
    with testing(app) as captured:
        first = once.apply_async((1, "a"), unique=rule)
        second = once.apply_async((1, "b"), unique=rule)
        other = once.apply_async((2, "b"), unique=rule)
    assert (second.conflict, second.id) == (True, first.id)
    assert not other.conflict
    assert [job.args for job in captured.inbox.find()] == [[1, "a"], [2, "b"]]


def test_a_unique_job_replaces_what_it_says_of_one_that_waits(app: Celery, once: Any):
    rule = Unique(keys=["user_id"], states="waiting", replace=["args", "eta"])
    with testing(app) as captured:
        once.apply_async((1, "a"), unique=rule)
        once.apply_async((1, "b"), unique=rule, countdown=60)
    [job] = captured.inbox.find()
    assert (job.args, job.state) == ([1, "b"], State.SCHEDULED)


def test_a_conflict_in_bulk_shows_when_the_block_ends(app: Celery, once: Any):
    with testing(app) as captured, bulk():
        once.apply_async((1,), unique=True)
        second = once.apply_async((1,), unique=True)
        assert not second.conflict
    assert second.conflict
    assert len(captured.inbox) == 1


@pytest.mark.parametrize("base", [None, PgTask])
@pytest.mark.parametrize("broker", NOWHERE)
def test_a_revoke_cancels_what_waits(make_app: Callable[..., Celery], broker: str, base: Any):
    app = make_app(broker)

    @app.task(name="proj.own", shared=False, **({"base": base} if base else {}))
    def task() -> None: ...

    with testing(app) as captured:
        task.delay().revoke()
        assert not all_enqueued(task)
    assert [job.state for job in captured.inbox.find()] == [State.CANCELLED]


def test_rows_are_not_looked_for_where_there_are_none(make_app: Callable[..., Celery]):
    app = make_app("pgjobs")
    with testing(app), pytest.raises(PgJobsError, match=r"testing\(app, \"real\"\)"):
        jobs(app)


def test_a_result_that_nothing_will_bring_is_not_waited_for(app: Celery, add: Any):
    with testing(app):
        with pytest.raises(NothingRuns, match="nothing runs task"):
            add.delay(1).get()
        with pytest.raises(NothingRuns):
            group(add.s(1), add.s(2)).delay().get()


def test_eager_tasks_are_captured_and_eager_again_afterwards(make_app: Callable[..., Celery]):
    app = make_app(task_always_eager=True)
    add = app.tasks["proj.add"]
    with testing(app) as captured:
        add.delay(1)
        assert len(captured.inbox) == 1
    assert add.delay(1).get() == 3


def _publish(app: Celery, answers: Any) -> None:
    try:
        app.tasks["proj.add"].delay(1)
        answers.put("captured")
    except Exception as error:
        answers.put(repr(error))


def test_a_forked_child_does_not_reach_the_broker_either(app: Celery):
    context = multiprocessing.get_context("fork")
    with testing(app):
        answers = context.SimpleQueue()
        child = context.Process(target=_publish, args=(app, answers))
        child.start()
        assert answers.get() == "captured"
        child.join()


def test_messages_of_the_old_protocol_are_refused(make_app: Callable[..., Celery]):
    with pytest.raises(InvalidOption, match="task_protocol 2"):
        testing(make_app(task_protocol=1))


def test_the_public_module_is_cheap_and_loads_no_database_driver():
    # What comes beyond Celery's own import, in processor time: others use the machine as well.
    code = """
import time, sys
from celery import Celery
import celery.app.amqp, celery.app.task, celery.backends.base, celery.app.trace
began = time.process_time()
from pgjobs_celery.testing import assert_enqueued, testing
took = time.process_time() - began
print("psycopg" in sys.modules, round(took * 1000))
"""

    def measure() -> int:
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        loads_driver, took = run.stdout.split()
        assert loads_driver == "False"
        return int(took)

    assert any(measure() < 150 for _ in range(3))
