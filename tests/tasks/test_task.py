"""PgTask as a task of Celery's: what it takes, what it refuses, what it publishes."""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery, Task, shared_task
from celery.app.autoretry import add_autoretry_behaviour
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery import Cancel, Discard, PgTask, Snooze
from pgjobs_celery.errors import InvalidOption, MessageRefused, UnknownOption
from pgjobs_celery.job.backoff import oban_backoff
from pgjobs_celery.job.exceptions import LONGEST_DELAY, seconds_from_now
from pgjobs_celery.job.options import MOST_ATTEMPTS, encode_json, normalise_tags
from pgjobs_celery.tasks.result import PgResult

from ..conftest import Connection
from ..support.rows import row, states


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task_cls = PgTask
    return app


Options = dict[str, Any]


def make_task(app: Celery, **options: Any) -> Any:
    def task(x: Any = None, y: int = 2) -> Any:
        return x

    # Not shared: Celery has every app of the process know it otherwise.
    made = app.task(**{"name": "task", "shared": False, **options})(task)
    app.finalize()
    return made


# What is said where the task is defined


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 20),
        ({"max_attempts": 1}, 1),
        ({"max_retries": 4}, 5),
        ({"max_retries": 0}, 1),
        ({"max_retries": None}, MOST_ATTEMPTS),
        ({"max_attempts": 5, "max_retries": 4}, 5),
        ({"autoretry_for": (OSError,), "retry_kwargs": {"max_retries": 2}}, 3),
    ],
)
def test_attempts_may_be_said_in_celerys_words(app: Celery, options: Options, attempts: int):
    task = make_task(app, **options)
    assert task.max_attempts == attempts
    assert task.max_retries == attempts - 1


def test_a_base_class_and_annotations_say_it_for_many(app: Celery):
    class Mail(PgTask):
        abstract = True
        max_attempts = 7
        tags = ["Mail"]

    app.conf.task_annotations = {"special": {"max_attempts": 9, "tags": ["x"]}}

    class Noted(PgTask):
        abstract = True
        meta = {"team": "mail"}

    noted = make_task(app, base=Noted, name="noted")
    assert row_header(noted)["meta"] == {"team": "mail"}
    assert dict(noted.meta) == {}
    task, special = make_task(app, base=Mail), make_task(app, base=Mail, name="special")
    assert (task.max_attempts, task.tags) == (7, ("mail",))
    assert (special.max_attempts, special.tags) == (9, ("x",))
    assert make_task(app, base=Mail, name="own", max_retries=1).max_attempts == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_attempt": 3}, UnknownOption, "task task has no option 'max_attempt'; did you mean "
         "'max_attempts'"),
        ({"tag": ["x"]}, UnknownOption, "did you mean 'tags'"),
        ({"uniqe": True}, UnknownOption, "did you mean 'unique'"),
        ({"back_off": 3}, UnknownOption, "did you mean 'backoff'"),
        ({"ack_late": True}, UnknownOption, "did you mean 'acks_late'"),
        ({"autoretryfor": (OSError,)}, UnknownOption, "did you mean 'autoretry_for'"),
        ({"max_attempts": 0}, InvalidOption, "task task: max_attempts must be a whole number"),
        ({"max_attempts": -1}, InvalidOption, "from 1 on"),
        ({"max_attempts": True}, InvalidOption, "not True"),
        ({"max_attempts": 2.5}, InvalidOption, "not 2.5"),
        ({"max_attempts": 2**31}, InvalidOption, "not 2147483648"),
        ({"max_retries": -1}, InvalidOption, "max_retries must be"),
        ({"max_attempts": 3, "max_retries": 3}, InvalidOption, "contradict each other"),
        ({"tags": "mail"}, InvalidOption, "tags must be a list of texts, not 'mail'"),
        ({"tags": ["a", " "]}, InvalidOption, "a tag must not be empty"),
        ({"tags": [None]}, InvalidOption, "a tag must be a text"),
        ({"tags": ["x" * 256]}, InvalidOption, "255 characters, not 256"),
        ({"tags": ["a\x00"]}, InvalidOption, "NUL"),
        ({"tags": [str(n) for n in range(101)]}, InvalidOption, "100 tags, not 101"),
        ({"meta": ["a"]}, InvalidOption, "meta must be a mapping"),
        ({"meta": {"at": datetime(2026, 1, 1)}}, InvalidOption, "cannot be written as JSON"),
        ({"meta": {"x": float("nan")}}, InvalidOption, "cannot be written as JSON"),
        ({"meta": {"x": ["\x00"]}}, InvalidOption, "NUL"),
        ({"meta": {"x": "\ud800"}}, InvalidOption, "valid Unicode"),
        ({"unique": 60}, InvalidOption, "unique must be a Unique"),
        ({"backoff": 3}, InvalidOption, "backoff must be a function of the task and"),
        ({"throws": "KeyError"}, InvalidOption, "task task: throws must be a tuple of exception"),
        ({"throws": (KeyError, 1)}, InvalidOption, "throws must be a tuple of exception classes"),
        ({"autoretry_for": OSError}, InvalidOption, "autoretry_for must be a tuple of exception"),
        ({"autoretry_for": "OSError"}, InvalidOption, "not 'OSError'"),
        ({"dont_autoretry_for": [None]}, InvalidOption, "dont_autoretry_for must be a tuple"),
        ({"retry_kwargs": 5}, InvalidOption, "task task: retry_kwargs must be a mapping, not 5"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_where_the_task_is_defined(
    app: Celery, options: Options, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        make_task(app, **options)


def test_an_annotation_goes_before_what_the_task_says(app: Celery):
    app.conf.task_annotations = {"*": {"max_attempts": 3}}
    assert make_task(app, max_retries=9).max_attempts == 3
    assert make_task(app, name="ours", max_attempts=9).max_retries == 2
    # It asks again and again: chords would break.
    assert app.tasks["celery.chord_unlock"].max_attempts == MOST_ATTEMPTS
    assert app.tasks["celery.backend_cleanup"].max_attempts == 20


def test_a_slip_in_an_annotation_is_refused_as_one_in_the_task(app: Celery):
    app.conf.task_annotations = {"task": {"max_attempt": 3}}
    with pytest.raises(UnknownOption, match="task task has no option 'max_attempt'; did you mean"):
        make_task(app)


def test_exceptions_may_be_in_a_list(app: Celery):
    task = make_task(app, throws=[KeyError], autoretry_for=[OSError])
    assert task.throws == (KeyError, Discard)


def test_an_annotation_may_be_in_celerys_words_and_have_meta(app: Celery):
    app.conf.task_annotations = {"task": {"max_retries": 7, "meta": {"k": 2}}}
    task = make_task(app, max_attempts=4, meta={"k": 1})
    assert row_header(task) == {"max_attempts": 8, "meta": {"k": 2}}
    assert dict(task.meta) == {}


def test_an_option_of_the_applications_own_is_its_business(app: Celery):
    task = make_task(app, team="mail", retriable=True, tagged_by="me", priorities=[1])
    assert (task.team, task.retriable, task.tagged_by) == ("mail", True, "me")


def test_a_class_is_looked_at_as_a_decorator_is(app: Celery):
    with pytest.raises(UnknownOption, match=r"test_task\.\S+Mail has no option 'max_attempt'"):

        class Mail(PgTask):
            max_attempt = 3

    class Good(PgTask):
        name = "good"
        tags = ["A"]
        meta = {"k": 1}

        def run(self, x: int) -> int:
            return x

    task = app.register_task(Good())
    assert task(3) == 3
    assert task.tags == ("a",)
    assert row_header(task) == {"max_attempts": 20, "tags": ["a"], "meta": {"k": 1}}


def row_header(task: Any) -> Any:
    return dict(task._header)


def test_shared_tasks_and_tasks_of_another_base_stay_what_they_are(app: Celery):
    plain = make_task(app, base=Task, name="plain")
    assert not isinstance(plain, PgTask)
    assert plain.max_retries == 3

    @shared_task(name="shared", max_attempts=4)
    def shared() -> None: ...

    app.finalize()
    assert app.tasks["shared"].max_attempts == 4


def test_the_body_keeps_its_name_its_text_and_its_signature(app: Celery):
    @app.task(bind=True, name="bound", shared=False)
    def bound(self: Any, a: int, *, b: int = 2) -> None:
        """Says."""

    task = make_task(app, autoretry_for=(OSError,))
    assert bound.__doc__ == "Says."
    assert str(inspect.signature(bound.run)) == "(a: 'int', *, b: 'int' = 2) -> 'None'"
    assert list(inspect.signature(task.run).parameters) == ["x", "y"]


def test_celerys_autoretry_leaves_a_pgtask_alone(app: Celery):
    """It wraps what has no ``_orig_run``: should that change, failures would be counted twice."""
    task = make_task(app, autoretry_for=(OSError,))
    before = task.run
    add_autoretry_behaviour(task, autoretry_for=(OSError,))
    assert task.run == before
    assert "run" not in vars(task)


# What is published


def test_the_options_are_in_the_row_and_in_the_message(app: Celery, connection: Connection):
    task = make_task(app, max_attempts=5, tags=["A", "b "], meta={"team": 1, "k": 0})
    result = task.apply_async((1,), tags=["C", "a"], meta={"k": 2}, max_attempts=6)
    found = row(connection, result.id)
    assert found["max_attempts"] == 6
    assert found["tags"] == ["a", "b", "c"]
    assert found["meta"] == {"team": 1, "k": 2}
    assert json.loads(found["message"])["headers"]["pgjobs"] == {
        "max_attempts": 6,
        "tags": ["a", "b", "c"],
        "meta": {"team": 1, "k": 2},
    }
    assert isinstance(result, PgResult)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_attempt": 3}, UnknownOption, "did you mean 'max_attempts'"),
        ({"tag": ["x"]}, UnknownOption, "did you mean 'tags'"),
        ({"max_attempts": 0}, InvalidOption, "from 1 on"),
        ({"tags": [""]}, InvalidOption, "empty"),
        ({"tags": "mail"}, InvalidOption, "must be a list"),
        ({"max_retries": -1}, InvalidOption, "max_retries must be"),
        ({"max_attempts": 3, "max_retries": 3}, InvalidOption, "contradict each other"),
        ({"meta": {"x": object()}}, InvalidOption, "cannot be written as JSON"),
    ],
)
def test_a_call_that_means_nothing_is_refused_and_nothing_is_published(
    app: Celery, connection: Connection, options: Options, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        make_task(app).apply_async((1,), **options)
    with pytest.raises(error, match=message):
        make_task(app).s(1).set(**options).delay()
    assert states(connection) == {}


def test_a_call_may_say_attempts_in_celerys_words(app: Celery, connection: Connection):
    result = make_task(app).apply_async((1,), max_retries=2)
    assert row(connection, result.id)["max_attempts"] == 3


def test_stamps_and_options_of_celery_are_no_slips(app: Celery, connection: Connection):
    task = make_task(app)
    task.apply_async((1,), stamped_headers=["tag"], tag="x", eta=None, countdown=5, expires=60)
    assert list(states(connection).values()) == ["scheduled"]


def test_a_name_may_be_sent_with_options(app: Celery, connection: Connection):
    result = app.send_task("unknown", (1,), tags=["B"], max_attempts=3, meta={"k": 1})
    found = row(connection, result.id)
    assert (found["tags"], found["max_attempts"], found["meta"]) == (["b"], 3, {"k": 1})
    for options in ({"tags": [""]}, {"max_attempts": "many"}, {"meta": 3}):
        with pytest.raises(MessageRefused):
            app.send_task("unknown", (1,), **options)
    with pytest.raises(MessageRefused, match="must be a mapping"):
        app.send_task("unknown", (1,), headers={"pgjobs": [1]})
    assert len(states(connection)) == 1


# Run here


def test_called_directly_a_task_is_its_body(app: Celery):
    @app.task(bind=True, name="direct", shared=False)
    def direct(self: Any, error: BaseException | None = None) -> Any:
        if error is not None:
            raise error
        return self.is_cancelled(), dict(self.meta), self.request.attempt

    assert direct() == (False, {}, 1)
    for error in (ValueError("x"), Snooze(3), Cancel("why"), Discard("why")):
        with pytest.raises(type(error)):
            direct(error)
    with pytest.raises(KeyError):
        direct.run(KeyError("x"))


def test_eager_a_failure_is_one_at_once(app: Celery):
    app.conf.update(task_always_eager=True, accept_content=["pickle", "json"])

    @app.task(bind=True, name="eager", meta={"k": 1}, shared=False, serializer="pickle")
    def eager(self: Any, error: BaseException | None = None) -> Any:
        if error is not None:
            raise error
        self.meta["x"] = 2
        return dict(self.meta), self.request.attempt, self.request.max_attempts

    assert eager.delay().get() == ({"k": 1, "x": 2}, 1, 20)
    assert eager.delay(ValueError("x")).state == "FAILURE"
    assert eager.apply((ValueError("x"),)).state == "FAILURE"


def test_with_another_broker_a_task_is_published_as_ever():
    app = Celery("memory", broker="memory://", set_as_current=False)
    app.task_cls = PgTask
    result = make_task(app, tags=["x"]).apply_async((1,), countdown=1, queue="of its own")
    assert result.id
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("of its own").get(timeout=1)
        assert message.headers["pgjobs"] == {"max_attempts": 20, "tags": ["x"]}


# Rules


def test_backoff_is_obans():
    random.seed(1)
    for attempt, seconds in ((1, 17), (2, 19), (3, 23), (10, 1039), (20, 1048591)):
        waits = [oban_backoff(attempt, 20) for _ in range(100)]
        assert seconds <= min(waits) < seconds * 1.01
        assert seconds * 1.09 < max(waits) <= seconds * 1.1
    # Scaled to 20 where more attempts are allowed.
    assert oban_backoff(50, 100) < (15 + 2**10) * 1.1
    assert oban_backoff(MOST_ATTEMPTS, MOST_ATTEMPTS) < (15 + 2**20) * 1.1


@given(st.lists(st.text(min_size=1, max_size=20)))
def test_normal_tags_stay_as_they_are(tags: list[str]):
    try:
        normal = normalise_tags(tags)
    except InvalidOption:
        return
    assert normalise_tags(normal) == normal
    assert len(set(normal)) == len(normal)
    assert all(tag == tag.strip().lower() and tag for tag in normal)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_what_is_accepted_as_json_comes_back(value: Any):
    try:
        text = encode_json({"value": value}, "meta")
    except InvalidOption:
        return
    assert json.loads(text) == {"value": value}


def test_a_delay_may_be_said_in_several_ways():
    now = datetime.now(timezone.utc)
    assert seconds_from_now(30, "x") == 30.0
    assert seconds_from_now(timedelta(minutes=1), "x") == 60.0
    assert 59 < seconds_from_now(now + timedelta(minutes=1), "x") <= 60
    assert seconds_from_now(now - timedelta(minutes=1), "x") == 0.0
    assert seconds_from_now(10.0**12, "x") == LONGEST_DELAY
    for when in (-1, float("nan"), float("inf"), "30", None, True, datetime(2026, 1, 1)):
        with pytest.raises(InvalidOption, match="x needs"):
            seconds_from_now(when, "x")
