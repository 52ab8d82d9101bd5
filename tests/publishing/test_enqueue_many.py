"""``enqueue_many()``: a task for each of many items, written together, a few at a time."""

# ruff: noqa: PT012  # what a block does when it raises is what is tested

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import celery
import hypothesis
import kombu
import psycopg
import pytest
from celery import Celery, Task, group, signals
from celery.local import Proxy
from celery.utils.saferepr import saferepr
from hypothesis import strategies as st
from kombu import Exchange, Queue

from pgjobs_celery import PgTask, Unique, bulk, enqueue_many, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import InvalidOption, MessageRefused, NotAllPublished, UnknownOption
from pgjobs_celery.publishing import fast_producer, fast_sender
from pgjobs_celery.publishing.replacement import MARKING, mark_steps
from pgjobs_celery.publishing.template import represent

from ..conftest import Connection
from ..support.built import celerys_own, note_built
from ..support.consumers import get_rows


class Shadowed(Task):
    """A base class that has its own idea of publishing."""

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        options["headers"] = {**(options.get("headers") or {}), "base": "was here"}
        return super().apply_async(args, kwargs, **options)

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
        return f"add of {args}"


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    """An app in which nothing but its arguments decides about a message."""
    return with_tasks(make_app, {"pgtask": "mail"})


@pytest.fixture
def routed(make_app: Callable[..., Celery]) -> Celery:
    """An app in which the arguments decide about the queue."""
    return with_tasks(
        make_app,
        [lambda name, args, *_, **__: {"queue": "mail"} if args == (7,) else None],
    )


def with_tasks(make_app: Callable[..., Celery], routes: Any) -> Celery:
    topic = Exchange("topic", type="topic")
    queues = [Queue("celery"), Queue("mail"), Queue("special", topic, routing_key="#.special")]
    app = make_app(
        task_queues=queues,
        task_routes=routes,
        task_annotations={"annotated": {"priority": 5}},
    )

    def add(x: int, y: int = 0) -> int:
        return x + y

    app.task(name="add", shared=False)(add)
    app.task(name="annotated", shared=False, ignore_result=True, serializer="pickle")(add)
    app.task(name="shadowed", shared=False, base=Shadowed)(add)
    app.task(name="pgtask", shared=False, base=PgTask, tags=["math"], max_attempts=3)(add)
    app.task(name="unique", shared=False, base=PgTask, unique=Unique(period=None))(add)
    return app


@pytest.fixture
def add(app: Celery) -> Any:
    return app.tasks["add"]


def arguments(connection: Connection) -> list[Any]:
    """The arguments of all jobs, in their order in line."""
    return [json.loads(bytes(row["body"]))[:2] for row in get_rows(connection)]


def test_an_item_is_arguments_or_a_signature(app: Celery, add: Any, connection: Connection):
    items = [
        (1,), [2, 3], {"x": 4}, add.s(5, y=6).set(priority=9, task_id="five"), (),
        app.tasks["annotated"].si(7, 8).set(serializer="json"),
        group(add.s(9), add.s(10)),
    ]  # fmt: skip
    app.tasks["add"].typing = False
    assert enqueue_many(add, items, queue="mail", priority=3) == 8
    rows = get_rows(connection)
    assert [json.loads(row["body"])[:2] for row in rows] == [
        [[1], {}], [[2, 3], {}], [[], {"x": 4}], [[5], {"y": 6}], [[], {}], [[7, 8], {}],
        [[9], {}], [[10], {}],
    ]  # fmt: skip
    assert [row["priority"] for row in rows] == [3, 3, 3, 9, 3, 3, 3, 3]
    assert {row["queue"] for row in rows} == {"mail"}
    assert rows[3]["task_id"] == "five"


@pytest.mark.parametrize("name", ["add", "shadowed", "pgtask", "unique"])
def test_a_shared_task_is_the_one_of_its_app(name: str, app: Celery, connection: Connection):
    shared = Proxy(lambda: app.tasks[name])  # what shared_task makes
    assert enqueue_many(shared, [(1,), shared.s(2)]) == 2
    assert arguments(connection) == [[[1], {}], [[2], {}]]


def test_what_is_no_item_is_refused(add: Any, connection: Connection):
    for item in ("text", 5, None):
        with pytest.raises(NotAllPublished, match="tuple or list of arguments") as caught:
            enqueue_many(add, [(1,), item])
        assert isinstance(caught.value.__cause__, InvalidOption)
    for options in ({"task_id": "a"}, {"size": 0}, {"args": ()}):
        with pytest.raises(InvalidOption):
            enqueue_many(add, [(1,)], **options)
    assert get_rows(connection) == []


def test_a_few_at_a_time_are_in_memory(add: Any, connection: Connection):
    alive = most = 0

    class Item(list[int]):
        def __init__(self, index: int) -> None:
            nonlocal alive, most
            super().__init__([index])
            alive += 1
            most = max(alive, most)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    told: list[int] = []
    items = (Item(index) for index in range(1050))
    assert enqueue_many(add, items, size=100, on_batch=told.append) == 1050
    assert told == [100] * 10 + [50]
    assert most <= 201
    assert [args for args, _ in arguments(connection)] == [[index] for index in range(1050)]


def test_what_was_published_before_an_error_is_said_and_stays(add: Any, connection: Connection):
    def items() -> Iterator[tuple[int]]:
        for index in range(25):
            yield (index,)
        raise ZeroDivisionError("no more")

    with pytest.raises(NotAllPublished, match=r"first 25 items 20 jobs .*no more") as caught:
        enqueue_many(add, items(), size=10)
    assert caught.value.published == len(get_rows(connection)) == 20
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_is_written_meanwhile_may_fail_and_is_told(add: Any, connection: Connection):
    asked: list[int] = []

    def items() -> Iterator[Any]:
        for index in range(100):
            asked.append(index)
            yield add.s(index).set(group_id="g", group_index=2**40 if index == 15 else index)

    with pytest.raises(NotAllPublished, match="number 6 of 10") as caught:
        enqueue_many(add, items(), size=10)
    assert caught.value.published == len(get_rows(connection)) == 10
    assert len(asked) <= 40  # nothing more is asked for than what was being made


def test_an_item_that_cannot_be_stored_is_named_and_none_of_its_batch_is_there(
    add: Any, connection: Connection
):
    items = [add.s(index) for index in range(25)]
    items[14].set(group_id="g", group_index=2**40)
    with pytest.raises(NotAllPublished, match="number 5 of 10") as caught:
        enqueue_many(add, items, size=10)
    assert isinstance(caught.value.__cause__, MessageRefused)
    assert caught.value.published == len(get_rows(connection)) == 10


def test_the_iterable_may_publish_too(add: Any, connection: Connection):
    def items() -> Iterator[tuple[int]]:
        yield (1,)
        add.delay(99)
        assert len(get_rows(connection)) == 1  # at once
        yield (2,)

    assert enqueue_many(add, items()) == 2
    assert [args for args, _ in arguments(connection)] == [[99], [1], [2]]


def test_of_unique_jobs_duplicates_are_not_counted_and_leave_no_row(
    app: Celery, connection: Connection
):
    unique = app.tasks["unique"]
    unique.delay(0)
    assert unique.enqueue_many(((index % 5,) for index in range(20)), size=8) == 4
    assert sorted(args for args, _ in arguments(connection)) == [[0], [1], [2], [3], [4]]


def test_it_is_part_of_the_callers_transaction(add: Any, url: str, connection: Connection):
    with psycopg.connect(parse_url(url)) as mine:
        with pytest.raises(ZeroDivisionError), mine.transaction(), using(mine):
            assert enqueue_many(add, [(1,), (2,)], size=1) == 2
            raise ZeroDivisionError
        assert get_rows(connection) == []

        def items() -> Iterator[tuple[int]]:
            with mine.transaction():  # as for a cursor of its own
                yield (3,)
                yield (4,)

        with mine.transaction(), using(mine):
            assert enqueue_many(add, items(), size=1) == 2
            assert get_rows(connection) == []
    assert [args for args, _ in arguments(connection)] == [[3], [4]]


def test_it_is_part_of_a_block_around_it(add: Any, connection: Connection):
    with bulk():
        add.delay(1)
        assert enqueue_many(add, [(2,), (3,)], size=1) == 2
        add.delay(4)
        assert get_rows(connection) == []
    assert [args for args, _ in arguments(connection)] == [[1], [2], [3], [4]]


#: In seconds.
YEAR = 365 * 86_400.0


def normal(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what two jobs cannot have in common."""
    row = {**row, "message": json.loads(row["message"].replace(row["task_id"], "its id"))}
    for name in ("due_at", "expires_at"):  # a countdown goes on until the row is inserted
        wait = row[name] and (row[name] - row["inserted_at"]).total_seconds()
        if not wait or wait < YEAR:  # else it was given as a time, and is the same for all
            row[name] = wait and round(max(-100.0, wait + 5) / 20)
    for name in ("id", "seq", "task_id", "inserted_at", "scheduled_at", "root_id", "unique_key"):
        del row[name]
    for name in ("eta", "expires"):
        moment = row["message"]["headers"].get(name)
        row["message"]["headers"][name] = moment and moment[:10]
    return row


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "countdown": {"countdown": 5000},
    "countdown and expiry": {"countdown": 5000, "expires": 90000},
    "eta": {"eta": datetime(2100, 1, 1, tzinfo=timezone.utc)},
    "a past expiry": {"expires": datetime(2000, 1, 1, tzinfo=timezone.utc)},
    "a serializer": {"serializer": "pickle"},
    "compression": {"compression": "zlib"},
    "a queue": {"queue": "mail", "priority": 2},
    "a queue that is an object": {"queue": Queue("other", Exchange("other"), routing_key="o")},
    "an exchange": {"exchange": "topic", "routing_key": "very.special"},
    "a bound queue": {"queue": "special"},
    "headers": {"headers": {"mine": 1}},
    "stamps": {"stamped_headers": ["who"], "who": "me"},
    "links": {"link": [], "link_error": None, "shadow": "other", "reply_to": "me"},
    "limits": {"time_limit": 10, "soft_time_limit": 5, "retries": 2, "ignore_result": True},
    "reprs": {"argsrepr": "(secret)", "kwargsrepr": "{}", "replaced_task_nesting": 1},
    "properties": {"delivery_mode": 1, "message_id": "m", "app_id": "a", "expiration": 50.0},
    "relations": {"group_id": "g", "group_index": 1, "parent_id": "p", "chord": None},
    "of publishing": {"retry": False, "retry_policy": {"max_retries": 1}, "mandatory": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["add", "annotated", "shadowed", "pgtask"])
def test_the_rows_are_those_of_apply_async(
    routed: Celery, connection: Connection, name: str, options: dict[str, Any]
):
    task = routed.tasks[name]
    with routed.connection() as broker:
        routed.amqp.queues["special"](broker.default_channel).declare()
    with celerys_own(routed) as own:
        for x in (1, 7):
            options = {**options}
            task.apply_async((x,), **options, **own)
    assert enqueue_many(task, [(1,), (7,)], **options) == 2
    rows = [normal(row) for row in get_rows(connection)]
    assert len(rows) == 4
    assert rows[:2] == rows[2:]


#: Arguments of all sorts; the first of a call is built as any, and the others after it.
ITEMS: list[Any] = [
    (1,), (2, 3), [4, 5], {"x": 6}, {"x": "it's", "y": [1, {"z": None}]}, (True, None), (-1.5,),
    ("it's \"quoted\" \\ \n \x00 é €",), ([1, (2, {"deep": [3, [4, [5]]]})],), ("long" * 400,),
    (2**70, float("inf")), ((),),
]  # fmt: skip


@pytest.mark.parametrize("name", ["add", "annotated", "pgtask"])
def test_the_rows_are_those_of_apply_async_whatever_the_arguments(
    app: Celery, connection: Connection, name: str
):
    task = app.tasks[name]
    with app.connection() as broker:
        app.amqp.queues["special"](broker.default_channel).declare()
    for what, options in OPTIONS.items():
        connection.execute("DELETE FROM pgjobs.jobs")
        with celerys_own(app) as own:
            for item in ITEMS:
                args, kwargs = ((), item) if isinstance(item, dict) else (item, {})
                task.apply_async(args, kwargs, **options, **own)
        assert enqueue_many(task, ITEMS, **options) == len(ITEMS)
        rows = [normal(row) for row in get_rows(connection)]
        assert rows[: len(ITEMS)] == rows[len(ITEMS) :], what


@pytest.mark.parametrize("name", ["add", "pgtask", "unique", "shadowed"])
def test_signatures_are_published_as_they_publish_themselves(
    app: Celery, connection: Connection, name: str
):
    task, other = app.tasks[name], app.tasks["annotated"]
    items = [
        task.s(1), task.s(2, y=3), task.si(4), task.s(x=5), task.s(6).set(priority=4),
        task.s(7).on_error(other.si(0)), other.s(8), celery.signature(json.loads(
            json.dumps(task.s(9))), app=app), group(task.s(10), other.s(11)),
    ]  # fmt: skip
    for options in ({}, {"queue": "mail"}, {"queue": None, "priority": 3}):
        connection.execute("DELETE FROM pgjobs.jobs")
        for item in items:
            item.apply_async(**{k: v for k, v in options.items() if k not in item.options})
        rows = [normal(row) for row in get_rows(connection)]
        connection.execute("DELETE FROM pgjobs.jobs")
        assert enqueue_many(task, items, **options) == 10
        assert [ungrouped(normal(row)) for row in get_rows(connection)] == list(
            map(ungrouped, rows)
        )


def ungrouped(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the id of its group, which is new each time."""
    row["message"]["headers"].pop("group", None)
    return {**row, "group_id": bool(row["group_id"])}


def test_only_the_first_two_of_those_alike_are_built(
    app: Celery,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    real = app.amqp.send_task_message
    built, send_task_message = note_built(app, monkeypatch)
    request.addfinalizer(lambda: signals.before_task_publish.disconnect(dispatch_uid=MARKING))
    signals.before_task_publish.connect(mark_steps, dispatch_uid=MARKING)  # as a worker does
    for name in ("add", "annotated", "pgtask"):
        assert enqueue_many(app.tasks[name], [(index,) for index in range(10)]) == 10
        with bulk():
            assert enqueue_many(app.tasks[name], [(index,) for index in range(5)]) == 5
        assert built == [name] * 4
        assert enqueue_many(app.tasks[name], map(app.tasks[name].s, range(5))) == 5
        assert built == [name] * 6
        built.clear()
    assert len({row["task_id"] for row in get_rows(connection)}) == 60

    send_task_message.__wrapped__ = real
    assert enqueue_many(app.tasks["add"], [(index,) for index in range(10)]) == 10
    assert len(built) == 10  # a library's, which may do anything


def test_a_listener_is_told_of_each_from_when_it_is_connected(app: Celery, connection: Connection):
    def before(headers: Any, body: Any, **_: Any) -> None:
        headers["traced"] = body[0][0]

    def items() -> Iterator[tuple[int]]:
        yield from ((index,) for index in range(4))
        # Before Celery 5.7 an app hears of no receiver that is connected after a weak one has died.
        signals.before_task_publish.connect(before, weak=False)
        yield from ((index,) for index in range(4, 6))
        signals.before_task_publish.disconnect(before)
        yield (6,)

    assert enqueue_many(app.tasks["add"], items()) == 7
    headers = [json.loads(row["message"])["headers"] for row in get_rows(connection)]
    assert [each.get("traced") for each in headers] == [None] * 4 + [4, 5, None]


SIMPLE = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.none(), st.text(), st.binary(), st.decimals()
)


@hypothesis.example({}, 1)
@hypothesis.example({}, 2)
@hypothesis.example((), 2)
@hypothesis.given(
    st.one_of(
        st.lists(SIMPLE).map(tuple),
        st.dictionaries(st.text(), SIMPLE),
        st.lists(st.one_of(SIMPLE, st.lists(SIMPLE), st.text(min_size=200))).map(tuple),
    ),
    st.integers(1, 300),
)
def test_arguments_are_shown_as_celery_shows_them(value: Any, limit: int):
    assert represent(value, limit) == saferepr(value, limit)


@pytest.mark.parametrize("where", ["task", "app", "library", "expiry", "unique", "option"])
def test_who_publishes_in_his_own_way_is_asked_for_each(
    make_app: Callable[..., Celery],
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
):
    calls: list[Any] = []
    real = Task.apply_async

    def apply_async(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(args)
        return real(self, *args, **options)

    app = make_app()
    base: Any = PgTask if where == "unique" else None
    settings: dict[str, Any] = {"unique": True} if where == "unique" else {}
    if where == "task":
        base = type("Own", (Task,), {"apply_async": apply_async, "abstract": True})
    elif where == "expiry":
        settings["expires"] = 60
    if where in ("library", "expiry", "unique", "option"):
        if where == "library":
            apply_async.__wrapped__ = real  # type: ignore[attr-defined]
        apply_async.__module__ = Task.__module__ if where != "library" else __name__
        monkeypatch.setattr(Task, "apply_async", apply_async)

    @app.task(name="add", shared=False, **settings, **({"base": base} if base else {}))
    def add(x: int) -> None: ...

    if where == "app":
        send = app.send_task

        def send_task(*args: Any, **options: Any) -> Any:
            calls.append(args)
            return send(*args, **options)

        app.send_task = send_task
    options = {"expires": 5} if where == "option" else {}
    assert enqueue_many(add, [(1,), (2,)], **options) == 2
    assert len(calls) == len(get_rows(connection)) == 2


def test_else_it_is_not(app: Celery, connection: Connection, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("is asked")

    monkeypatch.setattr(app, "AsyncResult", refuse)
    assert enqueue_many(app.tasks["add"], [(1,), {"x": 2}], queue="mail", priority=3) == 2
    assert app.tasks["pgtask"].enqueue_many([(1,), (2,)], tags=["more"], serializer="pickle") == 2
    assert [row["tags"] for row in get_rows(connection)] == [[], [], *[["math", "more"]] * 2]
    with pytest.raises(NotAllPublished, match="missing 1 required"):
        enqueue_many(app.tasks["add"], [()])


def test_signals_and_events_are_sent(app: Celery, add: Any, connection: Connection):
    heard: list[Any] = []

    def before(sender: Any, headers: Any, body: Any, **_: Any) -> None:
        headers["traced"] = body[0][0]

    def after(sender: Any, headers: Any, **_: Any) -> None:
        heard.append((sender, headers["traced"]))

    signals.before_task_publish.connect(before, weak=False)
    signals.after_task_publish.connect(after, weak=False)
    try:
        assert enqueue_many(add, [(1,), (2,)]) == 2
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert heard == [("add", 1), ("add", 2)]
    headers = [json.loads(row["message"])["headers"] for row in get_rows(connection)]
    assert [each["traced"] for each in headers] == [1, 2]

    app.conf.task_send_sent_event = True
    app.amqp.__dict__.pop("send_task_message", None)
    sent: list[Any] = []
    with app.connection() as broker:
        receiver = app.events.Receiver(broker, handlers={"task-sent": sent.append})
        with kombu.Consumer(broker, [receiver.queue], callbacks=[receiver._receive], no_ack=True):
            assert enqueue_many(add, [(3,), (4,)]) == 2
            while len(sent) < 2:
                broker.drain_events(timeout=5)
    assert [each["args"] for each in sent] == ["(3,)", "(4,)"]


def test_who_has_wrapped_kombus_method_is_called(add: Any, monkeypatch: pytest.MonkeyPatch):
    calls: list[Any] = []
    real = kombu.Producer.publish

    def publish(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(options["headers"]["id"])
        return real(self, *args, **options)

    publish.__wrapped__ = real  # type: ignore[attr-defined]
    monkeypatch.setattr(kombu.Producer, "publish", publish)
    assert enqueue_many(add, [(1,), (2,)]) == 2
    assert len(calls) == 2


def test_a_release_of_celery_that_is_not_known_is_logged_once(
    add: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    fast_sender._warn_once.cache_clear()
    monkeypatch.setattr(fast_sender, "KNOWN", {(5, 4)})
    for _ in range(2):
        assert enqueue_many(add, [(1,), (2,)]) == 2
    (line,) = [each for each in caplog.messages if "enqueue_many() calls apply_async()" in each]
    assert f"Celery {celery.__version__}" in line


def test_a_release_of_kombu_that_is_not_known_is_logged_once(
    add: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    fast_producer._warn_once.cache_clear()
    real, calls = kombu.Producer.publish, []

    def publish(self: Any, body: Any, *, colour: str = "", **properties: Any) -> Any:
        calls.append(colour)
        return real(self, body, **properties)

    monkeypatch.setattr(kombu.Producer, "publish", publish)
    producer = kombu.Connection("memory://").Producer()
    for _ in range(2):
        fast_producer.Collector(producer).publish({}, exchange="", routing_key="nowhere")
    (line,) = [each for each in caplog.messages if "bulk() and using() publish" in each]
    assert f"kombu {kombu.__version__}" in line
    assert "(colour)" in line
    assert calls == ["", ""]


def test_options_that_do_not_exist_are_refused(app: Celery):
    with pytest.raises(NotAllPublished, match="max_attempts") as caught:
        app.tasks["pgtask"].enqueue_many([(1,)], max_atempts=3)
    assert isinstance(caught.value.__cause__, UnknownOption)


def test_it_works_with_another_broker_and_eagerly(add: Any, app: Celery, connection: Connection):
    other = Celery("other", broker="memory://", backend="cache+memory://", set_as_current=False)
    other.conf.task_default_queue = "many"  # kombu's memory is one for all
    ran: list[int] = []

    @other.task(name="task", shared=False)
    def task(x: int) -> None:
        ran.append(x)

    told: list[int] = []
    assert enqueue_many(task, [(1,), (2,), (3,)], size=2, on_batch=told.append) == 3
    assert told == [2, 1]
    with other.connection() as broker:
        assert broker.SimpleQueue("many").qsize() == 3
    other.conf.task_always_eager = True
    assert enqueue_many(task, [(4,), (5,)]) == 2
    assert ran == [4, 5]
    assert get_rows(connection) == []
