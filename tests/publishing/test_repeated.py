"""In a block of ``bulk()`` the calls of a task that are alike are made after the first."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from celery import Celery, Task, _state, signals
from kombu import Exchange, Queue

from pgjobs_celery import PgTask, Rate, bulk, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.publishing import repeated
from pgjobs_celery.publishing.batch import Batch

from ..conftest import Connection
from ..support.built import celerys_own, note_built
from ..support.consumers import get_rows
from .test_enqueue_many import ITEMS, OPTIONS, Shadowed, normal
from .test_lanes import make_fair


def with_tasks(app: Celery) -> Celery:
    """An app with tasks of all kinds, and queues besides the default one."""
    topic = Exchange("topic", type="topic")
    special = Queue("special", topic, routing_key="#.special")
    app.conf.task_queues = [Queue("celery"), Queue("mail"), special]

    def add(x: int, y: int = 0) -> int:
        return x + y

    app.task(name="add", shared=False, base=PgTask, tags=["math"], max_attempts=3)(add)
    app.task(name="plain", shared=False)(add)
    app.task(name="plain silent", shared=False, ignore_result=True, serializer="pickle")(add)
    app.task(name="shadowed", shared=False, base=Shadowed)(add)
    app.task(name="rated", shared=False, base=PgTask, rate=Rate("9/m", by="x"))(add)
    app.task(name="silent", shared=False, base=PgTask, ignore_result=True, priority=4)(add)
    return app


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app())


@pytest.fixture(params=["add", "plain"])
def add(app: Celery, request: pytest.FixtureRequest) -> Any:
    return app.tasks[request.param]


@pytest.fixture
def built(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tasks whose messages Celery has built."""
    return note_built(app, monkeypatch)[0]


@contextmanager
def running(task: Any, **fields: Any) -> Iterator[Any]:
    """In this block a worker runs the task in this thread."""
    _state._task_stack.push(task)
    task.push_request(called_directly=False, is_eager=False, children=[], **fields)
    try:
        yield task.request
    finally:
        task.pop_request()
        _state._task_stack.pop()


def arguments(connection: Connection) -> list[Any]:
    return [json.loads(bytes(row["body"]))[0] for row in get_rows(connection)]


def assert_rows_are_celerys(
    app: Celery, connection: Connection, task: Any, block: Callable[[], AbstractContextManager[Any]]
) -> None:
    """What is published in such a block is what Celery itself publishes, option by option."""
    with app.connection() as broker:
        app.amqp.queues["special"](broker.default_channel).declare()
    calls = [((), item) if isinstance(item, dict) else (item, {}) for item in ITEMS]
    for what, options in OPTIONS.items():
        connection.execute("DELETE FROM pgjobs.jobs")
        with celerys_own(app) as own:
            by_celery = [task.apply_async(*call, **options, **own) for call in calls]
        with block():
            ours = [task.apply_async(*call, **options) for call in calls]
        rows = get_rows(connection)
        assert [row["task_id"] for row in rows] == [each.id for each in (*by_celery, *ours)], what
        assert [each.ignored for each in ours] == [each.ignored for each in by_celery], what
        assert {type(each) for each in ours} == {type(by_celery[0])}
        assert {each.backend for each in ours} == {by_celery[0].backend}
        found = [normal(row) for row in rows]
        assert found[: len(ITEMS)] == found[len(ITEMS) :], what


#: Tasks of each kind.
KINDS = ["add", "rated", "silent", "plain", "plain silent", "shadowed"]


@pytest.mark.parametrize("name", KINDS)
def test_the_rows_are_those_that_celery_publishes(app: Celery, connection: Connection, name: str):
    assert_rows_are_celerys(app, connection, app.tasks[name], bulk)


def test_those_that_differ_in_their_arguments_alone_are_not_built(
    app: Celery, add: Any, built: list[Any], connection: Connection
):
    with bulk():
        for index in range(5):
            add.delay(index)
            add.apply_async((index,), queue="mail")
            app.tasks["silent"].delay(index)
    assert len(built) == 9
    assert arguments(connection) == [[index] for index in range(5) for _ in range(3)]
    assert [row["queue"] for row in get_rows(connection)] == ["celery", "mail", "celery"] * 5

    built.clear()
    with bulk(size=5):
        for index in range(10):
            add.delay(index)
    assert len(built) == 6  # three for each that are written together


def test_what_a_call_says_for_itself_is_its_own(
    app: Celery, built: list[Any], connection: Connection
):
    add = app.tasks["add"]
    with bulk():
        for index in range(4):
            add.apply_async((index,), task_id=f"own-{index}")
            add.apply_async((index,), tags=[f"t{index}"])
            add.apply_async((index,), link=add.s())
            add.apply_async((index,), priority=index)
            add.apply_async((index,), time_limit=[1, 1.0, True, 1][index])
    assert len(built) == 20
    rows = get_rows(connection)
    assert [row["task_id"] for row in rows[::5]] == [f"own-{index}" for index in range(4)]
    assert [row["tags"] for row in rows[1::5]] == [["math", f"t{index}"] for index in range(4)]
    assert [row["priority"] for row in rows[3::5]] == [0, 1, 2, 3]


def test_they_are_children_of_the_run_that_publishes_them(
    app: Celery, add: Any, connection: Connection
):
    def publish() -> list[str]:
        return [add.delay(index).id for index in range(4)]

    with bulk():
        before = publish()
        with running(app.tasks["silent"], id="first", root_id="root") as first:
            of_first = publish()
        with running(app.tasks["silent"], id="second") as second:
            of_second = publish()
        after = publish()
    assert [each.id for each in first.children] == of_first
    assert [each.id for each in second.children] == of_second
    rows = {row["task_id"]: (row["parent_id"], row["root_id"]) for row in get_rows(connection)}
    assert {rows[each] for each in of_first} == {("first", "root")}
    assert {rows[each] for each in of_second} == {("second", "second")}
    assert [rows[each] for each in before + after] == [(None, each) for each in before + after]


def test_each_belongs_where_it_is_published(add: Any, url: str, connection: Connection):
    with psycopg.connect(parse_url(url)) as mine, bulk() as batch:
        for index in range(4):
            add.delay(index)
        with using(mine):
            for index in range(4, 8):
                add.delay(index)
        assert len(batch) == 4
        mine.rollback()
        for index in range(8, 12):
            add.delay(index)
    assert arguments(connection) == [[index] for index in (0, 1, 2, 3, 8, 9, 10, 11)]


def test_a_listener_is_told_of_each_from_when_it_is_connected(add: Any, connection: Connection):
    def before(headers: Any, body: Any, **_: Any) -> None:
        headers["traced"] = body[0][0]

    with bulk():
        for index in range(4):
            add.delay(index)
        signals.before_task_publish.connect(before, weak=False)
        try:
            add.delay(4)
        finally:
            signals.before_task_publish.disconnect(before)
        add.delay(5)
    headers = [json.loads(row["message"])["headers"] for row in get_rows(connection)]
    assert [each.get("traced") for each in headers] == [None] * 4 + [4, None]


def test_a_rule_that_is_new_counts_from_then_on(
    app: Celery, add: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_state._tls, "current_app", app)
    with bulk():
        for index in range(4):
            add.delay(index)
        make_fair(app, connection, "celery", "kwargs.x")
        for index in range(4, 8):
            add.delay(index)
    lanes = [row["lane"] for row in get_rows(connection)]
    assert lanes[:4] == [None] * 4
    assert None not in lanes[4:]
    assert len(set(lanes[4:])) == 4


def test_what_is_known_of_them_holds_for_a_while_only(
    add: Any, built: list[Any], connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """A block may last, and routes change meanwhile."""
    with bulk():
        for index in range(5):
            add.delay(index)
        assert len(built) == 3
        later = time.monotonic() + repeated.LIFETIME
        monkeypatch.setattr(repeated, "time", SimpleNamespace(monotonic=lambda: later))
        for index in range(5, 10):
            add.delay(index)
    assert arguments(connection) == [[index] for index in range(10)]
    assert len(built) == 6


def test_arguments_and_options_are_checked_each_time(add: Any, connection: Connection):
    with bulk():
        for index in range(4):
            add.delay(index)
        with pytest.raises(TypeError, match="missing 1 required"):
            add.delay()
        with pytest.raises(TypeError, match="list or tuple"):
            add.apply_async("a")
        if isinstance(add, PgTask):
            with pytest.raises(InvalidOption):
                add.apply_async((1,), max_attempts=0)
    assert arguments(connection) == [[0], [1], [2], [3]]


def test_an_app_that_runs_its_tasks_at_once_does_so(add: Any, app: Celery, connection: Connection):
    app.conf.task_always_eager = True
    with bulk():
        assert [add.delay(index, 1).get() for index in range(4)] == [1, 2, 3, 4]
    assert get_rows(connection) == []


@pytest.mark.parametrize("is_known", [True, False])
def test_a_library_that_has_replaced_celerys_method_is_asked_for_each(
    app: Celery, connection: Connection, monkeypatch: pytest.MonkeyPatch, is_known: bool
):
    calls: list[Any] = []
    # Celery's own: another test may have entered a block before.
    real = getattr(Task.apply_async, "replaces", Task.apply_async)

    def apply_async(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(self.name)
        return real(self, *args, **options)

    if is_known:
        functools.update_wrapper(apply_async, real)
    monkeypatch.setattr(Task, "apply_async", apply_async)
    with bulk():
        results = [app.tasks[name].delay(1) for name in ("add", "plain") for _ in range(4)]
    assert calls == ["add"] * 4 + ["plain"] * 4
    assert [row["task_id"] for row in get_rows(connection)] == [each.id for each in results]


def test_tasks_of_another_broker_are_published_there(connection: Connection):
    other = Celery("other", broker="memory://", set_as_current=False)
    other.conf.task_default_queue = "repeated"  # others of the process have left theirs in "celery"

    def nothing(x: int) -> None: ...

    plain = other.task(name="plain", shared=False)(nothing)
    mine = other.task(name="mine", shared=False, base=PgTask)(nothing)
    with bulk() as batch, other.connection() as broker:
        results = [task.delay(index) for index in range(4) for task in (plain, mine)]
        assert len(batch) == 0
        queue = broker.SimpleQueue("repeated")
        found = [queue.get(timeout=5).headers["id"] for _ in results]
    assert found == [each.id for each in results]


def test_a_batch_forgets_them_when_it_is_written(add: Any):
    with bulk() as batch:
        add.delay(1)
        assert isinstance(batch, Batch)
        assert len(batch.repeated) == 1
        batch.flush()
        assert not batch.repeated
