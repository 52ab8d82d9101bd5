"""What must fail: each way in which a job may be another than an assertion says."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import ANY, MagicMock, Mock
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group, shared_task
from kombu import Connection, Exchange, Queue

from pgjobs_celery import PgTask, Unique, bulk
from pgjobs_celery.errors import InvalidOption, PgJobsError
from pgjobs_celery.testing import (
    all_enqueued,
    assert_enqueued,
    assert_enqueued_in_order,
    drain_queue,
    expected,
    refute_enqueued,
    testing,
)

from ..conftest import close_app

NOW = datetime.now(timezone.utc)


@pytest.fixture(params=["manual", "inline", "real"])
def block(request: pytest.FixtureRequest, make_app: Callable[..., Celery]) -> Iterator[testing]:
    """An app in a block of each mode."""
    app = make_app()
    if request.param == "real":
        app.conf.broker_url = app.conf.result_backend = request.getfixturevalue("url")

    @app.task(base=PgTask, name="proj.mail", shared=False, max_attempts=3, tags=["mail"])
    def mail(user_id: int = 0) -> None: ...

    with testing(app, request.param) as block:
        yield block
    close_app(app)


#: The options that a job is published with, a description that it meets, and one that it does not.
WORDS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"args": [1]}, {"args": [1]}, {"args": [2]}),
    ({"args": [1]}, {"args": [1]}, {"args": []}),
    ({"args": [1]}, {"args": [1, ...]}, {"args": [2, ...]}),
    ({"args": [1]}, {"args": [1]}, {"args": [True]}),
    ({"args": [[1]]}, {"args": [[1]]}, {"args": [[True]]}),
    ({"args": [{"a": [0]}]}, {"args": [{"a": [0]}]}, {"args": [{"a": [False]}]}),
    ({"args": [1]}, {"args": [1]}, {"args": ["1"]}),
    ({"args": [None]}, {"args": [None]}, {"args": [0]}),
    ({"args": [1]}, {"args": [int]}, {"args": [str]}),
    ({"args": [1]}, {"args": [lambda n: n == 1]}, {"args": [lambda n: n == 2]}),
    ({"args": [[1, 2]]}, {"args": [{1, 2}]}, {"args": [{1, 3}]}),
    ({"kwargs": {"user_id": 1}}, {"kwargs": {"user_id": 1}}, {"kwargs": {"user_id": 2}}),
    ({"kwargs": {"user_id": 1}}, {"args": [1]}, {"args": [2]}),
    ({"args": [1]}, {"count": 1}, {"count": 2}),
    ({"args": [1]}, {"task": "proj.mail"}, {"task": "proj.add"}),
    ({"queue": "a"}, {"queue": "a"}, {"queue": "b"}),
    ({"queue": "a"}, {"queue": Queue("a")}, {"queue": Queue("celery")}),
    ({"priority": 3}, {"priority": 3}, {"priority": 0}),
    ({"countdown": 60}, {"countdown": 60}, {"countdown": 50}),
    ({"countdown": 60}, {"countdown": timedelta(minutes=1)}, {"countdown": None}),
    ({}, {"countdown": 0}, {"countdown": float("nan")}),
    ({}, {"eta": None}, {"eta": 0}),
    ({"eta": NOW + timedelta(hours=1)}, {"eta": NOW + timedelta(hours=1)}, {"eta": NOW}),
    ({"expires": 60}, {"expires": 60}, {"expires": None}),
    ({}, {"expires": None}, {"expires": 60}),
    ({"tags": ["a"]}, {"tags": ["a", "mail"]}, {"tags": ["a", "b"]}),
    ({"tags": ["a"]}, {"tags": "A"}, {"tags": "b"}),
    ({"meta": {"a": 1}}, {"meta": {"a": 1}}, {"meta": {"a": 2}}),
    ({"headers": {"a": {"b": 1}}}, {"headers": {"a": {"b": 1}}}, {"headers": {"a": {"b": 2}}}),
    ({"headers": {"a": 1}}, {"headers": {"a": 1}}, {"headers": {"c": ANY}}),
    ({"time_limit": 5}, {"headers": {"timelimit": [5, None]}}, {"headers": {"timelimit": [4]}}),
    ({"ignore_result": True}, {"headers": {"ignore_result": True}},
     {"headers": {"ignore_result": False}}),
    ({"stamped_headers": ["s"], "s": 1}, {"headers": {"stamps": {"s": 1}}},
     {"headers": {"stamps": {"s": 2}}}),
    ({"unique": True}, {"unique": True}, {"unique": False}),
    ({}, {"unique": False}, {"unique": True}),
    ({"unique": Unique(period=60)}, {"unique": Unique(period=60)}, {"unique": Unique(period=61)}),
    ({"max_attempts": 4}, {"max_attempts": 4}, {"max_attempts": 3}),
    ({"countdown": 9}, {"countdown": 9}, {"state": "available"}),
    ({"task_id": "x1"}, {"task_id": "x1"}, {"task_id": "x2"}),
    ({}, {"task_id": ANY}, {"task_id": uuid4()}),
    ({}, {"parent_id": None}, {"parent_id": "x"}),
    ({"group_id": "g"}, {"group_id": "g"}, {"group_id": None}),
    ({"root_id": "r"}, {"root_id": "r"}, {"root_id": "s"}),
    ({}, {"where": lambda job: job.task == "proj.mail"}, {"where": lambda job: False}),
    ({}, {"chain": None}, {"chain": ["proj.add"]}),
    ({}, {"chain": [], "chord": None, "link": None, "link_error": []}, {"chord": "proj.add"}),
    ({"link": "add"}, {"link": "proj.add"}, {"link": None}),
    ({"link": "add"}, {"link": ["proj.add"]}, {"link": ["proj.add", "proj.add"]}),
    ({"link_error": "add"}, {"link_error": "proj.add"}, {"link_error": "proj.mail"}),
    ({"link_error": "add"}, {"link_error": "proj.add"}, {"link_error": None}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "right", "wrong"), WORDS)
def test_an_assertion_and_its_opposite(
    block: testing, options: dict[str, Any], right: dict[str, Any], wrong: dict[str, Any]
):
    tasks = block.app.tasks
    options = dict(options)
    for name in ("link", "link_error"):
        if name in options:
            options[name] = tasks["proj.add"].si(1)
    tasks["proj.mail"].apply_async(**options)
    right, wrong = ({"task": tasks["proj.mail"], **words} for words in (right, wrong))
    assert_enqueued(**right)
    with pytest.raises(AssertionError):
        assert_enqueued(**wrong)
    if "count" not in right:
        refute_enqueued(**wrong)
        with pytest.raises(AssertionError):
            refute_enqueued(**right)
        assert not all_enqueued(**wrong)
        assert_enqueued(**wrong, count=0)
        with pytest.raises(AssertionError):
            assert_enqueued(**right, count=0)


def signatures(app: Celery) -> dict[str, Any]:
    """Steps of a chain, each different from each other, by what tells them apart."""
    add, mail = app.tasks["proj.add"], app.tasks["proj.mail"]
    return {
        "plain": add.s(5),
        "other task": mail.s(5),
        "other argument": add.s(6),
        "by name": add.s(y=5),
        "one more": add.s(5, y=5),
        "immutable": add.si(5),
        "queue": add.s(5).set(queue="y"),
        "other queue": add.s(5).set(queue="z"),
        "countdown": add.s(5).set(countdown=9),
        "expires": add.s(5).set(expires=9),
        "priority": add.s(5).set(priority=9),
        "headers": add.s(5).set(headers={"a": 1}),
        "tags": mail.s(5).set(tags=["a"]),
        "unique": mail.s(5).set(unique=Unique(period=9)),
        "other unique": mail.s(5).set(unique=Unique(period=8)),
        "link": add.s(5).set(link=[add.s(1)]),
        "other link": add.s(5).set(link=[add.s(2)]),
        "link_error": add.s(5).on_error(add.s(1)),
        "group": group(add.s(1), add.s(2)),
        "other group": group(add.s(1), add.s(3)),
        "longer group": group(add.s(1), add.s(2), add.s(3)),
        "options in a group": group(add.s(1), add.s(2).set(queue="y")),
        "chord": chord([add.s(1)], add.s(9)),
        "other body": chord([add.s(1)], add.s(8)),
        "other header": chord([add.s(2)], add.s(9)),
        "body's queue": chord([add.s(1)], add.s(9).set(queue="y")),
    }


#: A signature without an option says nothing about it: it is met by one that has it.
UNSAID = {
    "plain": {"queue", "other queue", "countdown", "expires", "priority", "headers", "link",
              "other link", "link_error"},
    "other task": {"tags", "unique", "other unique"},
    "group": {"options in a group"},
    "chord": {"body's queue"},
}  # fmt: skip


def test_each_signature_of_a_chain_is_told_from_each_other(app: Celery):
    @app.task(base=PgTask, name="proj.mail", shared=False)
    def mail(user_id: int = 0) -> None: ...

    add = app.tasks["proj.add"]
    for published in signatures(app):
        with testing(app):
            chain(add.s(1), signatures(app)[published], add.s(0)).apply_async()
            for name, step in signatures(app).items():
                [job] = all_enqueued(add, args=[1])
                if len(job.chain) == 1:  # Celery has made a chord of a group and what follows it
                    steps = (chain(add.s(1), step, add.s(0)),)
                    frozen = steps[0].clone()
                    with testing(app) as aside:
                        frozen.apply_async()
                    [other] = [each for each in aside.inbox.find() if each.args == [1]]
                    wanted = list(other.chain)
                else:
                    wanted = [step, add.s(0)]
                is_met = name == published or published in UNSAID.get(name, ())
                words = {"args": [1], "chain": wanted}
                if len(job.chain) == 1 and is_met is False and len(wanted) != 1:
                    refute_enqueued(add, **words)
                    continue
                (assert_enqueued if is_met else refute_enqueued)(add, **words)


def test_a_step_is_described_by_all_words_that_its_signature_can_answer(app: Celery, add: Any):
    @app.task(base=PgTask, name="proj.mail", shared=False)
    def mail(user_id: int = 0) -> None: ...

    step = mail.si(1).set(
        unique=Unique(period=9), max_attempts=4, expires=60, countdown=30, link=[add.s(2)],
        headers={"a": 1}, meta={"m": 1}, queue="y", priority=2,
    )  # fmt: skip
    right = {
        "unique": Unique(period=9), "max_attempts": 4, "expires": 60, "countdown": 30,
        "link": add.s(2), "headers": {"a": 1}, "meta": {"m": 1}, "queue": "y", "priority": 2,
    }  # fmt: skip
    wrong = {
        "unique": False, "max_attempts": 3, "expires": None, "countdown": None, "link": None,
        "headers": {"a": 2}, "meta": {"m": 2}, "queue": "z", "priority": 0,
    }  # fmt: skip
    with testing(app):
        chain(add.s(1), step).apply_async()
        assert_enqueued(add, chain=[expected(mail, **right)])
        for name, value in wrong.items():
            refute_enqueued(add, chain=[expected(mail, **{name: value})])


# What cannot be told is said.


def raises_typo(job: Any) -> bool:
    return bool(job.arg[0] == 7)


async def is_asynchronous(job: Any) -> bool:
    return False


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"where": raises_typo}, "has no attribute 'arg'"),
        ({"where": is_asynchronous}, "asynchronous"),
        ({"where": "x"}, "must be a function"),
        ({"kwargs": {"user_id": lambda value: value.nothing}}, "has no attribute 'nothing'"),
        ({"kwargs": {"user_id": MagicMock()}}, "a mock"),
        ({"args": [Mock()]}, "a mock"),
        ({"kwargs": {"user_id": MagicMock(spec=dict)}}, "a mock"),
        ({"args": [object()]}, "equal to itself only"),
        ({"task_id": None}, "task_id is None"),
        ({"state": "availble"}, "did you mean 'available'"),
        ({"state": ["available"]}, "state is "),
        ({"queue": None}, "queue is None"),
        ({"queue": ["celery"]}, "queue is "),
        ({"priority": "3"}, "priority is '3'"),
        ({"max_attempts": "3"}, "max_attempts is '3'"),
    ],
)
def test_what_can_never_be_seen_is_not_refuted(block: testing, words: Any, reason: str):
    mail = block.app.tasks["proj.mail"]
    mail.delay(7)
    for assertion in (
        lambda: refute_enqueued(mail, **words),
        lambda: refute_enqueued(mail, **words, timeout=0.01),
        lambda: all_enqueued(mail, **words),
        lambda: assert_enqueued(mail, **words, count=0),
        lambda: assert_enqueued(mail, **words, count=1),
    ):
        with pytest.raises(InvalidOption, match=reason):
            assertion()
    with pytest.raises(InvalidOption, match=reason), refute_enqueued(mail, **words):
        mail.delay(8)
    with pytest.raises((InvalidOption, AssertionError), match=reason):
        assert_enqueued(mail, **words)


def test_a_function_need_not_answer_for_jobs_that_are_others_anyway(block: testing):
    mail = block.app.tasks["proj.mail"]
    mail.apply_async([7], queue="a")
    refute_enqueued(mail, queue="b", where=raises_typo)
    assert_enqueued(mail, queue="a", where=lambda job: job.args == [7], count=1)


def test_a_name_that_no_task_has_is_not_refuted(block: testing):
    app = block.app
    for assertion in (refute_enqueued, all_enqueued):
        with pytest.raises(InvalidOption, match=r"did you mean 'proj\.mail'"):
            assertion("proj.mial")
        assertion("billing.charge", elsewhere=True)
    with pytest.raises(InvalidOption, match=r"no task 'proj\.mial'"):
        assert_enqueued("proj.mial", count=0)
    app.send_task("billing.charge")
    with pytest.raises(AssertionError):
        refute_enqueued("billing.charge")
    with pytest.raises(AssertionError):
        refute_enqueued("billing.charge", elsewhere=True)


def test_no_step_is_in_no_order(block: testing):
    with pytest.raises(InvalidOption, match="no step"):
        assert_enqueued_in_order()


def test_a_state_is_asked_of_what_waits_no_more_too(app: Celery, add: Any):
    with testing(app):
        result = add.delay(1)
        refute_enqueued(add, state="completed")
        drain_queue()
        with pytest.raises(AssertionError):
            refute_enqueued(add, state="completed")
        assert_enqueued(add, state="completed", task_id=result)
        refute_enqueued(add)


def test_a_refusal_that_waits_does_not_block_the_loop_that_publishes(block: testing):
    mail = block.app.tasks["proj.mail"]

    async def main() -> None:
        later = asyncio.get_running_loop().call_later(0.05, mail.delay)
        with pytest.raises(InvalidOption, match="await refute_enqueued"):
            refute_enqueued(mail, timeout=0.3)
        with pytest.raises(InvalidOption, match="async with"), refute_enqueued(mail, timeout=0.3):
            pass
        with pytest.raises(AssertionError):
            await refute_enqueued(mail, timeout=20)
        later.cancel()

    asyncio.run(main())


# What no block has captured is said.


@pytest.fixture
def own_connection() -> Iterator[Connection]:
    """A connection that the code under test has opened itself."""
    with Connection("memory://elsewhere") as connection:
        yield connection


@pytest.mark.parametrize("mode", ["manual", "inline"])
def test_what_goes_over_a_connection_of_the_codes_own_is_said(
    app: Celery, add: Any, welcome: Any, own_connection: Connection, mode: str
):
    with testing(app, mode) as captured:
        with pytest.raises(AssertionError, match="past this block"), refute_enqueued(add):
            add.apply_async((1,), connection=own_connection)
        with pytest.raises(AssertionError, match="past this block"):
            refute_enqueued(add, args=[2])
        with pytest.raises(AssertionError, match="past this block"):
            all_enqueued()
        with pytest.raises(AssertionError, match="past this block"):
            assert_enqueued(add, count=0)
        refute_enqueued(welcome)
        captured.clear()
        refute_enqueued(add)
        with own_connection.Producer() as producer:
            app.send_task(add.name, (1,), producer=producer)
        with pytest.raises(AssertionError, match="past this block"):
            refute_enqueued(add)
        captured.clear()
        in_thread = functools.partial(add.apply_async, (1,), connection=own_connection)
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        with pytest.raises(AssertionError, match="past this block"):
            refute_enqueued(add)
    with testing(app):
        refute_enqueued(add)


def test_a_shared_task_of_another_app_is_said(make_app: Callable[..., Celery]):
    @shared_task(name="proj.shared")
    def shared() -> None: ...

    app, other = make_app(), make_app()
    other.conf.update(broker_url="memory://other", result_backend="cache+memory://")
    other.set_current()
    with testing(app):
        shared.delay()
        with pytest.raises(InvalidOption, match="not of the one that is tested"):
            refute_enqueued(shared, app=app)
        with pytest.raises(InvalidOption, match="not of the one that is tested"):
            all_enqueued(shared, app=app)
        with pytest.raises(AssertionError, match="past this block"):
            refute_enqueued("proj.shared", app=app)
        with pytest.raises(PgJobsError):
            refute_enqueued(shared)
    with testing(app), testing(other):
        shared.delay()
        refute_enqueued("proj.shared", app=app)
        with pytest.raises(AssertionError):
            refute_enqueued(shared)


def test_every_queue_of_a_message_is_a_queue_of_its_job(app: Celery, add: Any):
    fan = Exchange("fan", type="fanout")
    app.conf.task_queues = [Queue("celery"), Queue("a", fan), Queue("b", fan)]
    with testing(app), app.pool.acquire() as connection:
        for queue in app.conf.task_queues:
            queue(connection.default_channel).declare()
        add.apply_async((1,), exchange="fan", exchange_type="fanout", routing_key="x")
        for queue in ("a", "b"):
            assert_enqueued(add, queue=queue, count=1)
            with pytest.raises(AssertionError):
                refute_enqueued(add, queue=queue)
        refute_enqueued(add, queue="c")


def test_a_batch_that_is_dropped_has_enqueued_nothing(block: testing):
    mail = block.app.tasks["proj.mail"]
    with suppress(ZeroDivisionError), bulk():
        mail.delay(1)
        mail.delay(1 // 0)
    refute_enqueued(mail)
    with pytest.raises(AssertionError):
        assert_enqueued(mail)
