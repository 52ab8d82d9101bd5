"""A message keeps the properties that AMQP does not know, as on Redis: software relies on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import kombu
import psycopg
import pytest
from celery import Celery, chain, chord, group
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery import PgTask, bulk, enqueue_many, using
from pgjobs_celery.beat.scheduler import PgScheduler
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.job.envelope import decode_envelope, encode_envelope
from pgjobs_celery.job.properties import PROPERTIES, _warn_left_out

from ..conftest import Connection
from ..support.consumers import consuming, drain, get_rows, publish_task

MINE = {"my_user_id": "42", "my_branch": {"name": "main", "tags": ["a", None, 1.5]}}


@pytest.fixture(params=["Task", "PgTask"])
def add(request: pytest.FixtureRequest, make_app: Callable[..., Celery]) -> Any:
    app = make_app()
    base = {"base": PgTask} if request.param == "PgTask" else {}

    @app.task(name="add", shared=False, **base)
    def add(x: int, y: int = 0) -> int:
        return x + y

    @app.task(name="total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return add


@pytest.fixture
def mine(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(parse_url(url)) as mine:
        yield mine


def publish_by_call(add: Any, mine: Any) -> None:
    add.apply_async((1,), **MINE)


def publish_by_name(add: Any, mine: Any) -> None:
    add.app.send_task("add", (1,), **MINE)


def publish_a_group(add: Any, mine: Any) -> None:
    group(add.s(1).set(**MINE), add.s(2).set(**MINE))()


def publish_a_header(add: Any, mine: Any) -> None:
    chord([add.s(1).set(**MINE)])(add.app.tasks["total"].s())


def publish_a_chain(add: Any, mine: Any) -> None:
    chain(add.s(1).set(**MINE), add.s(2).set(**MINE)).delay()


def publish_a_chain_with_options(add: Any, mine: Any) -> None:
    chain(add.s(1), add.s(2)).apply_async(**MINE)


def publish_in_bulk(add: Any, mine: Any) -> None:
    with bulk():
        add.apply_async((1,), **MINE)


def publish_many(add: Any, mine: Any) -> None:
    enqueue_many(add, [(1,), (2,)], **MINE)


def publish_in_a_transaction(add: Any, mine: Any) -> None:
    with using(mine):
        add.apply_async((1,), **MINE)
    mine.commit()


def publish_scheduled(add: Any, mine: Any) -> None:
    add.apply_async((1,), countdown=60, **MINE)


def publish_on_schedule(add: Any, mine: Any) -> None:
    app = add.app
    app.conf.beat_schedule = {
        "a": {"task": "add", "schedule": 86_400, "args": (1,), "options": MINE}
    }
    beat = PgScheduler(app)
    look(beat)
    mine.execute(
        "UPDATE pgjobs.schedules SET next_run_at = now() - interval '1 second',"
        " version = nextval('pgjobs.schedules_version')"
    )
    mine.commit()
    look(beat)


def look(beat: PgScheduler) -> None:
    beat._next_look = 0.0
    while beat.tick() == 0.0:
        pass


WAYS = [way for name, way in sorted(globals().items()) if name.startswith("publish_")]
WAYS.remove(publish_task)


@pytest.mark.parametrize("publish", WAYS, ids=lambda way: way.__name__)
def test_a_property_of_ones_own_is_kept_whichever_way_it_is_published(
    add: Any, mine: Any, connection: Connection, publish: Any
):
    publish(add, mine)
    rows = get_rows(connection)
    assert rows
    for row in rows:
        properties = json.loads(row["message"])["properties"]
        assert {name: properties.get(name) for name in MINE} == MINE


def test_a_consumer_gets_them_and_so_it_does_of_a_message_that_is_no_job(
    broker: kombu.Connection,
):
    with consuming(broker) as inbox:
        publish_task(broker, **MINE, my_time=datetime(2026, 1, 2, tzinfo=timezone.utc))
        broker.Producer().publish({}, routing_key="q", **MINE, my_id=UUID(int=5))
        drain(broker, inbox, 2)
    for message in inbox:
        assert {name: message.properties.get(name) for name in MINE} == MINE
    merged = {name: value for each in inbox for name, value in each.properties.items()}
    assert merged["my_time"] == datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert merged["my_id"] == UUID(int=5)


class Unwilling:
    def __json__(self) -> Any:
        raise RuntimeError("not me")


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    "value",
    [
        object(), Unwilling(), {(1, 2): 3}, RECURSIVE, lambda: None,
        {"__type__": "nobody's", "__value__": 1}, {"__type__": "uuid", "__value__": 1},
    ],
    ids=["object", "unwilling", "tuple as a key", "recursive", "function", "unknown", "false"],
)  # fmt: skip
def test_one_that_json_cannot_hold_is_left_out_with_one_warning_that_names_it(
    broker: kombu.Connection, caplog: pytest.LogCaptureFixture, value: Any
):
    _warn_left_out.cache_clear()
    with caplog.at_level(logging.WARNING), consuming(broker) as inbox:
        publish_task(broker, **MINE, my_thing=value)
        publish_task(broker, **MINE, my_thing=value)
        drain(broker, inbox, 2)
    assert all(message.properties["my_user_id"] == "42" for message in inbox)
    assert all("my_thing" not in message.properties for message in inbox)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "'my_thing'" in warning
    assert "argument of the task" in warning


def test_an_option_of_ours_that_json_cannot_hold_is_no_warning(
    make_app: Callable[..., Celery], connection: Connection, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        make_app().send_task("add", tags={"a"}, meta={"x": 1})
    (row,) = get_rows(connection)
    assert (row["tags"], row["meta"]) == (["a"], {"x": 1})
    assert not caplog.records


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists, max_leaves=4),
    )
)
def test_whatever_is_given_the_message_can_be_published_and_read(properties: dict[str, Any]):
    properties = {name: value for name, value in properties.items() if name not in PROPERTIES}
    message = {
        "content-type": "x",
        "content-encoding": "y",
        "headers": {},
        "properties": properties,
    }
    back = decode_envelope(encode_envelope(message, "", "q"), "q").properties
    assert back == properties
