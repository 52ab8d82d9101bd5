"""What is published in a block of ``bulk()`` is written together."""

# ruff: noqa: PT012, SIM117  # what a block does when it raises is what is tested

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kombu
import psycopg
import pytest
from celery import Celery, chain, chord, group
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from psycopg import sql

from pgjobs_celery import adelay, bulk, using
from pgjobs_celery.db.database import get_database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.notify import work_channel
from pgjobs_celery.errors import InvalidOption, MessageRefused

from ..conftest import Connection
from ..support.consumers import get_rows
from ..support.proxies import Proxy


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="add", shared=False)
    def add(x: int, y: int = 0) -> int:
        return x + y

    @app.task(name="total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return app


@pytest.fixture
def add(app: Celery) -> Any:
    return app.tasks["add"]


@pytest.fixture
def mine(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the caller's own, not in autocommit."""
    with psycopg.connect(parse_url(url)) as mine:
        yield mine


def ids(connection: Connection) -> list[str]:
    """The ids of all jobs, in their order in line."""
    rows = connection.execute("SELECT task_id FROM pgjobs.jobs ORDER BY seq").fetchall()
    return [row["task_id"] for row in rows]


def test_what_is_published_is_there_when_the_block_ends_and_in_its_order(
    add: Any, connection: Connection
):
    with bulk() as batch:
        results = [add.delay(index) for index in range(20)]
        assert (len(batch), batch.written, ids(connection)) == (20, 0, [])
    assert ids(connection) == [result.id for result in results]
    assert (len(batch), batch.written) == (0, 20)


def test_the_rows_are_those_that_were_published_one_by_one(add: Any, connection: Connection):
    options: dict[str, Any] = {
        "countdown": 60, "expires": 600, "priority": 3, "queue": "mail", "headers": {"mine": [1]},
        "compression": "zlib", "group_id": "g", "group_index": 2, "root_id": "r", "parent_id": "p",
    }  # fmt: skip
    add.apply_async((1,), {"y": 2}, task_id="one", **options)
    with bulk():
        add.apply_async((1,), {"y": 2}, task_id="two", **options)
    one, two = get_rows(connection)
    for row in (one, two):
        for name in ("id", "seq", "inserted_at"):
            del row[name]
        moments = [row.pop(name).timestamp() for name in ("scheduled_at", "due_at", "expires_at")]
        row["in"] = [round(moment - moments[0]) for moment in moments]
        headers = json.loads(row.pop("message").replace(row.pop("task_id"), ""))["headers"]
        row["headers"] = {**headers, "eta": None, "expires": None}
    assert one == two


def test_nothing_is_there_if_the_block_raises(add: Any, connection: Connection):
    def fail() -> None:
        with bulk():
            add.delay(1)
            with bulk():
                add.delay(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert ids(connection) == []
    add.delay(3)
    assert len(ids(connection)) == 1


def test_a_block_of_more_than_its_size_is_written_on_the_way(add: Any, connection: Connection):
    with bulk(size=10) as batch:
        for index in range(25):
            add.delay(index)
        assert (len(ids(connection)), batch.written, len(batch)) == (20, 20, 5)
        batch.flush()
        assert len(ids(connection)) == 25
    for size in (0, -1, True, "10"):
        with pytest.raises(InvalidOption, match="whole number from 1"):
            bulk(size=size)  # type: ignore[arg-type]


def test_long_arguments_are_written_on_the_way(add: Any, connection: Connection):
    with bulk():
        for _ in range(5):
            add.delay("x" * (4 * 1024 * 1024))
        assert len(ids(connection)) == 4


def test_an_inner_block_is_written_with_the_outer_one(add: Any, connection: Connection):
    with bulk():
        first = add.delay(1)
        with bulk():
            second = add.delay(2)
        with pytest.raises(ZeroDivisionError), bulk():
            add.delay(3)
            raise ZeroDivisionError
        assert ids(connection) == []
        fourth = add.delay(4)
    assert ids(connection) == [first.id, second.id, fourth.id]


def test_a_block_can_be_entered_again_nested_in_itself_and_by_several_at_once(
    add: Any, connection: Connection
):
    block, both_are_in = bulk(), threading.Barrier(2)
    with block, block:
        first = add.delay(1)
    second = add.delay(2)
    assert ids(connection) == [first.id, second.id]

    def publish(count: int) -> None:
        with block as batch:
            add.delay(count)
            both_are_in.wait(10)
            assert len(batch) == 1
        add.delay(count)
        assert len(batch) == 0

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(publish, range(2)))
    assert len(ids(connection)) == 6


def test_every_way_to_publish_takes_part(app: Celery, add: Any, connection: Connection):
    total = app.tasks["total"]
    with bulk():
        sent = app.send_task("elsewhere", (1,))
        members = group(add.s(index) for index in range(3)).apply_async()
        chain(add.s(1), add.s(2)).apply_async()
        chord([add.s(1), add.s(2)])(total.s())
        assert ids(connection) == []
        assert connection.execute("SELECT FROM pgjobs.groups").fetchall() == []
    assert ids(connection)[:4] == [sent.id, *(each.id for each in members)]
    tasks = [row["task"] for row in get_rows(connection)]
    assert tasks == ["elsewhere", *["add"] * 6]
    (header,) = connection.execute("SELECT * FROM pgjobs.groups").fetchall()
    assert header["size"] == 2


def test_a_task_for_several_queues_is_a_message_in_its_place(
    broker: kombu.Connection, add: Any, connection: Connection
):
    both = Exchange("both", type="fanout")
    for name in ("a", "b"):
        Queue(name, both)(broker.default_channel).declare()
    with bulk():
        add.delay(1)
        broker.Producer(exchange=both).publish([[2], {}, {}], headers={"task": "add", "id": "two"})
        assert connection.execute("SELECT FROM pgjobs.messages").fetchall() == []
    assert len(ids(connection)) == 1
    assert len(connection.execute("SELECT FROM pgjobs.messages").fetchall()) == 2


def test_workers_are_told_once_for_each_queue(url: str, add: Any, mine: psycopg.Connection[Any]):
    with psycopg.connect(parse_url(url), autocommit=True) as listener:
        channel = work_channel("pgjobs")
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        with mine.transaction(), using(mine), bulk():
            for index in range(10):
                add.apply_async((index,), queue=f"q{index % 2}", countdown=60 * (index % 3))
        heard = sorted(each.payload for each in listener.notifies(timeout=0.2))
    assert heard == ["d", "jq0", "jq1"]


def test_the_callers_transaction_decides(
    add: Any, connection: Connection, mine: psycopg.Connection[Any]
):
    with pytest.raises(ZeroDivisionError), mine.transaction(), using(mine):
        with bulk():
            add.delay(1)
        raise ZeroDivisionError
    assert ids(connection) == []
    with mine.transaction(), using(mine), bulk():
        kept = add.delay(2)
    assert ids(connection) == [kept.id]


def test_what_is_published_in_another_transaction_or_savepoint_is_not_collected(
    add: Any, connection: Connection, mine: psycopg.Connection[Any]
):
    with bulk() as batch:
        add.delay(1)
        with mine.transaction(), using(mine):
            add.delay(2)
        assert (len(batch), len(ids(connection))) == (1, 1)
        with mine.transaction(), using(mine), bulk() as inner:
            add.delay(3)
            with pytest.raises(ZeroDivisionError), mine.transaction():
                add.delay(4)
                raise ZeroDivisionError
            assert len(inner) == 1
    assert sorted(json.loads(row["body"])[0] for row in get_rows(connection)) == [[1], [2], [3]]


def test_another_thread_does_not_take_part(add: Any, connection: Connection):
    with bulk():
        add.delay(1)
        thread = threading.Thread(target=add.delay, args=(2,))
        thread.start()
        thread.join()
        assert len(ids(connection)) == 1
    assert len(ids(connection)) == 2


def test_it_holds_in_asyncio_programs(add: Any, connection: Connection):
    async def publish() -> tuple[list[str], bool]:
        loop_runs = asyncio.Event()

        async def elsewhere() -> None:
            add.delay(7)
            loop_runs.set()

        async with bulk():
            results = [add.delay(1), await adelay(add, 2)]
            async with bulk():
                results.append(await adelay(add, 3))
            assert ids(connection) == []
            await asyncio.create_task(elsewhere())  # a task of its own takes no part
            assert len(ids(connection)) == 1
        with pytest.raises(ZeroDivisionError):
            async with bulk():
                add.delay(5)
                raise ZeroDivisionError
        return [result.id for result in results], loop_runs.is_set()

    published, has_run = asyncio.run(publish())
    assert has_run
    assert ids(connection)[1:] == published


@pytest.mark.parametrize("where", [0, 499, 999])
def test_a_job_that_cannot_be_stored_is_named_and_none_is_there(
    add: Any, connection: Connection, where: int
):
    def publish() -> None:
        with bulk():
            for index in range(1000):
                bad = {"group_id": "g", "group_index": 2**40} if index == where else {}
                add.apply_async((index,), task_id=f"job-{index}", **bad)

    with pytest.raises(MessageRefused, match=rf"add\[job-{where}\], number {where + 1} of 1000"):
        publish()
    assert ids(connection) == []


def test_it_is_named_in_the_callers_transaction_too(
    add: Any, connection: Connection, mine: psycopg.Connection[Any]
):
    with pytest.raises(MessageRefused, match=r"add\[bad\], number 2 of 2"):
        with mine.transaction(), using(mine), bulk():
            add.delay(1)
            add.apply_async(task_id="bad", args=(1,), group_id="g", group_index=2**40)
    assert ids(connection) == []


def test_what_cannot_be_collected_is_refused_at_once(add: Any, connection: Connection):
    with pytest.raises(MessageRefused, match="NUL"), bulk():
        add.delay(1)
        add.apply_async((2,), task_id="a\0b")
        pytest.fail("is not refused")
    with pytest.raises(MessageRefused, match="NUL"), bulk():
        add.apply_async((2,), headers={"pgjobs": {"meta": {"a": "\0"}}})
        pytest.fail("is not refused")
    assert ids(connection) == []


def test_a_flush_that_fails_on_the_way_loses_nothing(add: Any, connection: Connection):
    with bulk(size=3) as batch:
        kept = [add.delay(1), add.delay(2)]
        with pytest.raises(MessageRefused, match="number 3 of 3"):
            add.apply_async((3,), group_id="g", group_index=2**40)
        assert len(batch) == 2
    assert ids(connection) == [each.id for each in kept]


def test_a_connection_that_was_cut_is_replaced(add: Any, connection: Connection):
    add.delay(1)
    with bulk():
        add.delay(2)
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
        )
    assert len(ids(connection)) == 2


def test_what_was_written_without_an_answer_is_not_written_twice(
    url: str, make_app: Callable[..., Celery], connection: Connection
):
    with Proxy(url) as proxy:
        app = make_app()
        app.conf.update(broker_url=proxy.url)
        app.send_task("first")
        with bulk() as batch:
            sent = [app.send_task("tests.one", (index,)) for index in range(3)]
            proxy.cut_answer("COMMIT")
        assert proxy.cuts == 1
        assert batch.written == 3
        get_database(parse_url(proxy.url), app.connection().transport.options).close()
    assert ids(connection)[1:] == [each.id for each in sent]


def test_without_a_server_it_raises_what_delay_raises_and_can_be_flushed_later(
    url: str, make_app: Callable[..., Celery], connection: Connection, monkeypatch: Any
):
    with Proxy(url) as proxy:
        app = make_app()
        app.conf.update(broker_url=proxy.url)
        app.send_task("first")
        database = get_database(parse_url(proxy.url), app.connection().transport.options)
        with pytest.raises(OperationalError, match="cannot connect"), bulk() as batch:
            sent = app.send_task("tests.one")
            database.close()
            conninfo, database.conninfo = database.conninfo, "host=/nowhere dbname=nothing"
        assert len(batch) == 1
        database.conninfo = conninfo
        batch.flush()
        database.close()
    assert ids(connection)[1:] == [sent.id]


@pytest.mark.skipif(not hasattr(kombu.Producer, "batch"), reason="kombu before 5.7")
def test_kombus_own_batch_is_one(broker: kombu.Connection, connection: Connection):
    def publish(producer: kombu.Producer, index: int) -> None:
        headers = {"task": "tests.one", "id": f"id-{index}"}
        producer.publish([[index], {}, {}], routing_key="q", headers=headers, serializer="json")

    producer = broker.Producer()
    assert producer.supports_batch_publish
    with producer.batch(max_size=4) as batch:
        publish(producer, 1)
        producer.publish("no task", routing_key="q")
        assert ids(connection) == []
        batch.flush()
        assert len(ids(connection)) == 1
        for index in range(2, 8):
            publish(producer, index)
        assert len(ids(connection)) == 5
    with pytest.raises(ZeroDivisionError), producer.batch():
        publish(producer, 8)
        raise ZeroDivisionError
    with bulk():
        with producer.batch():
            publish(producer, 9)
        assert len(ids(connection)) == 7
    publish(producer, 10)
    assert ids(connection) == [f"id-{index}" for index in (*range(1, 8), 9, 10)]
