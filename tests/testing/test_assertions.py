"""Assertions: what holds, what a failure says, and slips that would hold for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import SkipTest
from unittest.mock import ANY

import pytest
from celery import Celery, chain, chord

from pgjobs_celery import PgTask, Unique
from pgjobs_celery.errors import InvalidOption, UnknownOption
from pgjobs_celery.testing import (
    all_enqueued,
    assert_enqueued,
    assert_enqueued_in_order,
    expected,
    refute_enqueued,
    testing,
)


@pytest.fixture(autouse=True)
def captured(app: Celery) -> Any:
    """What is published here is captured."""
    with testing(app) as captured:
        yield captured


def message(call: Callable[[], Any]) -> str:
    """What the assertion says that fails."""
    with pytest.raises(AssertionError) as caught:
        call()
    return str(caught.value)


# What holds


def test_arguments_match_however_they_were_passed(welcome: Any):
    welcome.delay(7)
    welcome.delay(user_id=8)
    for user_id in (7, 8):
        assert_enqueued(welcome, args=[user_id])
        assert_enqueued(welcome, kwargs={"user_id": user_id, "template": "short"})
    refute_enqueued(welcome, args=[9])


def test_args_are_all_that_were_given_by_their_place(add: Any):
    add.delay(1, 5)
    refute_enqueued(add, args=[1])
    assert_enqueued(add, args=[1, ...])
    assert_enqueued(add, args=[1], kwargs={"y": 5})
    assert_enqueued(add, args=[1, ANY])


def test_keyword_arguments_match_in_part_and_in_depth(welcome: Any):
    welcome.delay(7, order={"id": 1, "lines": [{"sku": "a", "n": 2}, {"sku": "b", "n": 1}]})
    assert_enqueued(welcome, kwargs={"order": {"lines": [{"sku": "a"}, {"n": int}]}})
    refute_enqueued(welcome, kwargs={"order": {"lines": [{"sku": "a"}]}})


def test_a_task_may_be_given_by_its_name(welcome: Any):
    welcome.delay(7, template="long")
    assert_enqueued("proj.welcome", args=[7], kwargs={"template": "long"})
    assert_enqueued(kwargs={"template": "long"})


def test_predicates_types_and_whole_jobs(welcome: Any):
    welcome.delay(7)
    assert_enqueued(welcome, kwargs={"user_id": lambda user_id: user_id > 6, "template": str})
    assert_enqueued(welcome, where=lambda job: job.queue == "celery")
    # One that was not made for the value is no match, and hides none.
    with pytest.raises(InvalidOption, match=r"kwargs\['template'\] raised TypeError"):
        refute_enqueued(welcome, kwargs={"template": lambda template: template > 6})


def test_times_match_within_a_delta(add: Any):
    add.apply_async((1,), countdown=60)
    at = datetime.now(timezone.utc) + timedelta(minutes=1)
    assert_enqueued(add, countdown=60)
    assert_enqueued(add, countdown=timedelta(minutes=1))
    assert_enqueued(add, countdown=50, delta=11)
    assert_enqueued(add, eta=at)
    assert_enqueued(add, countdown=lambda seconds: seconds > 30)
    refute_enqueued(add, countdown=50)
    refute_enqueued(add, eta=None)
    add.delay(2)
    assert_enqueued(add, eta=None, countdown=0, count=1)


def test_queue_priority_headers_and_expiry(add: Any):
    add.apply_async((1,), queue="sums", priority=3, headers={"tenant": 7}, expires=60)
    at = datetime.now(timezone.utc) + timedelta(minutes=1)
    assert_enqueued(add, queue="sums", priority=3, headers={"tenant": 7}, expires=at)
    assert_enqueued(add, expires=60)
    refute_enqueued(add, priority=4)
    refute_enqueued(add, expires=timedelta(minutes=2))


def test_a_time_without_a_zone_is_in_that_of_the_app(make_app: Callable[..., Celery]):
    app = make_app(timezone="Asia/Tokyo")
    add = app.tasks["proj.add"]
    at = datetime(2031, 1, 1, 12)
    with testing(app):
        add.apply_async((1,), eta=at)
        [job] = assert_enqueued(add, eta=at)
        assert job.eta == datetime(2031, 1, 1, 3, tzinfo=timezone.utc)


def test_tags_meta_and_uniqueness(app: Celery):
    @app.task(base=PgTask, name="proj.own", shared=False, tags=["mail"], unique=Unique(period=60))
    def task(number: int) -> None: ...

    result = task.apply_async((1,), tags=["new"], meta={"by": {"id": 7, "name": "ann"}})
    assert_enqueued(task, tags=["new"], meta={"by": {"id": 7}}, unique=True, task_id=result)
    assert_enqueued(task, tags="Mail", unique=Unique(period=60), max_attempts=20)
    refute_enqueued(task, unique=Unique(period=30))
    refute_enqueued(task, tags=["old"])


def test_what_follows_can_be_asserted(add: Any, welcome: Any):
    chain(add.s(1), welcome.s(), add.s(3)).delay()
    assert_enqueued(add, chain=[welcome, add])
    assert_enqueued(add, chain=[welcome, add.s(3)])
    assert_enqueued(add, chain=[..., expected(add, args=[3])])
    refute_enqueued(add, chain=[welcome])
    (add.s(4) | welcome.s().set(countdown=60, queue="mail")).delay()
    assert_enqueued(add, chain=expected(welcome, countdown=60, queue="mail"))
    refute_enqueued(add, chain=expected(welcome, countdown=0, queue="mail"))
    chord([add.s(1), add.s(2)])(welcome.s())
    assert_enqueued(add, chord=welcome, count=2)
    assert_enqueued(add, chord=None, count=2)
    add.apply_async((1,), link=welcome.s())
    assert_enqueued(add, link=[welcome])


def test_the_jobs_that_match_are_returned(add: Any):
    add.delay(1)
    add.delay(2)
    assert [job.args for job in assert_enqueued(add)] == [[1], [2]]
    assert [job.args for job in all_enqueued(add, args=[2])] == [[2]]
    assert len(all_enqueued()) == 2


def test_the_order_can_be_asserted(add: Any, welcome: Any):
    add.delay(1)
    welcome.delay(7)
    add.delay(2)
    found = assert_enqueued_in_order(expected(add, args=[1]), add)
    assert [job.number for job in found] == [1, 3]
    text = message(lambda: assert_enqueued_in_order(welcome, expected(add, args=[1])))
    assert "no job of proj.add was enqueued\n  with args=[1]\nafter #2 welcome(7)" in text
    assert "but before it:\n  #1 add(1)" in text


# Blocks


def test_a_block_is_about_what_it_enqueues(add: Any, welcome: Any):
    add.delay(1)
    with assert_enqueued(add, count=2) as found, refute_enqueued(welcome):
        add.delay(2)
        add.delay(3)
    assert [job.args for job in found] == [[2], [3]]


def test_a_block_in_which_too_little_happens_fails_at_its_end(add: Any):
    def act() -> None:
        with assert_enqueued(add, count=2):
            add.delay(1)

    assert "expected 2 jobs of proj.add, and 1 is enqueued" in message(act)


def test_a_block_that_refutes(add: Any):
    add.delay(1)

    def act() -> None:
        with refute_enqueued(add):
            add.delay(2)

    assert "1 job is enqueued, and none should be" in message(act)
    with refute_enqueued(add):
        pass


def publish_and_raise(task: Any, error: BaseException) -> None:
    task.delay(1)
    raise error


def test_a_block_that_raises_is_asserted_of_all_the_same(add: Any):
    with pytest.raises(ZeroDivisionError), assert_enqueued(add, count=1), refute_enqueued(args=[2]):
        publish_and_raise(add, ZeroDivisionError())
    with (
        pytest.raises(AssertionError, match="the block raised ZeroDivisionError"),
        assert_enqueued(add, timeout=60),
    ):
        add.delay(1 // 0)
    for error in (ZeroDivisionError, SystemExit, asyncio.TimeoutError):
        with pytest.raises(AssertionError, match="1 job is enqueued"), refute_enqueued(add):
            publish_and_raise(add, error())


@pytest.mark.parametrize("error", [AssertionError, SkipTest, KeyboardInterrupt, GeneratorExit])
def test_how_a_test_itself_ends_is_not_hidden(add: Any, error: type[BaseException]):
    with pytest.raises(error) as raised, assert_enqueued(add), refute_enqueued(add):
        publish_and_raise(add, error("the test's own"))
    assert "the test's own" in str(raised.value)


def test_a_block_that_is_no_with_statement_says_so(add: Any):
    with ExitStack() as stack:
        stack.enter_context(assert_enqueued(add, block=True))
        add.delay(1)


def test_blocks_of_every_form_are_seen(add: Any):
    with (
        assert_enqueued(
            add,
            args=[1],
        ),
        assert_enqueued(add, args=[2]) as two,
    ):
        add.delay(1)
        add.delay(2)
    assert len(two) == 1
    for wanted in ([3], [4]):
        with assert_enqueued(*[add], args=wanted):
            add.delay(*wanted)


def test_on_an_event_loop_nothing_is_blocked(add: Any):
    async def later() -> None:
        await asyncio.sleep(0.02)
        add.delay(1)

    async def main() -> None:
        tasks = [asyncio.create_task(later())]
        await assert_enqueued(add, timeout=2)
        async with assert_enqueued(add, timeout=2):
            tasks.append(asyncio.create_task(later()))
        await asyncio.gather(*tasks)
        with pytest.raises(AssertionError):
            await assert_enqueued(add, count=3)

    asyncio.run(main())


def test_what_another_thread_enqueues_is_waited_for(add: Any):
    timer = threading.Timer(0.05, add.delay, (1,))
    timer.start()
    assert_enqueued(add, timeout=5)
    timer.join()
    began = time.monotonic()
    refute_enqueued(add, args=[2], timeout=0.05)
    assert time.monotonic() - began >= 0.05
    timer = threading.Timer(0.02, add.delay, (2,))
    timer.start()
    began = time.monotonic()
    assert "none should be" in message(lambda: refute_enqueued(add, args=[2], timeout=60))
    assert time.monotonic() - began < 30
    timer.join()


# What a failure says


def test_the_nearest_jobs_are_shown_field_by_field(add: Any, welcome: Any):
    add.delay(1)
    welcome.delay(7)
    welcome.apply_async((9,), {"template": "long"}, queue="mail")
    text = message(lambda: assert_enqueued(welcome, kwargs={"user_id": 8}, queue="mail"))
    assert text == (
        "no job of proj.welcome is enqueued\n"
        "  with kwargs={'user_id': 8}, queue='mail'\n"
        "\n"
        "nearest of what is enqueued (2 of this task, 3 in all):\n"
        "\n"
        "  #3 welcome(9, template='long')  queue=mail\n"
        "      kwargs['user_id']  expected 8, got 9\n"
        "\n"
        "  #2 welcome(7)  queue=celery\n"
        "      kwargs['user_id']  expected 8, got 7\n"
        "      queue              expected 'mail', got 'celery'"
    )


def test_what_is_missing_and_what_only_looks_alike_is_said(welcome: Any):
    welcome.delay(7, colour="red")
    text = message(lambda: assert_enqueued(welcome, kwargs={"user_id": "7", "color": "red"}))
    assert "kwargs['user_id']  expected '7' (str), got 7 (int)" in text
    assert "expected 'red', got nothing  (did you mean 'colour'?)" in text


def test_long_texts_are_shown_where_they_differ(welcome: Any):
    welcome.delay(7, template="a" * 500 + "b" + "a" * 500)
    text = message(lambda: assert_enqueued(welcome, kwargs={"template": "a" * 1001}))
    assert "got ...'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab" in text
    assert max(map(len, text.splitlines())) < 180


def test_a_time_says_by_how_much_it_is_off(add: Any):
    add.apply_async((1,), countdown=60)
    text = message(lambda: assert_enqueued(add, countdown=50))
    assert "countdown  expected 50, got 60.0  (+10.0 s; delta=2)" in text


def test_a_predicate_is_named_by_its_place(add: Any):
    add.delay(1)
    text = message(lambda: assert_enqueued(add, kwargs={"x": lambda x: x > 1}))
    assert "expected what <lambda> says True to (test_assertions.py:" in text
    text = message(lambda: assert_enqueued(add, kwargs={"x": lambda x: x.name}))
    assert "raised AttributeError" in text


def test_other_tasks_are_named_and_the_one_that_was_meant(add: Any):
    add.delay(1)
    text = message(lambda: assert_enqueued("proj.adds"))
    assert "enqueued are: proj.add (1); did you mean 'proj.add'?" in text


def test_that_nothing_is_enqueued_is_said(add: Any):
    assert message(lambda: assert_enqueued(add)) == (
        "proj.add is not enqueued\n\nnothing is enqueued"
    )


def test_a_later_step_of_a_chain_is_pointed_out(add: Any, welcome: Any):
    chain(add.s(1), welcome.s()).delay()
    text = message(lambda: assert_enqueued(welcome))
    assert "it is step 2 of the chain that begins with #1 add(1)" in text
    chord([add.s(1)], welcome.s()).delay()


def test_what_was_cancelled_is_pointed_out(add: Any):
    add.delay(1).revoke()
    text = message(lambda: assert_enqueued(add))
    assert "it was enqueued, but waits no more: 1 cancelled" in text


def test_too_many_are_shown(add: Any):
    add.delay(1)
    add.delay(2)
    text = message(lambda: assert_enqueued(add, count=1))
    assert text == (
        "expected 1 job of proj.add, and 2 are enqueued\n"
        "\n"
        "these match:\n"
        "  #1 add(1)  queue=celery\n"
        "  #2 add(2)  queue=celery"
    )


# Slips


def test_an_argument_that_the_task_has_not_is_a_slip(welcome: Any, add: Any):
    with pytest.raises(InvalidOption, match="no argument 'z'"):
        refute_enqueued(add, kwargs={"z": 1})
    with pytest.raises(InvalidOption, match="takes 2 positional arguments, not 3"):
        refute_enqueued(add, args=[1, 2, 3])
    with pytest.raises(InvalidOption, match="in args as well"):
        refute_enqueued(add, args=[1], kwargs={"x": 1})
    refute_enqueued(welcome, kwargs={"anything": 1})


def test_a_word_that_there_is_not_is_a_slip(add: Any):
    with pytest.raises(UnknownOption, match=r"kwargs=\{'x': \.\.\.\}"):
        assert_enqueued(add, x=1)
    with pytest.raises(UnknownOption, match="did you mean 'queue'"):
        assert_enqueued(add, que="q")
    for words in ({"args": 7}, {"kwargs": [7]}, {"count": "2"}):
        with pytest.raises(InvalidOption):
            assert_enqueued(add, **words)


def test_what_is_no_task_is_a_slip(add: Any):
    add.delay(1)
    for task in (42, lambda: None, [add], add.s(2)):
        with pytest.raises(InvalidOption, match="is a task or the name of one"):
            refute_enqueued(task)
        with pytest.raises(InvalidOption, match="is a task or the name of one"):
            assert_enqueued(task)


# Cost


def test_an_assertion_costs_little_more_than_to_look_at_each_job_once(welcome: Any):
    """A thousand assertions on a thousand jobs take half a second."""
    for number in range(1000):
        welcome.delay(number, template="x" * 50)
    began = time.process_time()  # others use the machine as well
    for number in range(1000):
        assert_enqueued(welcome, kwargs={"user_id": number})
    cost = time.process_time() - began
    jobs = [job.args for job in all_enqueued()]
    began = time.process_time()
    for number in range(1000):
        assert sum(args[0] == number for args in jobs) == 1
    assert cost < 40 * (time.process_time() - began)
